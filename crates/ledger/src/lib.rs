//! A small durable map of facts that must not be lost, on a journal.
//!
#![doc = include_str!("../README.md")]

mod change;
mod ledger;

pub use change::Change;
pub use ledger::{Ledger, LedgerError, Limits};

/// The longest key, in octets.
pub const MAX_KEY: usize = 1024;

/// The longest value, in octets: what is bigger belongs elsewhere.
pub const MAX_VALUE: usize = 256 << 10;
