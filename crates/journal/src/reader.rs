//! The reading side: single records, and many in a row.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, ReadError};
use crate::format::{HEADER, RecordHeader};
use crate::record::{Content, Entry, Position};
use crate::recovery::{Damage, Pass, Segment, limit};

/// The reading side of a journal, shared between threads.
#[derive(Clone)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    salt: u64,
    files: Arc<RwLock<BTreeMap<u64, Arc<dyn DiskFile>>>>,
    newest: Arc<AtomicU64>,
    synced: Arc<AtomicU64>,
}

impl Reader {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        salt: u64,
        files: BTreeMap<u64, Arc<dyn DiskFile>>,
        synced: u64,
    ) -> Self {
        let newest = files.keys().next_back().copied().unwrap_or(0);
        Self {
            disk,
            salt,
            files: Arc::new(RwLock::new(files)),
            newest: Arc::new(AtomicU64::new(newest)),
            synced: Arc::new(AtomicU64::new(synced)),
        }
    }

    /// Reads one record's meta part, its body left alone.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn meta(&self, at: Position) -> Result<Bytes, ReadError> {
        let read = self.read(at, at.meta_len as usize)?;
        self.checked_meta(at, read)
    }

    /// The same from memory; `None` where that would mean to wait for the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn meta_at_once(&self, at: Position) -> Result<Option<Bytes>, ReadError> {
        let read = self.read_at_once(at, at.meta_len as usize)?;
        read.map(|read| self.checked_meta(at, read)).transpose()
    }

    fn checked_meta(
        &self,
        at: Position,
        (header, payload): (RecordHeader, Bytes),
    ) -> Result<Bytes, ReadError> {
        if crc32fast::hash(&payload) != header.meta_crc {
            return Err(self.damaged(at));
        }
        Ok(payload)
    }

    /// Reads one record's body, checking its meta part too.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn body(&self, at: Position) -> Result<Bytes, ReadError> {
        self.parts(at).map(|(_, body)| body)
    }

    /// Reads one record's meta part and body in one go.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parts(&self, at: Position) -> Result<(Bytes, Bytes), ReadError> {
        let read = self.read(at, at.meta_len as usize + at.body_len as usize)?;
        self.checked_parts(at, read)
    }

    /// The same from memory; `None` where that would mean to wait for the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parts_at_once(&self, at: Position) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        let read = self.read_at_once(at, at.meta_len as usize + at.body_len as usize)?;
        read.map(|read| self.checked_parts(at, read)).transpose()
    }

    fn checked_parts(
        &self,
        at: Position,
        (header, mut meta): (RecordHeader, Bytes),
    ) -> Result<(Bytes, Bytes), ReadError> {
        let body = meta.split_off(at.meta_len as usize);
        if crc32fast::hash(&meta) != header.meta_crc || crc32fast::hash(&body) != header.body_crc {
            return Err(self.damaged(at));
        }
        Ok((meta, body))
    }

    /// Tells of the records with the numbers `from` to `to` that count, in order.
    ///
    /// Synced records only, and in large reads where they lie close together: bodies
    /// of sealed segments are not checked. It may run beside appends and removals;
    /// records of segments removed meanwhile are told or not. Damage is set aside as
    /// on opening, and the rest told.
    ///
    /// # Errors
    /// [`ReadError::Io`] if a segment's ends or table cannot be read.
    pub fn replay(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Vec<Damage>, ReadError> {
        let synced = self.synced.load(Ordering::Acquire);
        let segments = self.since(0)?;
        let gone = |segment| self.file(segment).is_err();
        let mut pass = Pass::new(&*self.disk, self.salt, (from, to), each, &gone);
        for (index, segment) in segments.iter().enumerate() {
            let later = segments[index + 1..].iter().find_map(Segment::end);
            let before = later.is_some_and(|later| later.first <= from);
            if before || segment.end().is_some_and(|end| end.first > to) {
                continue;
            }
            let limit = limit(&segments[index..]).map_or(synced, |limit| limit.min(synced));
            pass.segment(segment, Some(limit));
        }
        Ok(pass.report.damage)
    }

    /// What a segment holds that counts and is synced, in order.
    ///
    /// Of a sealed segment only the table of contents is read.
    ///
    /// # Errors
    /// [`ReadError::Gone`], or [`ReadError::Io`].
    pub fn contents(&self, segment: u64) -> Result<Vec<Content>, ReadError> {
        self.file(segment)?;
        let segments = self.since(segment)?;
        let Some(this) = segments.first().filter(|first| first.id == segment) else {
            return Err(ReadError::Gone { segment });
        };
        let synced = self.synced.load(Ordering::Acquire);
        let limit = limit(&segments).map_or(synced, |limit| limit.min(synced));
        let entries = match this.toc() {
            Some(entries) => entries,
            None => {
                let gone = |segment| self.file(segment).is_err();
                let mut ignore = |_| ();
                let all = (0, u64::MAX);
                let mut pass = Pass::new(&*self.disk, self.salt, all, &mut ignore, &gone);
                pass.segment(this, Some(limit)).map(|(entries, _)| entries).unwrap_or_default()
            }
        };
        let counting = entries.iter().take_while(|entry| entry.seq <= limit);
        Ok(counting
            .map(|entry| Content {
                seq: entry.seq,
                kind: entry.kind,
                key: entry.key,
                position: Position::new(segment, entry),
            })
            .collect())
    }

    /// The newest segment there is, or 0. What is appended from now on will not be
    /// in an older one.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// The segments there are, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<u64> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The segments from this one on, opened for reading in a row.
    fn since(&self, first: u64) -> Result<Vec<Segment>, ReadError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let files: Vec<_> = files.range(first..).map(|(&id, file)| (id, file.clone())).collect();
        let open = |(id, file)| match Segment::of(id, file) {
            Ok(segment) => Ok(segment),
            Err(OpenError::Io(error)) => Err(ReadError::Io(error)),
            Err(_) => Err(ReadError::Damaged { segment: id, offset: 0 }),
        };
        files.into_iter().map(open).collect()
    }

    fn file(&self, segment: u64) -> Result<Arc<dyn DiskFile>, ReadError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&segment).cloned().ok_or(ReadError::Gone { segment })
    }

    fn read(&self, at: Position, payload: usize) -> Result<(RecordHeader, Bytes), ReadError> {
        let file = self.file(at.segment)?;
        let mut buf = vec![0; HEADER + payload];
        if file.read_at(at.offset, &mut buf)? < buf.len() {
            return Err(self.damaged(at));
        }
        self.decoded(at, buf)
    }

    fn read_at_once(
        &self,
        at: Position,
        payload: usize,
    ) -> Result<Option<(RecordHeader, Bytes)>, ReadError> {
        let file = self.file(at.segment)?;
        let mut buf = vec![0; HEADER + payload];
        file.read_at_once(at.offset, &mut buf).then(|| self.decoded(at, buf)).transpose()
    }

    fn decoded(&self, at: Position, buf: Vec<u8>) -> Result<(RecordHeader, Bytes), ReadError> {
        let header = RecordHeader::decode(&buf, self.salt, at.segment)
            .filter(|h| (h.meta_len, h.body_len) == (at.meta_len, at.body_len))
            .ok_or_else(|| self.damaged(at))?;
        Ok((header, Bytes::from(buf).slice(HEADER..)))
    }

    /// Why what was read is not the record: the segment may have gone meanwhile.
    fn damaged(&self, at: Position) -> ReadError {
        let damaged = ReadError::Damaged { segment: at.segment, offset: at.offset };
        self.file(at.segment).err().unwrap_or(damaged)
    }

    pub(crate) fn insert(&self, segment: u64, file: Arc<dyn DiskFile>) {
        self.newest.store(segment, Ordering::Release);
        self.restore(segment, file);
    }

    /// Takes back what was removed.
    pub(crate) fn restore(&self, segment: u64, file: Arc<dyn DiskFile>) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(segment, file);
    }

    pub(crate) fn remove(&self, segment: u64) -> Option<Arc<dyn DiskFile>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&segment)
    }

    pub(crate) fn advance(&self, synced: u64) {
        self.synced.store(synced, Ordering::Release);
    }
}
