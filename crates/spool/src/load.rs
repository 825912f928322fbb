//! Reading what was there: the index, and what the journal knows besides. Mail flows meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;

use merpati_journal::{Disk, Entry, Recovery};
use merpati_store::{Scan, StoreError};
use merpati_types::{MessageId, Timestamp};

use crate::body::file_name;
use crate::core::BadIndex;
use crate::fact::{Fact, Place};
use crate::index::{ENTRY_LIMIT, Index, Summary};
use crate::open::{Anew, OpenIndex, Report};
use crate::repeats::Repeats;
use crate::spool::Inner;
use crate::state::State;

/// Changes after which the index is written while it is made anew, to bound memory.
const SPILL: usize = 4096;
/// Changes that are taken from the state at once.
const SLICE: usize = 256;

/// What is read, and up to where.
pub(crate) struct Scope {
    /// The last fact that is read.
    pub(crate) to: u64,
    /// Messages that are known better already.
    pub(crate) known: BTreeSet<MessageId>,
    pub(crate) anew: Anew,
    /// Body files that were there before any new one: those that no message has are swept.
    pub(crate) bodies: Vec<String>,
}

/// Everything that was live when the journal was opened.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// None if the store cannot be used: the journal has it all.
    pub(crate) index: Option<Index>,
    pub(crate) repeats: Repeats,
    pub(crate) report: Report,
}

/// Reads it all.
pub(crate) fn load(
    inner: &Inner,
    open: &mut OpenIndex,
    recovery: Recovery,
    scope: &Scope,
) -> Loaded {
    let mut loader = Loader {
        inner,
        scope,
        state: State::default(),
        index: None,
        repeats: Repeats::new(inner.options.repeat_window),
        report: Report { journal: recovery, ..Report::default() },
        files: BTreeSet::new(),
        unread: false,
    };
    let from = loader.open_index(open);
    if let Err(bad) = loader.replay(from) {
        tracing::error!(%bad, "the spool's index fails while it is read: it is not used");
        loader.report.index_rebuilt = Some(bad.to_string());
        loader.begin_anew(None);
        // Without an index, nothing can be wrong with it.
        let _ = loader.replay(0);
    }
    loader.forget_what_is_gone();
    if let Err(error) = loader.sweep() {
        tracing::warn!(%error, "body files cannot be looked through");
    }
    loader.report.messages = loader.state.stats().messages;
    let Loader { state, index, repeats, report, .. } = loader;
    Loaded { state, index, repeats, report }
}

struct Loader<'a> {
    inner: &'a Inner,
    scope: &'a Scope,
    state: State,
    index: Option<Index>,
    repeats: Repeats,
    report: Report,
    /// Messages that may have a body file.
    files: BTreeSet<MessageId>,
    /// A part of the journal could not be read.
    unread: bool,
}

