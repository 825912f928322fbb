//! What a journal's directory says after whatever happened to it.
//!
//! Nothing above the last sequence number that some later batch states as
//! synced was ever acknowledged for certain, so the first bad record above it is
//! the torn tail of a crash and ends the journal. A bad record at or below it is
//! damage: reported, set aside, and stepped over.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{
    BadEnd, ENTRY, HEADER, RecordHeader, SegmentEnd, TocEntry, VERSION, segment_id, segment_name,
};
use crate::log::write_toc;
use crate::record::{Entry, Position};

mod scan;

use scan::Scanner;

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Records that count.
    pub records: u64,
    /// The last sequence number that counts.
    pub last: u64,
    /// The segments that are kept, oldest first.
    pub segments: Vec<u64>,
    /// Places where acknowledged records cannot be read. An alarm is due for
    /// each: copies of what is there are in the directory, named `*.bad`.
    pub damage: Vec<Damage>,
    /// Where an unacknowledged write was cut short, if one was.
    pub torn: Option<Torn>,
}

/// A place where acknowledged records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Where in the segment the unreadable octets begin.
    pub offset: u64,
    /// How many octets cannot be read.
    pub len: u64,
    /// The first sequence number that is missing.
    pub first: u64,
    /// The last sequence number that is missing; below `first` if none is.
    pub last: u64,
    /// Kind and key of the record, where its header can still be read.
    pub about: Option<(u8, u64)>,
}

/// An unacknowledged write that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub segment: u64,
    /// Where the part that does not count begins.
    pub offset: u64,
}

/// What [`Log`](crate::Log) goes on from.
pub(crate) struct Found {
    pub(crate) salt: Option<u64>,
    pub(crate) files: BTreeMap<u64, Arc<dyn DiskFile>>,
    pub(crate) next_segment: u64,
    pub(crate) next: u64,
    pub(crate) report: Recovery,
}

/// A segment file before its records are read.
struct Segment {
    id: u64,
    file: Arc<dyn DiskFile>,
    size: u64,
    /// Either end, as far as it can be read.
    front: Option<SegmentEnd>,
    tail: Option<SegmentEnd>,
}

impl Segment {
    fn open(disk: &dyn Disk, id: u64) -> Result<Self, OpenError> {
        let file = disk.open(&segment_name(id))?;
        let size = file.size()?;
        let front = read_end(&*file, id, 0)?;
        let tail = match size.checked_sub(HEADER as u64) {
            Some(offset) if offset > 0 => read_end(&*file, id, offset)?,
            _ => None,
        };
        Ok(Self { id, file, size, front, tail })
    }

    fn end(&self) -> Option<SegmentEnd> {
        self.front.or(self.tail)
    }

