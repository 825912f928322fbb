#![doc = include_str!("../README.md")]

mod sts;

pub use sts::{StsError, StsSettings, StsSlot, StsStore};
