//! Large reads in place of many small ones that lie close together.

use crate::disk::DiskFile;
use crate::format::{HEADER, TocEntry};

/// Octets read at once, where what is wanted lies close together.
const WINDOW: u64 = 1 << 20;
/// Octets nobody wants that are read all the same: as quick as one more call.
const GAP: u64 = 16 << 10;

/// Headers and meta parts of a segment, read in the order of its table.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    base: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, bytes: Vec::new(), base: 0 }
    }

    /// Header and meta part of the first of `entries`; the others are what comes next.
    ///
    /// None where the disk cannot read, or the file ends.
    pub(super) fn record(&mut self, entries: &[TocEntry]) -> Option<&[u8]> {
        let wanted = entries.first()?;
        if self.inside(wanted).is_none() && !self.fill(wanted.offset, reach(entries)) {
            // One sector that cannot be read must not hide what is beside it.
            self.fill(wanted.offset, end_of(wanted));
        }
        self.inside(wanted).map(|from| &self.bytes[from..from + len_of(wanted)])
    }

    fn inside(&self, entry: &TocEntry) -> Option<usize> {
        let from = entry.offset.checked_sub(self.base)? as usize;
        (from + len_of(entry) <= self.bytes.len()).then_some(from)
    }

    /// Whether the disk could read it.
    fn fill(&mut self, from: u64, to: u64) -> bool {
        self.base = from;
        self.bytes.resize((to - from) as usize, 0);
        let read = self.file.read_at(from, &mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.is_ok()
    }
}

/// How far to read in one go.
fn reach(entries: &[TocEntry]) -> u64 {
    let start = entries[0].offset;
    let mut end = end_of(&entries[0]);
    for next in &entries[1..] {
        let close = next.offset >= end && next.offset - end <= GAP;
        if !close || end_of(next) - start > WINDOW {
            break;
        }
        end = end_of(next);
    }
    end
}

fn len_of(entry: &TocEntry) -> usize {
    HEADER + entry.meta_len as usize
}

fn end_of(entry: &TocEntry) -> u64 {
    entry.offset + len_of(entry) as u64
}
