#![doc = include_str!("../README.md")]

mod alarm;
mod cli;
mod compose;
#[cfg(test)]
mod examples;
mod explain;
mod kind;
mod reload;
mod reports;
mod role;
mod routes;
mod rules;
mod serve;
mod sources;
mod suppression;
mod tables;
mod tls_reports;

pub use kind::Kind;
pub use role::Role;
