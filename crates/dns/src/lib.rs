#![doc = include_str!("../README.md")]

mod answer;
mod config;
mod probe;
mod proof;
mod resolver;
mod silences;

pub use config::{DnsConfig, Validation};
pub use probe::DnssecState;
pub use resolver::{DnsError, HickoryResolver};

#[cfg(test)]
mod tests;
