#![doc = include_str!("../README.md")]

mod action;
mod batv;
mod classify;
mod encode;
mod mac;
mod mime;
mod received;
mod report;
mod srs;
mod status;
mod text;
mod verp;
mod wording;

pub use action::{Action, wanted};
pub use batv::{Batv, BatvError, BatvKey, BatvSignError};
pub use classify::{
    BounceClass, BounceClassError, ClassRules, Classifier, RuleError, RuleFault, Symptom,
};
pub use mac::Keyring;
pub use received::{
    DeliveryReport, FeedbackKind, FeedbackReport, ReadReportError, ReceivedReport, Returned,
};
pub use report::{About, OriginalMessage, Report, ReportedRecipient, told};
pub use srs::{Srs, SrsForwardError, SrsOptions, SrsReverseError, SrsSeparator};
pub use status::{DeliveryStatus, RecipientStatus, StatusPartError, Typed};
pub use verp::{Verp, VerpDelimiters, VerpError};
pub use wording::{Languages, Wording, WordingError, WordingFault};
