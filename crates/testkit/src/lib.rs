//! Script runner, simulated disk, fixture DNS server, faulty spool, contract suites.

pub mod disk;
pub mod dns;
pub mod mail_client;
pub mod road;
pub mod script;
pub mod spool_contract;
