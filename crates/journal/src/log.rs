//! The writing side without threads: what goes where, what is synced.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, DiskFile};
use crate::error::{AppendError, OpenError};
use crate::format::{
    ALIGN, END, ENTRY, HEADER, RecordHeader, SegmentEnd, State, Toc, TocEntry, segment_name,
    spare_name,
};
use crate::reader::Reader;
use crate::record::{Appended, Entry, Group, Position};
use crate::recovery::{self, Recovery};
use crate::spare::{Preparation, Prepared, Spare, write_ends};

/// Octets the system reads and writes at once.
const PAGE: u64 = 4096;

/// What is between records and after them.
static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// How a journal is laid out and how much it may hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets a segment is preallocated to; 64 MiB by default, at least 4 KiB.
    ///
    /// Space comes back a segment at a time, so a smaller one frees sooner and
    /// a bigger one costs fewer directory syncs.
    pub segment_size: u64,
    /// Octets one group may take; 64 MiB by default, at most 1 GiB. One that is
    /// bigger than a segment gets a segment of its own.
    pub max_group: u64,
    /// Octets that may wait for the committer before writers wait; 16 MiB by
    /// default.
    pub max_queued: usize,
    /// Records with lower numbers are not told on opening, for a caller that knows
    /// them from elsewhere or [replays](crate::Reader::replay) them later; 0 by
    /// default. Of sealed segments with none to tell only the ends are read.
    pub replay_from: u64,
    /// Files of removed segments that are kept to be used again; 2 by default. Blocks
    /// that were written before are quicker to sync.
    pub spares: usize,
    /// How long the second failure of the disk in a row puts off the next attempt;
    /// 50 ms by default, doubled by each further one up to a second. With 0 every
    /// append is an attempt, and nothing is tried unasked.
    pub back_off: Duration,
    /// The salt of a new journal's checksums; unpredictable by default, so that
    /// no body can be made to look like a record.
    pub salt: u64,
}

impl Default for Options {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self {
            segment_size: 64 << 20,
            max_group: 64 << 20,
            max_queued: 16 << 20,
            replay_from: 0,
            spares: 2,
            back_off: Duration::from_millis(50),
            salt: RandomState::new().hash_one(std::process::id()),
        }
    }
}

/// The journal as a state machine over a [`Disk`]: no thread, no clock, no queue.
///
/// [`Journal`](crate::Journal) runs one of these in its committer thread. A
/// crash test runs one directly.
pub struct Log {
    disk: Arc<dyn Disk>,
    options: Options,
    salt: u64,
    reader: Reader,
    active: Option<Active>,
    /// The segment after it, if it was made ahead.
    prepared: Option<Prepared>,
    /// Whether somebody makes it now.
    preparing: bool,
    spares: Vec<Spare>,
    /// Whether a segment that was removed may come back after a power cut.
    unsure: bool,
    /// Segments that could not be begun, and are still there.
    debris: Vec<String>,
    /// The id the next segment gets.
    next_segment: u64,
    /// The id of the last segment that was begun, or nearly.
    begun: u64,
    /// The sequence number the next record gets.
    next: u64,
    /// The last sequence number that is written and counts.
    written: u64,
    /// The last sequence number that is on stable storage.
    synced: u64,
    /// The largest key any record ever had.
    highest_key: u64,
    _lock: Box<dyn Send + Sync>,
}

/// The segment that is being filled.
struct Active {
    file: Arc<dyn DiskFile>,
    end: SegmentEnd,
    size: u64,
    offset: u64,
    toc: Vec<TocEntry>,
}

impl Active {
    /// Octets that `span` more with `count` records leaves unused, if it fits.
    fn fits(&self, span: u64, count: usize) -> bool {
        let toc = ((self.toc.len() + count) * ENTRY) as u64;
        self.offset + span + toc.next_multiple_of(ALIGN) + END as u64 <= self.size
    }
}

