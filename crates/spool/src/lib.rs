//! The durable spool: parcels, leases and recovery on the journal, with a sled index.
//!
#![doc = include_str!("../README.md")]

mod body;
mod codec;
mod core;
mod envelope;
mod fact;
mod index;
mod maintain;
mod open;
mod operate;
mod spool;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub use open::{OpenError, Options, Report};
pub use spool::DiskSpool;
