#![doc = include_str!("../README.md")]

mod config;
pub mod fixups;
pub mod hold;
pub mod loops;
pub mod quota;
pub mod recipients;
pub mod sender;
mod stock;
pub mod suppress;
pub mod suppression;
pub mod trusted;

#[cfg(test)]
mod fixture;

pub use stock::{Environment, Reload, STOCK, STOCK_OUTBOUND, Stock, find_outbound};
