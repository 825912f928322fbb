#![doc = include_str!("../README.md")]

pub mod authority;
pub mod crash;
pub mod disk;
pub mod dns;
pub mod mail_client;
pub mod road;
pub mod script;
pub mod spool_contract;
