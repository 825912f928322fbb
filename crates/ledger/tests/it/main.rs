//! The ledger as its users see it, and what a power cut leaves of it.

mod crash;
mod limits;
