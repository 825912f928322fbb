//! The durable spool: parcels, leases and recovery on the journal, with a sled index.
//!
#![doc = include_str!("../README.md")]

mod body;
mod codec;
mod core;
mod envelope;
mod fact;
mod index;
mod load;
mod maintain;
pub mod offline;
mod open;
mod operate;
mod repeats;
mod spool;
mod state;
#[cfg(test)]
mod tests;
mod whole;
mod write;

pub use open::{OpenError, Options, Report};
pub use spool::DiskSpool;
