//! What nobody waits for: checkpoints, body files to remove, segments to free.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use merpati_journal::{AppendError, Durability, Group};
use merpati_types::MessageId;

use crate::body::file_name;
use crate::core::{Flight, Flying};
use crate::fact::{Fact, Place, info_of};
use crate::index::{ENTRY_LIMIT, Index, Summary};
use crate::spool::Inner;

/// How often body files and segments of what is over are removed.
const TICK: Duration = Duration::from_millis(500);

/// Octets that copies may have on their way to the journal at once.
const COPY_AT_ONCE: u64 = 4 << 20;

/// Work for the maintenance thread.
pub(crate) enum Work {
    /// Take in a flight that nobody waits for any more.
    Land(Flight),
    /// Remove the body file of a message that was never committed.
    Unlink(MessageId),
    /// Make a last checkpoint and end.
    Close,
    /// Do now what is done from time to time, and say when it is done.
    #[cfg(test)]
    Tick(std::sync::mpsc::Sender<()>),
}

/// The maintenance thread's own state.
pub(crate) struct Maintenance {
    inner: Arc<Inner>,
    /// None once the store has failed: the journal has it all.
    index: Option<Index>,
    next_checkpoint: Instant,
}

impl Maintenance {
    pub(crate) fn new(inner: Arc<Inner>, index: Option<Index>) -> Self {
        let next_checkpoint = Instant::now() + inner.options.checkpoint_every;
        Self { inner, index, next_checkpoint }
    }

    pub(crate) fn run(mut self, work: &Receiver<Work>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match work.recv_timeout(wait) {
                Ok(Work::Land(flight)) => self.land(flight),
                Ok(Work::Unlink(id)) => self.unlink(id),
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
        if Instant::now() >= self.next_checkpoint {
            self.checkpoint();
            self.free_segments();
            if let Err(error) = self.copy_forward() {
                tracing::warn!(%error, "old messages cannot be moved to a new segment");
            }
            self.next_checkpoint = Instant::now() + self.inner.options.checkpoint_every;
        }
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
        let Some(index) = &mut self.index else { return };
        let last_id = self.inner.last_id.load(std::sync::atomic::Ordering::Relaxed);
        let (changes, from) = {
            let mut core = self.inner.core();
            let (changes, needed) = core.state.changes(ENTRY_LIMIT);
            // What is applied may be written only; the flush makes it synced.
            let next = core.floor().map_or(core.highest, |floor| floor.seq) + 1;
            (changes, needed.min(next))
        };
        if changes.is_empty() {
            return;
        }
        let ids: Vec<MessageId> = changes.iter().map(|(id, _)| *id).collect();
        if let Err(error) = self.inner.journal.flush().wait() {
            tracing::warn!(%error, "no checkpoint: the journal cannot be synced");
            self.inner.core().state.touch(&ids);
            return;
        }
        if let Err(error) = index.write(changes, Summary { from, last_id }) {
            tracing::error!(%error, "the spool's index is given up until the next start");
            self.index = None;
        }
    }

    /// Removes segments older than any that a message needs.
    fn free_segments(&self) {
        let journal = &self.inner.journal;
        let needed = {
            let core = self.inner.core();
            let newest = journal.reader().newest();
            let floor = core.floor().map_or(newest, |floor| floor.segment);
            floor.min(core.state.oldest_base().unwrap_or(newest))
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

    /// Writes the messages of the oldest segment once more, if most of the journal is dead.
    fn copy_forward(&self) -> Result<(), AppendError> {
        let journal = &self.inner.journal;
        let segments = journal.reader().segments().len() as u64;
        let (ids, live) = {
            let core = self.inner.core();
            let Some(oldest) = core.state.oldest_base() else { return Ok(()) };
            if oldest == journal.reader().newest() {
                return Ok(());
            }
            (core.state.based_in(oldest), core.state.octets_in_journal())
        };
        let whole = segments * self.inner.options.journal.segment_size;
        if segments < 4 || live > whole / 2 {
            return Ok(());
        }
        let mut flights = Vec::new();
        let mut octets = 0;
        for id in ids {
            if let Some((flight, size)) = self.copy(id) {
                flights.push(flight);
                octets += size;
            }
            if octets > COPY_AT_ONCE {
                octets = 0;
                flights.drain(..).for_each(|flight| self.land(flight));
            }
        }
        flights.into_iter().for_each(|flight| self.land(flight));
        Ok(())
    }

    /// Sends a copy of a message and its state on its way.
    fn copy(&self, id: MessageId) -> Option<(Flight, u64)> {
        let view = self.inner.core().state.live(id)?.view();
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
