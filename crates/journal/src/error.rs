//! Why something could not be done, split by what the caller does next.

use std::io;
use std::sync::Arc;

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process writes to this directory.
    #[error("another process uses this directory")]
    Locked,
    /// A later version of this software wrote this journal.
    #[error("segment {segment:x} has format version {found}, only {supported} is understood")]
    Version {
        /// The segment that says so.
        segment: u64,
        /// Its version.
        found: u16,
        /// The one this code reads.
        supported: u16,
    },
    /// The disk refused.
    #[error("the journal's directory cannot be used")]
    Io(#[from] io::Error),
}

/// Why an append is not durable. None of its records is in effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no room for another segment; later there may be.
    #[error("no space for another segment")]
    Full,
    /// The group is bigger than any segment may be; it never fits.
    #[error("a group of {size} octets exceeds the limit of {limit}")]
    TooLarge {
        /// What it takes.
        size: u64,
        /// What is allowed, [`Options::max_group`](crate::Options::max_group).
        limit: u64,
    },
    /// The disk failed; whether a later append works is not known.
    #[error("the journal's disk failed")]
    Failed(#[source] Arc<io::Error>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failed(Arc::new(error)),
        }
    }
}

/// Why a record could not be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The segment was removed.
    #[error("segment {segment:x} is gone")]
    Gone {
        /// The segment asked for.
        segment: u64,
    },
    /// What is there is not the record that was written.
    #[error("the record at {segment:x}:{offset:x} is damaged")]
    Damaged {
        /// The segment it is in.
        segment: u64,
        /// Where its header begins.
        offset: u64,
    },
    /// The disk refused.
    #[error("the segment cannot be read")]
    Io(#[from] io::Error),
}
