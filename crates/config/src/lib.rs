#![doc = include_str!("../README.md")]

mod file;
mod report;
mod role;
pub mod sections;

pub use merpati_plugin::options::parse_duration;

pub use file::{ConfigFile, OpenError};
pub use report::Report;
pub use role::RoleConfig;
