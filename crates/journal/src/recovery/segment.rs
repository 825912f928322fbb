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
    /// Why neither end can be read.
    pub(crate) error: Option<io::Error>,
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
        let (front, front_error) = read_end(&*file, id, 0)?;
        let (tail, tail_error) = match size.checked_sub(END as u64) {
            Some(offset) if offset > 0 => read_end(&*file, id, offset)?,
            _ => (None, None),
        };
        let begun = |end: &SegmentEnd| end.state != State::Prepared;
        let ends = || front.iter().chain(&tail);
        let unused = ends().next().is_some() && !ends().any(begun);
        let error = front_error.and_then(|error| tail_error.map(|_| error));
        let (front, tail) = (front.filter(begun), tail.filter(begun));
        Ok(Self { id, file, size, unused, error, front, tail })
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
    pub(crate) fn toc(&self) -> Option<Vec<TocEntry>> {
        let toc = self.tail.and_then(|tail| tail.toc())?;
        let len = toc.count as usize * ENTRY;
        if toc.offset.saturating_add(len as u64) > self.size {
            return None;
        }
        let mut table = vec![0; len];
        // Where the disk cannot read it, the records themselves tell as much.
        let read = self.file.read_at(toc.offset, &mut table).is_ok_and(|read| read == len);
        if !read || crc32fast::hash(&table) != toc.crc {
            return None;
        }
        let entries = table.chunks_exact(ENTRY);
        Some(entries.map(|e| TocEntry::decode(e.try_into().expect("chunks of ENTRY"))).collect())
    }
}

/// The last number that counts of the first of these, by what the others say.
pub(crate) fn limit(segments: &[Segment]) -> Option<u64> {
    let later = segments.iter().skip(1).filter_map(Segment::end);
    later.map(|end| end.previous).min()
}

/// One end of segment `id`, if it can be read, or why the disk cannot read it.
fn read_end(
    file: &dyn DiskFile,
    id: u64,
    offset: u64,
) -> Result<(Option<SegmentEnd>, Option<io::Error>), OpenError> {
    let mut bytes = [0; END];
    match file.read_at(offset, &mut bytes) {
        Ok(END) => {}
        Ok(_) => return Ok((None, None)),
        Err(error) => return Ok((None, Some(error))),
    }
    match SegmentEnd::decode(&bytes) {
        Ok(end) if end.id == id => Ok((Some(end), None)),
        Ok(_) | Err(BadEnd::Damaged) => Ok((None, None)),
        Err(BadEnd::Version(found)) => {
            Err(OpenError::Version { segment: id, found, supported: VERSION })
        }
    }
}
