//! What nobody waits for: checkpoints, body files to remove, segments to free.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use merpati_journal::{AppendError, Durability, Group, Recovery};
use merpati_plugin::spool::IndexState;
use merpati_types::{MessageId, Timestamp};

use crate::body::file_name;
use crate::core::{BadIndex, Flight, Flying};
use crate::fact::{Fact, Place, info_of};
use crate::index::{ENTRY_LIMIT, Index, Summary};
use crate::load::{Loaded, Scope, load};
use crate::open::{Anew, OpenIndex};
use crate::spool::{Inner, now_millis};

/// How often body files and segments of what is over are removed.
const TICK: Duration = Duration::from_millis(500);

/// Octets that copies may have on their way to the journal at once.
const COPY_AT_ONCE: u64 = 4 << 20;
/// Octets that are copied between two checkpoints, or a segment.
const COPY_AT_MOST: u64 = 64 << 20;

/// What is due within this time stays in memory.
const SOON: Duration = Duration::from_secs(60);
/// Changes that are written to the index at once.
const SLICE: usize = 256;
/// When an index that could not be used is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Work for the maintenance thread.
pub(crate) enum Work {
    /// Take in a flight that nobody waits for any more.
    Land(Flight),
    /// Remove the body file of a message that was never committed.
    Unlink(MessageId),
    /// Make a checkpoint now: much has changed.
    Checkpoint,
    /// Make the index anew: it is no good.
    Rebuild,
    /// Make a last checkpoint and end.
    Close,
    /// Do now what is done from time to time, and say when it is done.
    #[cfg(test)]
    Tick(std::sync::mpsc::Sender<()>),
}

/// The maintenance thread's own state.
pub(crate) struct Maintenance {
    inner: Arc<Inner>,
    open_index: OpenIndex,
    /// None while the store fails: the journal has it all.
    index: Option<Index>,
    next_checkpoint: Instant,
    /// When the index is tried again.
    retry: Option<Instant>,
}

impl Maintenance {
    pub(crate) fn new(inner: Arc<Inner>, open_index: OpenIndex) -> Self {
        let next_checkpoint = Instant::now() + inner.options.checkpoint_every;
        Self { inner, open_index, index: None, next_checkpoint, retry: None }
    }

