//! One reading of segments, oldest first, that changes none of them.

use std::io;

use bytes::Bytes;

use super::scan::Scanner;
use super::segment::Segment;
use super::window::Window;
use super::{Damage, Recovery, Torn};
use crate::disk::{Disk, DiskFile};
use crate::format::{END, HEADER, RecordHeader, TocEntry};
use crate::record::{Entry, Position};

/// What is told, and what was found so far.
pub(crate) struct Pass<'a> {
    disk: &'a dyn Disk,
    salt: u64,
    /// The numbers of the records to tell of.
    from: u64,
    to: u64,
    replay: &'a mut dyn FnMut(Entry),
    /// Whether a segment was removed meanwhile, which is no damage to it.
    gone: &'a dyn Fn(u64) -> bool,
    /// Records of a group whose last is yet to come.
    group: Vec<(TocEntry, Bytes)>,
    /// The highest sequence number seen, counted or not.
    pub(super) highest: u64,
    /// The highest number any record states as synced.
    pub(super) stated: u64,
    pub(crate) report: Recovery,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        salt: u64,
        (from, to): (u64, u64),
        replay: &'a mut dyn FnMut(Entry),
        gone: &'a dyn Fn(u64) -> bool,
    ) -> Self {
        let report = Recovery::default();
        Self {
            disk,
            salt,
            from,
            to,
            replay,
            gone,
            group: Vec::new(),
            highest: 0,
            stated: 0,
            report,
        }
    }

    /// Reads what counts of a segment, up to the number `limit`.
    ///
    /// The answer is what it holds and where that ends, if it had to be read from the front.
    pub(crate) fn segment(
        &mut self,
        segment: &Segment,
        limit: Option<u64>,
    ) -> Option<(Vec<TocEntry>, u64)> {
        if let Some(end) = segment.end() {
            self.report.last = self.report.last.max(end.previous);
            self.highest = self.highest.max(end.first.saturating_sub(1));
        }
        self.key(segment.highest_key());
        if self.skip(segment, limit) {
            return None;
        }
        if let Some(entries) = segment.toc() {
            self.sealed(segment, &entries, limit.unwrap_or(u64::MAX));
            return None;
        }
        // A sealed segment's records are synced, and the last of them is known.
        let sealed = segment.sealed().and_then(|end| end.last());
        let mut entries = Vec::new();
        let end = self.scan(segment, limit.or(sealed), &mut entries);
        Some((entries, end))
    }

    /// Whether all of a sealed segment counts and none of it is to be told.
    fn skip(&mut self, segment: &Segment, limit: Option<u64>) -> bool {
        let Some(end) = segment.sealed() else { return false };
        let Some(last) = end.last().filter(|&last| limit.is_none_or(|limit| last <= limit)) else {
            return false;
        };
        if last >= self.from && end.first <= self.to {
            return false;
        }
        self.report.records += (last + 1).saturating_sub(end.first);
        self.report.last = self.report.last.max(last);
        self.highest = self.highest.max(last);
        true
    }

    /// Reads what the table of contents names, bodies left alone.
    fn sealed(&mut self, segment: &Segment, entries: &[TocEntry], limit: u64) {
        let mut window = Window::new(&*segment.file);
        for (index, entry) in entries.iter().enumerate() {
            self.highest = self.highest.max(entry.seq);
            self.key(entry.key);
            if entry.seq > limit {
                break;
            }
            // The end of a group decides over its beginning.
            if entry.seq < self.from || (entry.seq > self.to && self.group.is_empty()) {
                self.report.records += 1;
                self.report.last = self.report.last.max(entry.seq);
                continue;
            }
            let meta = window.record(&entries[index..]).and_then(|bytes| {
                let header = RecordHeader::decode(bytes, self.salt, segment.id)?;
                let meta = &bytes[HEADER..];
                let whole = TocEntry::new(entry.offset, &header) == *entry
                    && crc32fast::hash(meta) == header.meta_crc;
                whole.then(|| Bytes::copy_from_slice(meta))
            });
            if let Some(meta) = meta {
                self.take(segment.id, *entry, meta);
            } else {
                self.damaged(
                    segment,
                    Damage {
                        segment: segment.id,
                        offset: entry.offset,
                        len: entry.span(),
                        first: entry.seq,
                        last: entry.seq,
                        about: Some((entry.kind, entry.key)),
                    },
                );
            }
        }
        self.group.clear();
    }

    /// Walks the records that count into `entries`; answers where they end.
    fn scan(&mut self, segment: &Segment, limit: Option<u64>, entries: &mut Vec<TocEntry>) -> u64 {
        let mut scanner = Scanner::new(segment.file.clone(), self.salt, segment.id, segment.size);
        let mut offset = END as u64;
        let mut expected = segment.end().map_or(self.report.last + 1, |end| end.first);
        while limit.is_none_or(|limit| expected <= limit) {
            let header = scanner.header(offset).filter(|header| header.seq >= expected);
            if let Some(header) = header {
                self.highest = self.highest.max(header.seq);
                self.stated = self.stated.max(header.synced);
                self.key(header.key);
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
            // Of what the disk cannot read nobody knows whether it was acknowledged.
            let span = header.map_or(HEADER as u64, |header| header.span());
            let unreadable = scanner.is_unreadable(offset, span);
            if expected > stated && !unreadable {
                // What is no header may be of an earlier life of the file.
                if resume.is_some() {
                    self.report.torn = Some(Torn { segment: segment.id, offset });
                }
                break;
            }
            let (next, seq) = resume.unwrap_or((segment.size, expected.max(stated + 1)));
            self.damaged(
                segment,
                Damage {
                    segment: segment.id,
                    offset,
                    len: next - offset,
                    first: expected,
                    last: if unreadable { seq - 1 } else { (seq - 1).min(stated) },
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
        offset
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
            if entry.seq < self.from || entry.seq > self.to {
                continue;
            }
            (self.replay)(Entry {
                seq: entry.seq,
                kind: entry.kind,
                key: entry.key,
                meta,
                position: Position::new(segment, &entry),
            });
        }
    }

    fn key(&mut self, key: u64) {
        self.report.highest_key = self.report.highest_key.max(key);
    }

    /// Notes a place that was relied on and cannot be read, and keeps a copy.
    fn damaged(&mut self, segment: &Segment, damage: Damage) {
        // The rest of a group that was acknowledged is better than none of it.
        self.flush(segment.id);
        self.report.last = self.report.last.max(damage.last);
        if (self.gone)(segment.id) {
            return;
        }
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
pub(super) fn copy_range(
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