impl Loader<'_> {
    /// Opens and checks the index; answers from which fact on the journal is needed.
    fn open_index(&mut self, open: &mut OpenIndex) -> u64 {
        let opened = match open(self.scope.anew) {
            Err(error @ StoreError::Damaged(_)) => {
                tracing::warn!(%error, "the spool's index is damaged: it is made anew");
                self.report.index_rebuilt = Some(error.to_string());
                open(Anew::Yes)
            }
            other => other,
        };
        let mut index = match opened.and_then(Index::open) {
            Ok(index) => index,
            Err(error) => {
                tracing::error!(%error, "the spool's index cannot be opened: it is not used");
                self.report.index_rebuilt = Some(error.to_string());
                return 0;
            }
        };
        let summary = match self.read(&mut index) {
            Ok(summary) => summary,
            Err(bad) => {
                tracing::warn!(%bad, "the spool's index is made anew");
                self.report.index_rebuilt = Some(bad.to_string());
                self.begin_anew(None);
                if let Err(error) = index.clear() {
                    tracing::error!(%error, "the spool's index cannot be cleared: it is not used");
                    return 0;
                }
                Summary::default()
            }
        };
        self.inner.last_id.fetch_max(summary.last_id, Ordering::Relaxed);
        self.index = Some(index);
        summary.from
    }

    /// Counts everything that the index has.
    fn read(&mut self, index: &mut Index) -> Result<Summary, BadIndex> {
        let (state, files) = (&mut self.state, &mut self.files);
        let summary = index.load(|id, live| {
            state.count_far(id, live);
            if live.place == Place::File {
                files.insert(id);
            }
            Scan::Next
        })??;
        let repeats = &mut self.repeats;
        index.reader.repeats(|key, id, at| repeats.restore(key, id, at))?;
        Ok(summary)
    }

    fn begin_anew(&mut self, index: Option<Index>) {
        self.state = State::default();
        self.repeats = Repeats::new(self.inner.options.repeat_window);
        self.index = index;
        self.files.clear();
    }

    fn replay(&mut self, from: u64) -> Result<(), BadIndex> {
        #[cfg(test)]
        if crate::tests::planted::trusts_the_index() && from > 0 {
            return Ok(());
        }
        let mut bad = Ok(());
        let reader = self.inner.journal.reader();
        let damage = reader.replay(from, self.scope.to, &mut |entry| {
            if bad.is_ok() && !self.inner.closed.load(Ordering::Relaxed) {
                bad = self.take(entry);
            }
        });
        match damage {
            Ok(damage) => {
                for damage in damage {
                    if !self.report.journal.damage.contains(&damage) {
                        self.report.journal.damage.push(damage);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "a part of the journal cannot be read");
                self.inner.damaged.fetch_add(1, Ordering::Relaxed);
                self.unread = true;
            }
        }
        bad
    }

    fn take(&mut self, entry: Entry) -> Result<(), BadIndex> {
        let id = MessageId::from_u64(entry.key);
        if self.scope.known.contains(&id) {
            return Ok(());
        }
        let fact = match Fact::from_entry(&entry) {
            Ok((_, fact)) => fact,
            Err(error) => {
                tracing::error!(message = %id, %error, "a record makes no sense");
                if !self.report.malformed.contains(&id) {
                    self.report.malformed.push(id);
                }
                return Ok(());
            }
        };
        if let Fact::Message { place: Place::File, .. } | Fact::Copy { place: Place::File, .. } =
            &fact
        {
            self.files.insert(id);
        }
        if let Fact::Message { info, .. } = &fact
            && let Some(key) = info.message.origin.repeat
        {
            self.repeats.note(key, id, info.message.arrived);
        }
        if let Some(index) = self.index.as_ref().filter(|index| !index.is_empty())
            && !self.state.hides(id)
            && let Some(entry) = index.reader.entry(id)?
        {
            self.state.fetch(id, &entry)?;
        }
        self.state.replay(entry.seq, entry.position, id, fact);
        if self.state.dirty_count() >= SPILL {
            self.spill(entry.seq + 1)?;
        }
        Ok(())
    }

    /// Writes what has been read so far to the index, and lets go of it.
    fn spill(&mut self, next: u64) -> Result<(), BadIndex> {
        let Some(index) = &mut self.index else { return Ok(()) };
        self.state.mature();
        self.state.begin_checkpoint(next);
        loop {
            let changes = self.state.slice(SLICE, ENTRY_LIMIT);
            if changes.is_empty() {
                break;
            }
            index.write(&changes)?;
            self.state.written(&changes, Timestamp::MAX, 0);
        }
        self.state.thin(Timestamp::MAX, 0);
        Ok(())
    }

    /// Forgets messages whose own record is in a segment that is gone: they were over, and an
    /// index from before a power cut does not know.
    fn forget_what_is_gone(&mut self) {
        let there: BTreeSet<u64> = self.inner.journal.reader().segments().into_iter().collect();
        if self.state.segments().all(|segment| there.contains(&segment)) {
            return;
        }
        let is_gone = |live: &crate::state::Live| !there.contains(&live.base.segment);
        let near = self.state.near(MessageId::from_u64(0), MessageId::from_u64(u64::MAX));
        let mut gone: Vec<MessageId> =
            near.filter(|(_, live)| is_gone(live)).map(|(id, _)| id).collect();
        let reader = self.index.as_ref().map(|index| index.reader.clone());
        let mut first = MessageId::from_u64(0);
        while let Some(Ok(entries)) = reader.as_ref().map(|reader| reader.entries(first, SLICE)) {
            for (id, entry) in &entries {
                let far = !self.state.hides(*id);
                if far && crate::state::Live::decode(entry).is_ok_and(|live| is_gone(&live)) {
                    // It could be decoded just now.
                    let _ = self.state.fetch(*id, entry);
                    gone.push(*id);
                }
            }
            match entries.last() {
                Some((last, _)) => first = MessageId::from_u64(last.as_u64() + 1),
                None => break,
            }
        }
        gone.into_iter().for_each(|id| self.state.forget(id));
    }

    /// Removes body files that nothing names, and notes those that are missing.
    fn sweep(&mut self) -> io::Result<()> {
        let mut missing: BTreeSet<String> =
            self.files.iter().filter(|id| self.is_live(**id)).map(|id| file_name(*id)).collect();
        let bodies: &dyn Disk = &*self.inner.bodies;
        let Report { journal, malformed, .. } = &self.report;
        // What nobody names may be named by what cannot be read.
        let is_sure = !self.unread && journal.damage.is_empty() && malformed.is_empty();
        for name in &self.scope.bodies {
            if !missing.remove(name) && is_sure {
                bodies.unlink(name)?;
                self.report.swept += 1;
            }
        }
        for id in missing.iter().filter_map(|name| name.parse().ok()) {
            tracing::error!(message = %id, "a body file is missing");
            self.report.missing_bodies.push(id);
        }
        Ok(())
    }

    fn is_live(&self, id: MessageId) -> bool {
        if self.state.hides(id) {
            return self.state.live(id).is_some();
        }
        let index = self.index.as_ref();
        index.is_some_and(|index| matches!(index.reader.entry(id), Ok(Some(_))))
    }
}
