#![doc = include_str!("../README.md")]

mod config;
mod header;
mod line_ending;
mod local;
pub mod maildir;
pub mod mbox;
pub mod pipe;
pub mod post;
mod report;
pub mod routes;
pub mod runner;
mod said;
pub mod smtp;
mod trace;
mod transports;

pub use report::Reporting;
pub use runner::{Routing, Runner, RunnerParts};
pub use transports::{
    Destination, Discard, Surroundings, TransportTable, Transports, by_mx, sent_from, stock,
};
