#![doc = include_str!("../README.md")]

mod answer;
mod config;
mod resolver;

pub use config::DnsConfig;
pub use resolver::{DnsError, HickoryResolver};

#[cfg(test)]
mod tests;
