#![doc = include_str!("../README.md")]

mod dnssec;
pub mod mta_sts;
mod mx;
mod plan;
pub mod security;
mod table;
pub mod tls_rpt;
pub mod tlsa;
mod txt;

pub use dnssec::{ALIAS_LIMIT, Alias, AliasError, DnsState, Followed, follow};
pub use mx::{Candidate, HOST_LIMIT, Mx, MxAnswer, NoRoute, OwnNames, mx_candidates};
pub use plan::{ADDRESS_LIMIT, Address, AddressAnswer, Hop, LeftOut, Plan, addresses_in_order};
pub use table::{Pattern, PatternError, Table};
pub use txt::NoRecord;
