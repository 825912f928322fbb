//! A segment file: its ends and its table of contents.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{BadEnd, END, ENTRY, SegmentEnd, State, TocEntry, VERSION, segment_name};

/// A segment file before its records are read.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
    /// It was made ahead, and no record of it was ever synced.
    pub(crate) unused: bool,
    /// Either end, as far as it can be read.
    front: Option<SegmentEnd>,
    tail: Option<SegmentEnd>,
}

impl Segment {
    pub(crate) fn open(disk: &dyn Disk, id: u64) -> Result<Self, OpenError> {
        Self::of(id, disk.open(&segment_name(id))?)
    }

    pub(crate) fn of(id: u64, file: Arc<dyn DiskFile>) -> Result<Self, OpenError> {
        let size = file.size()?;
        let front = read_end(&*file, id, 0)?;
        let tail = match size.checked_sub(END as u64) {
            Some(offset) if offset > 0 => read_end(&*file, id, offset)?,
            _ => None,
        };
        let begun = |end: &SegmentEnd| end.state != State::Prepared;
        let ends = || front.iter().chain(&tail);
        let unused = ends().next().is_some() && !ends().any(begun);
        Ok(Self { id, file, size, unused, front: front.filter(begun), tail: tail.filter(begun) })
    }

    /// What either end says.
    pub(crate) fn end(&self) -> Option<SegmentEnd> {
        self.front.or(self.tail)
    }

    /// What the far end says of a segment that was sealed.
    pub(crate) fn sealed(&self) -> Option<SegmentEnd> {
        self.tail.filter(|tail| tail.toc().is_some())
    }

    /// The largest key that either end knows of.
    pub(crate) fn highest_key(&self) -> u64 {
        let ends = self.front.iter().chain(&self.tail);
        ends.map(|end| end.highest_key).max().unwrap_or(0)
    }

    /// The table of contents, if the segment was sealed and it can be read.
    pub(crate) fn toc(&self) -> io::Result<Option<Vec<TocEntry>>> {
        let Some(toc) = self.tail.and_then(|tail| tail.toc()) else { return Ok(None) };
        let len = toc.count as usize * ENTRY;
        if toc.offset.saturating_add(len as u64) > self.size {
            return Ok(None);
        }
        let mut table = vec![0; len];
        if self.file.read_at(toc.offset, &mut table)? < len || crc32fast::hash(&table) != toc.crc {
            return Ok(None);
        }
        let entries = table.chunks_exact(ENTRY);
        Ok(Some(
            entries.map(|e| TocEntry::decode(e.try_into().expect("chunks of ENTRY"))).collect(),
        ))
    }
}

/// The last number that counts of the first of these, by what the others say.
pub(crate) fn limit(segments: &[Segment]) -> Option<u64> {
    let later = segments.iter().skip(1).filter_map(Segment::end);
    later.map(|end| end.previous).min()
}

fn read_end(file: &dyn DiskFile, id: u64, offset: u64) -> Result<Option<SegmentEnd>, OpenError> {
    let mut bytes = [0; END];
    if file.read_at(offset, &mut bytes)? < END {
        return Ok(None);
    }
    match SegmentEnd::decode(&bytes) {
        Ok(end) if end.id == id => Ok(Some(end)),
        Ok(_) | Err(BadEnd::Damaged) => Ok(None),
        Err(BadEnd::Version(found)) => {
            Err(OpenError::Version { segment: id, found, supported: VERSION })
        }
    }
}