    /// The table of contents, if the segment was sealed and it can be read.
    fn toc(&self) -> io::Result<Option<Vec<TocEntry>>> {
        let Some(toc) = self.tail.and_then(|tail| tail.toc) else { return Ok(None) };
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

fn read_end(file: &dyn DiskFile, id: u64, offset: u64) -> Result<Option<SegmentEnd>, OpenError> {
    let mut bytes = [0; HEADER];
    if file.read_at(offset, &mut bytes)? < HEADER {
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

/// Reads the whole directory, telling `replay` of each record that counts.
pub(crate) fn run(
    disk: &dyn Disk,
    from: u64,
    replay: &mut dyn FnMut(Entry),
) -> Result<Found, OpenError> {
    let mut ids: Vec<u64> = disk.list()?.iter().filter_map(|name| segment_id(name)).collect();
    ids.sort_unstable();
    let segments =
        ids.iter().map(|&id| Segment::open(disk, id)).collect::<Result<Vec<_>, OpenError>>()?;

    let salt = segments.iter().find_map(Segment::end).map(|end| end.salt);
    let mut pass = Pass {
        disk,
        salt: salt.unwrap_or(0),
        from,
        replay,
        group: Vec::new(),
        highest: 0,
        stated: 0,
        report: Recovery::default(),
    };
    let mut files = BTreeMap::new();
    for (index, segment) in segments.iter().enumerate() {
        // A later segment says how much of the older ones counts.
        let later = &segments[index + 1..];
        let limit = later.iter().filter_map(Segment::end).map(|end| end.previous).min();
        let outcome = pass.segment(segment, limit)?;
        if outcome == Outcome::Empty {
            disk.unlink(&segment_name(segment.id))?;
        } else {
            files.insert(segment.id, segment.file.clone());
        }
    }
    if !segments.is_empty() {
        disk.sync_dir()?;
    }
    let mut report = pass.report;
    report.segments = files.keys().copied().collect();
    Ok(Found {
        salt,
        files,
        next_segment: ids.last().map_or(1, |id| id + 1),
        next: pass.highest.max(report.last) + 1,
        report,
    })
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It holds records, or damage.
    Kept,
    /// It holds neither: it was being made when something ended the process.
    Empty,
}

/// One reading of all segments, oldest first.
struct Pass<'a> {
    disk: &'a dyn Disk,
    salt: u64,
    /// Records below this number are known already.
    from: u64,
    replay: &'a mut dyn FnMut(Entry),
    /// Records of a group whose last is yet to come.
    group: Vec<(TocEntry, Bytes)>,
    /// The highest sequence number seen, counted or not.
    highest: u64,
    /// The highest number any record states as synced.
    stated: u64,
    report: Recovery,
}

impl Pass<'_> {
    fn segment(&mut self, segment: &Segment, limit: Option<u64>) -> Result<Outcome, OpenError> {
        if let Some(end) = segment.end() {
            self.report.last = self.report.last.max(end.previous);
            self.highest = self.highest.max(end.first.saturating_sub(1));
        }
        let records = self.report.records;
        let damage = self.report.damage.len();
        match segment.toc()? {
            Some(entries) => self.sealed(segment, &entries, limit),
            None => self.unsealed(segment, limit)?,
        }
        let same = self.report.records == records && self.report.damage.len() == damage;
        let torn = self.report.torn.is_some_and(|torn| torn.segment == segment.id);
        Ok(if same && !torn { Outcome::Empty } else { Outcome::Kept })
    }

    /// Reads what the table of contents names, bodies left alone.
    fn sealed(&mut self, segment: &Segment, entries: &[TocEntry], limit: Option<u64>) {
        let limit = limit.unwrap_or(u64::MAX);
        let mut buf = Vec::new();
        for entry in entries {
            self.highest = self.highest.max(entry.seq);
            if entry.seq > limit {
                break;
            }
            if entry.seq < self.from {
                self.report.records += 1;
                self.report.last = self.report.last.max(entry.seq);
                continue;
            }
            let len = HEADER + entry.meta_len as usize;
            buf.resize(len, 0);
            // A sector that cannot be read is damage like any other.
            let whole = segment.file.read_at(entry.offset, &mut buf).is_ok_and(|n| n == len);
            let header = RecordHeader::decode(&buf, self.salt, segment.id).filter(|header| {
                whole
                    && TocEntry::new(entry.offset, header) == *entry
                    && crc32fast::hash(&buf[HEADER..]) == header.meta_crc
            });
            if header.is_some() {
                self.take(segment.id, *entry, Bytes::copy_from_slice(&buf[HEADER..]));
            } else {
                let payload = u64::from(entry.meta_len) + u64::from(entry.body_len);
                self.damaged(
                    segment,
                    Damage {
                        segment: segment.id,
                        offset: entry.offset,
                        len: crate::format::span(payload),
                        first: entry.seq,
                        last: entry.seq,
                        about: Some((entry.kind, entry.key)),
                    },
                );
            }
        }
        self.group.clear();
    }

    /// Reads every record from the front and makes the segment like a sealed one.
    fn unsealed(&mut self, segment: &Segment, limit: Option<u64>) -> Result<(), OpenError> {
        let damage = self.report.damage.len();
        let mut entries = Vec::new();
        let stop = self.scan(segment, limit, &mut entries)?;
        let torn = self.report.torn.is_some_and(|torn| torn.segment == segment.id);
        // Records that no later one states as synced may have gone through a failed sync of
        // an earlier process: then the system's cache shows what the disk does not have, and
        // calls it clean. Writing it once more makes the next sync mean it.
        if limit.is_none()
            && let Some(entry) = entries.iter().find(|entry| entry.seq > self.stated)
        {
            copy_range(&*segment.file, entry.offset, &*segment.file, entry.offset, stop)?;
        }
        match segment.end() {
            Some(end) if !entries.is_empty() && !torn && self.report.damage.len() == damage => {
                write_toc(&*segment.file, end, stop, segment.size, &entries)?;
            }
            // What was read may be in the cache only, and is relied on from here.
            _ => segment.file.sync_data()?,
        }
        Ok(())
    }

    /// Walks the records that count into `entries`; answers where they end.
    fn scan(
        &mut self,
        segment: &Segment,
        limit: Option<u64>,
        entries: &mut Vec<TocEntry>,
    ) -> Result<u64, OpenError> {
        let mut scanner = Scanner::new(segment.file.clone(), self.salt, segment.id, segment.size);
        let mut offset = HEADER as u64;
        let mut expected = segment.end().map_or(self.report.last + 1, |end| end.first);
        while limit.is_none_or(|limit| expected <= limit) {
            let header = scanner.header(offset).filter(|header| header.seq >= expected);
            if let Some(header) = header {
                self.highest = self.highest.max(header.seq);
                self.stated = self.stated.max(header.synced);
                if header.seq == expected
                    && let Some(meta) = scanner.payload(offset, &header)
                {
                    let entry = TocEntry::new(offset, &header);
                    entries.push(entry);
                    self.take(segment.id, entry, meta);
                    offset += header.span();
                    expected += 1;
                    continue;
                }
            }
            // A hole: where does it end, and did anybody rely on what was in it?
            let resume = match header {
                Some(header) if header.seq > expected => Some((offset, header.seq)),
                Some(header) => Some((offset + header.span(), header.seq + 1)),
                None => scanner.next_header(offset, expected),
            };
            let stated = limit.unwrap_or_else(|| scanner.stated(offset));
            if expected > stated {
                if resume.is_some() || !scanner.is_blank(offset) {
                    self.report.torn = Some(Torn { segment: segment.id, offset });
                }
                break;
            }
            let (next, seq) = resume.unwrap_or((segment.size, stated + 1));
            self.damaged(
                segment,
                Damage {
                    segment: segment.id,
                    offset,
                    len: next - offset,
                    first: expected,
                    last: (seq - 1).min(stated),
                    about: header.filter(|h| h.seq == expected).map(|h| (h.kind, h.key)),
                },
            );
            (offset, expected) = (next, seq);
        }
        self.highest = self.highest.max(scanner.highest());
        if let Some((first, _)) = self.group.first() {
            // A group of which the end is missing never was in effect.
            offset = first.offset;
            entries.retain(|entry| entry.offset < offset);
            self.report.torn = Some(Torn { segment: segment.id, offset });
            self.group.clear();
        }
        Ok(offset)
    }

    /// Takes a record that counts, once its group is whole.
    fn take(&mut self, segment: u64, entry: TocEntry, meta: Bytes) {
        self.group.push((entry, meta));
        if entry.left == 0 {
            self.flush(segment);
        }
    }

    fn flush(&mut self, segment: u64) {
        for (entry, meta) in self.group.drain(..) {
            self.report.records += 1;
            self.report.last = self.report.last.max(entry.seq);
            (self.replay)(Entry {
                seq: entry.seq,
                kind: entry.kind,
                key: entry.key,
                meta,
                position: Position {
                    segment,
                    offset: entry.offset,
                    meta_len: entry.meta_len,
                    body_len: entry.body_len,
                },
            });
        }
    }

    /// Notes a place that was relied on and cannot be read, and keeps a copy.
    fn damaged(&mut self, segment: &Segment, damage: Damage) {
        // The rest of a group that was acknowledged is better than none of it.
        self.flush(segment.id);
        tracing::error!(
            segment = damage.segment,
            offset = damage.offset,
            octets = damage.len,
            first = damage.first,
            last = damage.last,
            "the journal is damaged: acknowledged records cannot be read"
        );
        if let Err(error) = set_aside(self.disk, segment, &damage) {
            tracing::warn!(%error, "the damaged part of the journal could not be set aside");
        }
        self.report.last = self.report.last.max(damage.last);
        self.report.damage.push(damage);
    }
}

/// Copies a damaged range to a file of its own, once.
fn set_aside(disk: &dyn Disk, segment: &Segment, damage: &Damage) -> io::Result<()> {
    let name = format!("{:016x}-{:x}.bad", damage.segment, damage.offset);
    let copy = match disk.create(&name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    };
    copy_range(&*segment.file, damage.offset, &*copy, 0, damage.offset + damage.len)?;
    copy.sync_data()
}

/// Copies what is between `at` and `end` in one file to `to_at` in another, or the same.
fn copy_range(
    from: &dyn DiskFile,
    mut at: u64,
    to: &dyn DiskFile,
    mut to_at: u64,
    end: u64,
) -> io::Result<()> {
    let mut buf = vec![0; (end - at).min(256 << 10) as usize];
    while at < end {
        let want = (end - at).min(buf.len() as u64) as usize;
        let got = from.read_at(at, &mut buf[..want])?;
        if got == 0 {
            break;
        }
        to.write_at(to_at, &[io::IoSlice::new(&buf[..got])])?;
        at += got as u64;
        to_at += got as u64;
    }
    Ok(())
}
