#![doc = include_str!("../README.md")]

mod action;
mod report;
mod text;

pub use action::{Action, wanted};
pub use report::{About, OriginalMessage, Report, ReportedRecipient};