impl Log {
    /// Opens or makes a journal and tells `replay` of every record that counts,
    /// in order.
    ///
    /// # Errors
    /// [`OpenError`]; damage is no error but part of the [`Recovery`].
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn FnMut(Entry),
    ) -> Result<(Self, Recovery), OpenError> {
        let options = Options {
            segment_size: options.segment_size.max(4096),
            max_group: options.max_group.min(1 << 30),
            ..options
        };
        let lock = disk.lock().map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => OpenError::Io(e),
        })?;
        let found = recovery::run(&*disk, options.replay_from, replay)?;
        let salt = found.salt.unwrap_or(options.salt);
        let reader = Reader::new(disk.clone(), salt, found.files, found.report.last);
        let log = Self {
            disk,
            options,
            salt,
            reader,
            active: None,
            prepared: None,
            preparing: false,
            spares: Vec::new(),
            unsure: false,
            debris: Vec::new(),
            next_segment: found.next_segment,
            begun: 0,
            next: found.next,
            written: found.report.last,
            synced: found.report.last,
            highest_key: found.report.highest_key,
            _lock: lock,
        };
        Ok((log, found.report))
    }

    /// Writes groups in order, without syncing them.
    ///
    /// The answer has one item for each group. A group that is told to have
    /// failed is not in effect, now or after a restart once a later write has
    /// succeeded. After a failure nothing more is written of this call, and
    /// whatever was not [`synced`](Self::synced) before is void.
    pub fn write(&mut self, groups: &[&Group]) -> Vec<Result<Appended, AppendError>> {
        let mut answers: Vec<Result<Appended, AppendError>> = Vec::with_capacity(groups.len());
        let mut rest = groups;
        while let Some(first) = rest.first() {
            if first.span > self.options.max_group {
                let limit = self.options.max_group;
                answers.push(Err(AppendError::TooLarge { size: first.span, limit }));
                rest = &rest[1..];
                continue;
            }
            let step = self.room_for(first).and_then(|()| self.write_run(rest));
            match step {
                Ok(done) => {
                    rest = &rest[done.len()..];
                    answers.extend(done.into_iter().map(Ok));
                }
                Err(error) => {
                    self.fail();
                    let synced = self.synced;
                    for answer in &mut answers {
                        if matches!(answer, Ok(appended) if appended.last > synced) {
                            *answer = Err(error.clone());
                        }
                    }
                    answers.resize_with(groups.len(), || Err(error.clone()));
                    break;
                }
            }
        }
        answers
    }

    /// Puts all that was written on stable storage.
    ///
    /// # Errors
    /// What the disk says; everything after [`synced`](Self::synced) is then void.
    pub fn sync(&mut self) -> Result<u64, AppendError> {
        if self.synced < self.written
            && let Some(active) = &self.active
        {
            if let Err(error) = active.file.sync_data() {
                self.fail();
                return Err(error.into());
            }
            self.advance();
        }
        Ok(self.synced)
    }

    /// Sees whether the disk works, by the sync of a segment that is begun if need be.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn probe(&mut self) -> Result<(), AppendError> {
        if self.active.is_none() {
            self.begin_segment(self.options.segment_size)?;
        }
        let active = self.active.as_ref().expect("there is one now");
        match active.file.sync_data() {
            Ok(()) => {
                self.advance();
                Ok(())
            }
            Err(error) => {
                self.fail();
                Err(error.into())
            }
        }
    }

    /// Closes the segment with its table of contents; the next write begins another.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn seal(&mut self) -> Result<(), AppendError> {
        self.sync()?;
        let Some(active) = self.active.take() else { return Ok(()) };
        let Active { file, end, size, offset, toc } = active;
        // Without a table all is there still: it is read from the front then.
        if let Err(error) = write_toc(&*file, end, offset, size, &toc) {
            tracing::warn!(%error, segment = end.id, "no table of contents could be written");
        }
        Ok(())
    }

    /// Removes a segment that is no longer written to, durably.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` for the segment being filled.
    pub fn remove(&mut self, segment: u64) -> io::Result<()> {
        if self.active.as_ref().is_some_and(|active| active.end.id == segment) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the segment is in use"));
        }
        if self.reader.segments() == [segment] {
            // Some segment must know the numbers to go on from.
            self.probe().map_err(io::Error::other)?;
        }
        // An older segment must not outlive what a newer one says of it.
        self.clear_debris()?;
        if self.unsure {
            self.disk.sync_dir()?;
            self.unsure = false;
        }
        let Some(file) = self.reader.remove(segment) else { return Ok(()) };
        let name = segment_name(segment);
        let keep = self.spares.len() < self.options.spares
            && file.size().is_ok_and(|size| size == self.segment_size());
        let spare = Spare { name: spare_name(segment), file };
        let gone = match keep {
            true => self.disk.rename(&name, &spare.name),
            false => self.disk.unlink(&name),
        };
        if let Err(error) = gone {
            self.reader.restore(segment, spare.file);
            return Err(error);
        }
        self.unsure = true;
        self.disk.sync_dir()?;
        self.unsure = false;
        // Before that the old name could have come back, so its contents had to stay.
        if keep {
            self.spares.push(spare);
        }
        Ok(())
    }

    /// Removes what could not be begun: without records it would look damaged once the
    /// segment is gone that says where it ends.
    fn clear_debris(&mut self) -> io::Result<()> {
        while let Some(name) = self.debris.last() {
            match self.disk.unlink(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.unsure = true,
            }
            self.debris.pop();
        }
        Ok(())
    }

    /// What to do ahead of the next segment, on any thread, if there is anything.
    ///
    /// The result goes to [`prepared`](Self::prepared).
    pub fn preparation(&mut self) -> Option<Preparation> {
        if self.preparing || self.prepared.is_some() {
            return None;
        }
        self.preparing = true;
        Some(self.prepare(self.segment_size()))
    }

    /// Takes what a [`preparation`](Self::preparation) has come to.
    pub fn prepared(&mut self, prepared: io::Result<Prepared>) {
        self.preparing = false;
        match prepared {
            // Segments are used in the order of their names.
            Ok(prepared) if prepared.id < self.begun => {
                self.spares.push(prepared.into());
            }
            Ok(prepared) => self.prepared = Some(prepared),
            Err(error) => tracing::warn!(%error, "no segment can be made ahead"),
        }
    }

    /// The last sequence number that is on stable storage.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// The last sequence number that is written and counts.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The segment being filled, if there is one.
    #[must_use]
    pub fn active(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.end.id)
    }

    /// The reading side, which may go to other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// All that is written is synced.
    fn advance(&mut self) {
        self.synced = self.written;
        self.reader.advance(self.synced);
    }

    /// Gives up the active segment: what it holds beyond `synced` is void.
    fn fail(&mut self) {
        self.active = None;
        self.written = self.synced;
    }

    /// Sees to it that the active segment has room for `group`.
    fn room_for(&mut self, group: &Group) -> Result<(), AppendError> {
        if let Some(active) = &self.active {
            if active.fits(group.span, group.records.len()) {
                return Ok(());
            }
            self.seal()?;
        }
        let toc = (group.records.len() * ENTRY) as u64;
        let least = 2 * END as u64 + group.span + toc.next_multiple_of(ALIGN);
        Ok(self.begin_segment(least)?)
    }

    /// Begins a segment with room for `least` octets. Its ends reach the disk with the first
    /// record's sync: before that nobody relies on it.
    fn begin_segment(&mut self, least: u64) -> io::Result<()> {
        let made = match self.prepared.take_if(|prepared| prepared.size >= least) {
            Some(prepared) => prepared,
            None => {
                let size = self.segment_size().max(least.next_multiple_of(4096));
                let made = self.prepare(size).run()?;
                // Segments are used in the order of their names.
                self.spares.extend(self.prepared.take().map(Spare::from));
                made
            }
        };
        let Prepared { id, size, file } = made;
        // What the ends of one say that fails half-way must stay true: it is the newest.
        self.begun = id;
        let end = SegmentEnd {
            id,
            first: self.next,
            previous: self.synced,
            salt: self.salt,
            highest_key: self.highest_key,
            state: State::Begun,
        };
        if let Err(error) = write_ends(&*file, size, &end) {
            self.debris.push(segment_name(id));
            // What is left for later, nobody minds before segments are removed.
            let _ = self.clear_debris();
            return Err(error);
        }
        self.reader.insert(id, file.clone());
        self.active = Some(Active { file, end, size, offset: END as u64, toc: Vec::new() });
        Ok(())
    }

    fn prepare(&mut self, size: u64) -> Preparation {
        let id = self.next_segment;
        // A name is never used twice, even if making the file fails half-way.
        self.next_segment += 1;
        let spare = if size == self.segment_size() { self.spares.pop() } else { None };
        Preparation { disk: self.disk.clone(), id, size, salt: self.salt, spare }
    }

    /// Octets of all but those segments that one group made larger.
    fn segment_size(&self) -> u64 {
        self.options.segment_size.next_multiple_of(4096)
    }

    /// Writes as many of the groups as the active segment takes, in one go.
    fn write_run(&mut self, groups: &[&Group]) -> Result<Vec<Appended>, AppendError> {
        let active = self.active.as_mut().expect("room_for leaves an active segment");
        let start = active.offset;
        let mut headers: Vec<[u8; HEADER]> = Vec::with_capacity(groups.len());
        let mut done = Vec::with_capacity(groups.len());
        for group in groups {
            if group.span > self.options.max_group || !active.fits(group.span, group.records.len())
            {
                break;
            }
            let count = group.records.len();
            let mut positions = Vec::with_capacity(count);
            for (index, summed) in group.records.iter().enumerate() {
                let header = RecordHeader {
                    segment: active.end.id,
                    seq: self.next,
                    synced: self.synced,
                    key: summed.record.key,
                    // `max_group` keeps both below 4 GiB.
                    meta_len: summed.record.meta.len() as u32,
                    body_len: summed.body_len as u32,
                    meta_crc: summed.meta_crc,
                    body_crc: summed.body_crc,
                    left: (count - 1 - index) as u32,
                    kind: summed.record.kind,
                };
                headers.push(header.encode(self.salt));
                let entry = TocEntry::new(active.offset, &header);
                active.toc.push(entry);
                positions.push(Position::new(active.end.id, &entry));
                self.highest_key = self.highest_key.max(header.key);
                active.offset += header.span();
                self.next += 1;
            }
            done.push(Appended { last: self.next - 1, positions });
        }
        let file = active.file.clone();
        let mut parts = slices(&headers, &groups[..done.len()]);
        // A page that is written whole need not be read first, where the file had an earlier life.
        let room = active.size - END as u64 - active.offset;
        let rest = active.offset.next_multiple_of(PAGE) - active.offset;
        parts.push(IoSlice::new(&ZEROS[..rest.min(room) as usize]));
        file.write_at(start, &parts)?;
        self.written = self.next - 1;
        Ok(done)
    }
}

