#![doc = include_str!("../README.md")]

mod addresses;
pub mod batv;
mod config;
pub mod fixups;
pub mod hold;
pub mod loops;
pub mod quota;
pub mod recipients;
pub mod returned;
pub mod sender;
pub mod srs;
mod stock;
pub mod suppress;
pub mod suppression;
mod tell;
pub mod trusted;
pub mod verp;

#[cfg(test)]
mod fixture;

pub use stock::{Environment, Reload, STOCK, STOCK_OUTBOUND, Stock, find_outbound};
pub use tell::Tell;
