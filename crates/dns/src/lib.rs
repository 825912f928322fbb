#![doc = include_str!("../README.md")]

mod answer;
mod resolver;

pub use resolver::{DnsConfig, DnsError, HickoryResolver};

#[cfg(test)]
mod tests;
