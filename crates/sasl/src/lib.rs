#![doc = include_str!("../README.md")]

pub mod client;
mod mechanism;
pub mod server;

pub use mechanism::{Mechanism, UnknownMechanism};
