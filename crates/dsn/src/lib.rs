#![doc = include_str!("../README.md")]

mod action;
mod encode;
mod report;
mod status;
mod text;
mod wording;

pub use action::{Action, wanted};
pub use report::{About, OriginalMessage, Report, ReportedRecipient};
pub use status::{DeliveryStatus, RecipientStatus, StatusPartError, Typed};
pub use wording::{News, Wording};
