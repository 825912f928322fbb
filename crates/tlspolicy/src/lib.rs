#![doc = include_str!("../README.md")]

mod rpt;
mod sts;

pub use rpt::{ReportSettings, Reporter, Results, ResultsError, ResultsSlot};
pub use sts::{StsError, StsSettings, StsSlot, StsStore};