/// Headers, contents and padding in the order they go to the disk.
fn slices<'a>(headers: &'a [[u8; HEADER]], groups: &'a [&'a Group]) -> Vec<IoSlice<'a>> {
    let records = groups.iter().flat_map(|group| &group.records);
    let mut out = Vec::with_capacity(headers.len() * 4);
    for (header, summed) in headers.iter().zip(records) {
        out.push(IoSlice::new(header));
        let meta = &summed.record.meta;
        for part in std::iter::once(meta).chain(&summed.record.body) {
            if !part.is_empty() {
                out.push(IoSlice::new(part));
            }
        }
        let payload = meta.len() as u64 + summed.body_len;
        let padding = payload.next_multiple_of(ALIGN) - payload;
        if padding > 0 {
            out.push(IoSlice::new(&ZEROS[..padding as usize]));
        }
    }
    out
}

/// Ends a segment: table of contents after the last record, then the far end, synced.
///
/// The table says that all it names is synced, so that must be so already.
pub(crate) fn write_toc(
    file: &dyn DiskFile,
    end: SegmentEnd,
    offset: u64,
    size: u64,
    entries: &[TocEntry],
) -> io::Result<()> {
    let table: Vec<u8> = entries.iter().flat_map(TocEntry::encode).collect();
    let toc = Toc { offset, count: entries.len() as u32, crc: crc32fast::hash(&table) };
    let highest_key = entries.iter().map(|entry| entry.key).fold(end.highest_key, u64::max);
    let tail = SegmentEnd { state: State::Sealed(toc), highest_key, ..end }.encode();
    file.write_at(offset, &[IoSlice::new(&table)])?;
    file.write_at(size - END as u64, &[IoSlice::new(&tail)])?;
    file.sync_data()
}
