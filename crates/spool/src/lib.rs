//! The durable spool: parcels, leases and recovery on the journal, with a sled index.
