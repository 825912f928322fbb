//! What is appended and what is read back.

use bytes::Bytes;
use crc32fast::Hasher;

use crate::format::{TocEntry, span};

/// One record: opaque to the journal but for its sizes.
///
/// `meta` is what a rebuild needs and should be small; `body` is only read on
/// demand. Parts of the body are written one after another without a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// What sort of record it is, in the caller's terms.
    pub kind: u8,
    /// What the record is about, in the caller's terms; told even where only
    /// the header of a damaged record is left.
    pub key: u64,
    /// Read by every recovery; at most [`u32::MAX`] octets.
    pub meta: Bytes,
    /// Read on demand; at most [`u32::MAX`] octets together.
    pub body: Vec<Bytes>,
}

/// Records that are all there after a crash, or none of them.
///
/// The checksums of the contents are computed here, in the caller's thread, so
/// that the one committer need not.
#[derive(Debug)]
pub struct Group {
    pub(crate) records: Vec<Summed>,
    /// Octets the records take on disk, headers and padding included.
    pub(crate) span: u64,
}

/// A record with its sizes and checksums.
#[derive(Debug)]
pub(crate) struct Summed {
    pub(crate) record: Record,
    pub(crate) meta_crc: u32,
    pub(crate) body_crc: u32,
    pub(crate) body_len: u64,
}

impl Group {
    /// Takes records to be written as one.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        let records: Vec<Summed> = records.into_iter().map(Summed::new).collect();
        let span = records.iter().map(Summed::span).sum();
        Self { records, span }
    }

    /// Octets the records take on disk, headers and padding included.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.span
    }
}

impl From<Record> for Group {
    fn from(record: Record) -> Self {
        Self::new(vec![record])
    }
}

impl Summed {
    fn new(record: Record) -> Self {
        let mut hasher = Hasher::new();
        for part in &record.body {
            hasher.update(part);
        }
        let body_len = record.body.iter().map(|part| part.len() as u64).sum();
        let meta_crc = crc32fast::hash(&record.meta);
        Self { meta_crc, body_crc: hasher.finalize(), body_len, record }
    }

    fn span(&self) -> u64 {
        span(self.record.meta.len() as u64 + self.body_len)
    }
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment it is in.
    pub segment: u64,
    /// Where in the segment its header begins, in octets.
    pub offset: u64,
    /// Octets of its meta part.
    pub meta_len: u32,
    /// Octets of its body.
    pub body_len: u32,
}

impl Position {
    pub(crate) fn new(segment: u64, entry: &TocEntry) -> Self {
        let TocEntry { offset, meta_len, body_len, .. } = *entry;
        Self { segment, offset, meta_len, body_len }
    }
}

/// A line of a segment's table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The record's sequence number.
    pub seq: u64,
    /// The caller's kind.
    pub kind: u8,
    /// The caller's key.
    pub key: u64,
    /// Where to read the rest.
    pub position: Position,
}

/// A record as recovery finds it, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence number; rises by one from record to record but for voids.
    pub seq: u64,
    /// The caller's kind.
    pub kind: u8,
    /// The caller's key.
    pub key: u64,
    /// The caller's meta part.
    pub meta: Bytes,
    /// Where to read the body.
    pub position: Position,
}

/// The answer to an append: where each record of the group went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The sequence number of the group's last record.
    pub last: u64,
    /// One for each record, in order.
    pub positions: Vec<Position>,
}