    pub(crate) fn run(mut self, recovery: Recovery, bodies: Vec<String>, work: &Receiver<Work>) {
        let (to, known) = (recovery.last, BTreeSet::new());
        self.load(recovery, &Scope { to, known, anew: Anew::No, bodies });
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match work.recv_timeout(wait) {
                Ok(Work::Land(flight)) => self.land(flight),
                Ok(Work::Unlink(id)) => self.unlink(id),
                Ok(Work::Checkpoint) => {
                    self.inner.core().asked = false;
                    self.checkpoint();
                }
                Ok(Work::Rebuild) => self.rebuild(),
                Ok(Work::Close) | Err(RecvTimeoutError::Disconnected) => break,
                #[cfg(test)]
                Ok(Work::Tick(done)) => {
                    self.next_checkpoint = Instant::now();
                    self.tick();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tick();
                    next_tick = Instant::now() + TICK;
                }
            }
        }
        self.inner.core().state.mature();
        self.clear_away();
        self.checkpoint();
    }

    fn tick(&mut self) {
        self.clear_away();
        if self.retry.is_some_and(|at| at <= Instant::now()) {
            self.rebuild();
        }
        if Instant::now() >= self.next_checkpoint {
            self.checkpoint();
            self.free_segments();
            if let Err(error) = self.copy_forward() {
                tracing::warn!(%error, "old messages cannot be moved to a new segment");
            }
            self.next_checkpoint = Instant::now() + self.inner.options.checkpoint_every;
        }
    }

    /// Reads what was there before, and joins it with what has come since.
    fn load(&mut self, recovery: Recovery, scope: &Scope) {
        let Loaded { state, index, repeats, report } =
            load(&self.inner, &mut self.open_index, recovery, scope);
        {
            let mut core = self.inner.core();
            core.state.absorb(state);
            core.index = index.as_ref().map(|index| index.reader.clone());
            core.repeats.absorb(repeats);
            core.dry = None;
        }
        self.inner.damaged.fetch_add(report.alarms(), Ordering::Relaxed);
        self.retry = index.is_none().then(|| Instant::now() + RETRY);
        self.index = index;
        let lost = self.index.is_none();
        self.inner.set_index(if lost { IndexState::Lost } else { IndexState::Whole });
        self.inner.notify.notify_waiters();
        self.inner.whole.tell(report);
    }

    /// Makes the index anew from the journal, beside everything else.
    fn rebuild(&mut self) {
        self.index = None;
        self.retry = None;
        self.inner.set_index(IndexState::Rebuilding);
        let scope = {
            let mut core = self.inner.core();
            core.index = None;
            let mut known = core.state.lose_index();
            known.extend(core.in_flight());
            Scope { to: core.highest, known, anew: Anew::Yes, bodies: Vec::new() }
        };
        // Only what is synced is read again.
        if let Err(error) = self.inner.journal.flush().wait() {
            tracing::error!(%error, "the spool's index cannot be made anew yet");
        }
        self.load(Recovery::default(), &scope);
        tracing::info!("the spool's index is made anew");
    }

    fn land(&self, mut flight: Flight) {
        if let Some(ticket) = flight.ticket.take() {
            let result = ticket.wait();
            self.inner.landed(flight, result.as_ref());
        }
    }

    /// Removes body files of messages that are over, once that is synced.
    fn clear_away(&self) {
        let cleared = std::mem::take(&mut self.inner.core().cleared);
        if cleared.is_empty() {
            return;
        }
        if self.inner.journal.flush().wait().is_err() {
            self.inner.core().cleared.extend(cleared);
            return;
        }
        cleared.into_iter().for_each(|id| self.unlink(id));
    }

    fn unlink(&self, id: MessageId) {
        // It may not have come to be; else the next start sweeps it.
        if let Err(error) = self.inner.bodies.unlink(&file_name(id))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(message = %id, %error, "a body file cannot be removed");
        }
    }

    /// Brings the index up to date.
    fn checkpoint(&mut self) {
        if let Err(bad) = self.try_checkpoint() {
            tracing::error!(%bad, "the spool's index cannot be written: it is made anew");
            self.rebuild();
        }
        self.inner.room.notify_waiters();
    }

    fn try_checkpoint(&mut self) -> Result<(), BadIndex> {
        let Some(index) = &mut self.index else { return Ok(()) };
        let now = Timestamp::from_millis(now_millis().cast_signed());
        let (soon, resident) = (now.after(SOON), self.inner.options.resident);
        let repeats = {
            let mut core = self.inner.core();
            let repeats = core.repeats.changes(now);
            if core.state.is_clean() && repeats.is_empty() {
                return Ok(());
            }
            // What is applied may be written only; the flush makes it synced.
            let next = core.floor().map_or(core.highest, |floor| floor.seq) + 1;
            core.state.begin_checkpoint(next);
            repeats
        };
        loop {
            let slice = self.inner.core().state.slice(SLICE, ENTRY_LIMIT);
            if slice.is_empty() {
                break;
            }
            if let Err(error) = self.inner.journal.flush().wait() {
                tracing::warn!(%error, "no checkpoint: the journal cannot be synced");
                self.inner.core().state.unwritten(&slice);
                return Ok(());
            }
            index.write(&slice)?;
            self.inner.core().state.written(&slice, soon, resident);
            self.inner.room.notify_waiters();
        }
        // Even if there was nothing to write: what came and went before this checkpoint is not
        // replayed after it, so its end must be on the disk.
        if let Err(error) = self.inner.journal.flush().wait() {
            tracing::warn!(%error, "no checkpoint: the journal cannot be synced");
            return Ok(());
        }
        index.write_repeats(&repeats)?;
        let last_id = self.inner.last_id.load(Ordering::Relaxed);
        let from = {
            let mut core = self.inner.core();
            core.state.thin(soon, resident);
            core.state.end_checkpoint()
        };
        index.end(Summary { from, last_id })?;
        Ok(())
    }

    /// Removes segments older than any that a message needs.
    fn free_segments(&self) {
        let journal = &self.inner.journal;
        let needed = {
            let core = self.inner.core();
            let newest = journal.reader().newest();
            let floor = core.floor().map_or(newest, |floor| floor.segment);
            floor.min(core.state.segments().next().unwrap_or(newest))
        };
        let old: Vec<u64> =
            journal.reader().segments().into_iter().take_while(|&s| s < needed).collect();
        // What ended these messages must be synced before what began them goes.
        if old.is_empty() || journal.flush().wait().is_err() {
            return;
        }
        for segment in old {
            if let Err(error) = journal.remove(segment).wait() {
                tracing::warn!(%error, segment, "a segment cannot be removed");
                return;
            }
        }
    }

    /// Writes the messages of the oldest segments once more, if most of the journal is dead.
    fn copy_forward(&self) -> Result<(), AppendError> {
        let reader = self.inner.journal.reader();
        let mut copied = 0;
        while copied < COPY_AT_MOST {
            let segments = reader.segments().len() as u64;
            let (oldest, live) = {
                let core = self.inner.core();
                let Some(oldest) = core.state.segments().next() else { return Ok(()) };
                (oldest, core.state.octets_in_journal())
            };
            let whole = segments * self.inner.options.journal.segment_size;
            if oldest == reader.newest() || segments < 4 || live > whole / 2 {
                return Ok(());
            }
            let octets = self.copy_segment(oldest)?;
            if octets == 0 {
                return Ok(());
            }
            copied += octets;
            self.free_segments();
        }
        Ok(())
    }

    /// Writes the messages of one segment once more; answers how many octets that took.
    fn copy_segment(&self, segment: u64) -> Result<u64, AppendError> {
        let contents = match self.inner.journal.reader().contents(segment) {
            Ok(contents) => contents,
            Err(error) => {
                tracing::error!(%error, segment, "a segment cannot be read");
                return Ok(0);
            }
        };
        let ids: BTreeSet<MessageId> =
            contents.iter().map(|content| MessageId::from_u64(content.key)).collect();
        let mut flights = Vec::new();
        let (mut octets, mut waiting) = (0, 0);
        for id in ids {
            if let Some((flight, size)) = self.copy(id, segment) {
                flights.push(flight);
                octets += size;
                waiting += size;
            }
            if waiting > COPY_AT_ONCE {
                waiting = 0;
                flights.drain(..).for_each(|flight| self.land(flight));
            }
        }
        flights.into_iter().for_each(|flight| self.land(flight));
        Ok(octets)
    }

    /// Sends a copy of a message and its state on its way.
    fn copy(&self, id: MessageId, segment: u64) -> Option<(Flight, u64)> {
        let view = {
            let mut core = self.inner.core();
            let view = core.view(id).ok()??;
            if view.base.segment != segment {
                return None;
            }
            core.fetch(id).ok()?;
            view
        };
        let (meta, body) = match self.inner.journal.reader().parts(view.base) {
            Ok(parts) => parts,
            Err(error) => {
                tracing::error!(message = %id, %error, "a message cannot be read");
                return None;
            }
        };
        let info = Arc::new(info_of(&meta).ok()?);
        let body = if view.place == Place::Inline { vec![body] } else { Vec::new() };
        let mut core = self.inner.core();
        let live = core.state.live(id).filter(|live| live.busy == 0 && live.base == view.base)?;
        let fact = Fact::Copy { info, place: view.place, parcels: live.parcel_states() };
        let group = Group::from(fact.to_record(id, body));
        let octets = group.span();
        let journal = &self.inner.journal;
        let append = || journal.append_urgent(group, Durability::Sync);
        Some((core.launch(journal, vec![Flying::new(id, fact)], None, append), octets))
    }
}
