#![doc = include_str!("../README.md")]

mod domain;
mod envelope;
mod header;
mod header_edit;
mod mailbox;
mod message_id;
mod path;
mod reply;
mod secret;
mod status;
mod timestamp;
pub mod xtext;

pub use domain::{Domain, DomainError};
pub use envelope::{
    BodyType, ByMode, Envelope, Envid, Notify, NotifyOn, Orcpt, ParameterError, Recipient, Ret,
    Submitter,
};
pub use header::{HeaderError, HeaderField, HeaderSection};
pub use header_edit::{EditError, FieldName, FieldValue, HeaderEdit, HeaderEdits};
pub use mailbox::{Host, LocalPart, Mailbox, MailboxError};
pub use message_id::{MessageId, MessageIdError};
pub use path::{ForwardPath, PathError, ReversePath};
pub use reply::{RejectCode, Rejection, Reply, ReplyCode};
pub use secret::Secret;
pub use status::{Class, EnhancedStatus, Severity, Status, StatusError};
pub use timestamp::{Timestamp, TimestampError};
