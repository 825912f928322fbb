//! Reading a segment that has no usable table of contents.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;

use crate::disk::DiskFile;
use crate::format::{ALIGN, END, HEADER, RecordHeader};

/// Octets read at once.
const WINDOW: usize = 256 << 10;
/// Octets given up at once where the disk cannot read.
const SECTOR: u64 = 512;

/// A window that slides over one segment.
pub(super) struct Scanner {
    file: Arc<dyn DiskFile>,
    salt: u64,
    segment: u64,
    /// Where records end at the latest: the far end is no record.
    end: u64,
    window: Vec<u8>,
    base: u64,
    /// Sectors the disk could not read.
    unreadable: Vec<u64>,
    /// The highest number any header after the first hole states as synced.
    stated: Option<u64>,
    highest: u64,
}

impl Scanner {
    pub(super) fn new(file: Arc<dyn DiskFile>, salt: u64, segment: u64, size: u64) -> Self {
        let end = size.saturating_sub(END as u64);
        let window = Vec::new();
        let unreadable = Vec::new();
        Self { file, salt, segment, end, window, base: 0, unreadable, stated: None, highest: 0 }
    }

    /// The record header at `offset`, if one is there and its record fits.
    pub(super) fn header(&mut self, offset: u64) -> Option<RecordHeader> {
        let (salt, segment, end) = (self.salt, self.segment, self.end);
        let bytes = self.bytes(offset, HEADER)?;
        let header = RecordHeader::decode(bytes, salt, segment)?;
        (offset + header.span() <= end).then_some(header)
    }

    /// The meta part of the record at `offset`, if all of the record is whole.
    pub(super) fn payload(&mut self, offset: u64, header: &RecordHeader) -> Option<Bytes> {
        let meta_at = offset + HEADER as u64;
        let body_at = meta_at + u64::from(header.meta_len);
        let mut meta = BytesMut::new();
        let meta_crc = self.sum(meta_at, header.meta_len, |part| meta.extend_from_slice(part))?;
        let body_crc = self.sum(body_at, header.body_len, |_| ())?;
        ((meta_crc, body_crc) == (header.meta_crc, header.body_crc)).then(|| meta.freeze())
    }

    /// Where the next header with a number from `expected` on is, and its number.
    pub(super) fn next_header(&mut self, offset: u64, expected: u64) -> Option<(u64, u64)> {
        let mut at = offset + ALIGN;
        while at + HEADER as u64 <= self.end {
            if let Some(header) = self.header(at).filter(|header| header.seq >= expected) {
                return Some((at, header.seq));
            }
            at += ALIGN;
        }
        None
    }

    /// The highest number that a header after `offset`, the first hole, states as synced.
    pub(super) fn stated(&mut self, offset: u64) -> u64 {
        if let Some(stated) = self.stated {
            return stated;
        }
        let mut stated = 0;
        let mut at = offset;
        while at + HEADER as u64 <= self.end {
            if let Some(header) = self.header(at) {
                stated = stated.max(header.synced);
                self.highest = self.highest.max(header.seq);
            }
            at += ALIGN;
        }
        self.stated = Some(stated);
        stated
    }

    /// The highest sequence number seen behind a hole.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether the disk could not read all of this.
    pub(super) fn is_unreadable(&self, offset: u64, len: u64) -> bool {
        let sectors = offset / SECTOR..(offset + len).div_ceil(SECTOR);
        self.unreadable.iter().any(|sector| sectors.contains(sector))
    }

    /// The checksum of a range, shown to `each` piece by piece.
    fn sum(&mut self, mut at: u64, len: u32, mut each: impl FnMut(&[u8])) -> Option<u32> {
        let mut hasher = Hasher::new();
        let mut left = len as usize;
        while left > 0 {
            let part = self.bytes(at, left.min(WINDOW / 4))?;
            hasher.update(part);
            each(part);
            at += part.len() as u64;
            left -= part.len();
        }
        Some(hasher.finalize())
    }

    /// `len` octets at `offset`, unless the segment ends before.
    fn bytes(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        if offset + len as u64 > self.end {
            return None;
        }
        let inside =
            offset >= self.base && offset + len as u64 <= self.base + self.window.len() as u64;
        if !inside {
            self.fill(offset);
        }
        let from = (offset - self.base) as usize;
        self.window.get(from..from + len)
    }

    /// Moves the window; what the disk cannot read looks like zeros.
    fn fill(&mut self, offset: u64) {
        let len = WINDOW.min((self.end - offset) as usize);
        self.base = offset;
        self.window.clear();
        self.window.resize(len, 0);
        if self.file.read_at(offset, &mut self.window).is_ok() {
            return;
        }
        let (mut at, end) = (offset, offset + len as u64);
        while at < end {
            let next = (at / SECTOR + 1) * SECTOR;
            let piece = (at - offset) as usize..(next.min(end) - offset) as usize;
            if self.file.read_at(at, &mut self.window[piece.clone()]).is_err() {
                self.window[piece].fill(0);
                self.unreadable.push(at / SECTOR);
            }
            at = next;
        }
    }
}
