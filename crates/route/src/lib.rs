#![doc = include_str!("../README.md")]

pub mod mta_sts;
mod mx;
mod plan;
mod table;
mod txt;

pub use mx::{Candidate, HOST_LIMIT, Mx, MxAnswer, NoRoute, OwnNames, mx_candidates};
pub use plan::{ADDRESS_LIMIT, Address, AddressAnswer, Hop, Plan, addresses_in_order};
pub use table::{Pattern, PatternError, Table};
pub use txt::NoRecord;
