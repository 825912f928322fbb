//! A durable framed append log with group commit over a disk trait.
//!
#![doc = include_str!("../README.md")]

mod committer;
mod disk;
mod error;
mod format;
mod log;
mod reader;
mod record;
mod recovery;
mod spare;
mod ticket;

pub use committer::{Counts, Durability, Journal};
pub use disk::{Disk, DiskFile, OsDisk, Room};
pub use error::{AppendError, OpenError, ReadError};
pub use log::{Log, Options};
pub use reader::Reader;
pub use record::{Appended, Content, Entry, Group, Position, Record};
pub use recovery::{Damage, Recovery, Torn};
pub use spare::{Preparation, Prepared};
pub use ticket::Ticket;
