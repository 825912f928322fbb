#![doc = include_str!("../README.md")]

pub mod fixups;
pub mod loops;
pub mod recipients;
pub mod sender;
mod stock;
pub mod trusted;

#[cfg(test)]
mod fixture;

pub use stock::Environment;
