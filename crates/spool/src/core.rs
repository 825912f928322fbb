//! The state together with what is on its way to the journal.

use std::collections::{BTreeMap, BTreeSet};

use merpati_journal::{AppendError, Appended, Journal, Ticket};
use merpati_plugin::spool::{ParcelId, SpoolError};
use merpati_store::StoreError;
use merpati_types::{MessageId, Timestamp};

use crate::codec::Malformed;
use crate::fact::{Fact, Place};
use crate::index::IndexReader;
use crate::repeats::Repeats;
use crate::state::{Fresh, LaneKey, Live, State, View};

/// How many parcels of a lane are brought into memory at once.
const PAGE: usize = 128;

/// The index cannot be used any more: it is to be made anew.
#[derive(Debug, thiserror::Error)]
#[error("the spool's index is no good: {0}")]
pub(crate) struct BadIndex(String);

/// All that is behind the spool's one lock, which is held over no wait but that for a page of
/// the index.
#[derive(Default)]
pub(crate) struct Core {
    pub(crate) state: State,
    /// What finds messages that are not in memory, once it is there.
    pub(crate) index: Option<IndexReader>,
    pub(crate) repeats: Repeats,
    /// A checkpoint has been asked for.
    pub(crate) asked: bool,
    /// Why the last append failed, if it did.
    pub(crate) trouble: Option<AppendError>,
    /// Body files of messages that are over.
    pub(crate) cleared: Vec<MessageId>,
    /// Body files of messages that were refused although their record may be on the disk:
    /// until something is kept in a newer segment than this, a crash may find them accepted.
    doubtful: Vec<(u64, MessageId)>,
    /// The time of the last lease that found less than it asked for, while nothing has
    /// become due since.
    pub(crate) dry: Option<Timestamp>,
    /// The highest number that was taken in.
    pub(crate) highest: u64,
    flights: BTreeMap<u64, (Floor, Vec<MessageId>)>,
    next_flight: u64,
}

/// Where facts on their way can be at the lowest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// Their numbers are above this one.
    pub(crate) seq: u64,
    /// They are in no older segment.
    pub(crate) segment: u64,
}

/// Facts that are being appended as one, and what follows.
pub(crate) struct Flight {
    pub(crate) ticket: Option<Ticket<Appended>>,
    number: u64,
    pub(crate) facts: Vec<Flying>,
    /// The parcel whose lease they settle.
    pub(crate) settles: Option<ParcelId>,
}

/// One fact on its way.
pub(crate) struct Flying {
    pub(crate) id: MessageId,
    pub(crate) fact: Fact,
    pub(crate) fresh: Option<Fresh>,
}

impl Flying {
    pub(crate) fn new(id: MessageId, fact: Fact) -> Self {
        Self { id, fact, fresh: None }
    }
}

impl Core {
    pub(crate) fn new(highest: u64, fence: u64, repeats: Repeats) -> Self {
        let mut core = Self { highest, repeats, ..Self::default() };
        core.state.fence_from(fence);
        core
    }

    /// Notes that facts are on their way. `append` queues them while the lock is held, so
    /// that facts about one message are in the journal in the order of these calls.
    pub(crate) fn launch(
        &mut self,
        journal: &Journal,
        facts: Vec<Flying>,
        settles: Option<ParcelId>,
        append: impl FnOnce() -> Ticket<Appended>,
    ) -> Flight {
        let number = self.next_flight;
        self.next_flight += 1;
        let floor = Floor { seq: journal.synced(), segment: journal.reader().newest() };
        self.flights.insert(number, (floor, facts.iter().map(|flying| flying.id).collect()));
        facts.iter().for_each(|flying| self.state.begin(flying.id));
        Flight { ticket: Some(append()), number, facts, settles }
    }

    /// Takes in what became of a flight, when `newest` is the newest segment; tells if anything
    /// may have become due.
    pub(crate) fn land(
        &mut self,
        flight: Flight,
        result: Result<&Appended, &AppendError>,
        newest: u64,
    ) -> bool {
        self.flights.remove(&flight.number);
        flight.facts.iter().for_each(|flying| self.state.end(flying.id));
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => {
                self.trouble = Some(error.clone());
                flight.settles.into_iter().for_each(|parcel| self.state.unsettle(parcel));
                let files = flight.facts.iter().filter(|flying| flying.fact.has_file());
                self.doubtful.extend(files.map(|flying| (newest, flying.id)));
                return false;
            }
        };
        self.trouble = None;
        let segment = appended.positions.first().map_or(0, |position| position.segment);
        let cleared = self.doubtful.extract_if(.., |(refused, _)| *refused < segment);
        self.cleared.extend(cleared.map(|(_, id)| id));
        self.highest = self.highest.max(appended.last);
        let first = appended.last + 1 - flight.facts.len() as u64;
        let mut due = false;
        for ((flying, seq), &position) in
            flight.facts.into_iter().zip(first..).zip(&appended.positions)
        {
            let Flying { id, fact, fresh } = flying;
            due |= !matches!(fact, Fact::Done | Fact::Attempt { .. } | Fact::Copy { .. });
            if let Fact::Message { info, .. } = &fact
                && let Some(key) = info.message.origin.repeat
            {
                self.repeats.note(key, id, info.message.arrived);
            }
            if matches!(fact, Fact::Copy { .. }) {
                self.state.moved(seq, position, id);
            } else if let Some(over) = self.state.apply(seq, position, id, fact, fresh)
                && over.place == Place::File
            {
                self.cleared.push(over.id);
            }
        }
        if due {
            self.dry = None;
        }
        due
    }

    /// The lowest place of all that is on its way, if anything is.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.flights.values().next().map(|(floor, _)| *floor)
    }

    /// The messages that facts are on their way about.
    pub(crate) fn in_flight(&self) -> BTreeSet<MessageId> {
        self.flights.values().flat_map(|(_, ids)| ids).copied().collect()
    }
}

/// Messages that are not in memory.
impl Core {
    /// Brings a message into memory, if it is live and only the index has it.
    pub(crate) fn fetch(&mut self, id: MessageId) -> Result<(), BadIndex> {
        if self.state.hides(id) {
            return Ok(());
        }
        let Some(index) = &self.index else { return Ok(()) };
        if let Some(entry) = index.entry(id)? {
            self.state.fetch(id, &entry)?;
        }
        Ok(())
    }

    /// What is needed to read a message, wherever it is.
    pub(crate) fn view(&self, id: MessageId) -> Result<Option<View>, BadIndex> {
        if let Some(live) = self.state.live(id) {
            return Ok(Some(live.view()));
        }
        let Some(index) = self.index.as_ref().filter(|_| !self.state.hides(id)) else {
            return Ok(None);
        };
        let entry = index.entry(id)?;
        Ok(entry.map(|entry| Live::decode(&entry)).transpose()?.map(|live| live.view()))
    }

    /// Brings the next parcels of a lane into memory; tells if there may be more to find.
    pub(crate) fn fill(&mut self, lane: &LaneKey) -> Result<bool, BadIndex> {
        let (Some(from), Some(index)) = (self.state.far_from(lane), self.index.clone()) else {
            return Ok(false);
        };
        let found = index.waiting(lane, from, PAGE)?;
        for (_, parcel) in &found {
            if !self.state.hides(parcel.message) {
                let entry = index.entry(parcel.message)?;
                let entry = entry.ok_or_else(|| BadIndex("a message is missing".into()))?;
                self.state.fetch(parcel.message, &entry)?;
            }
        }
        match found.last() {
            Some(&(due, last)) if found.len() == PAGE => {
                let next = ParcelId { number: last.number.saturating_add(1), ..last };
                self.state.advance_far(lane, (due, next));
            }
            _ if self.state.far_from(lane).is_some() => {
                return Err(BadIndex("a parcel is missing".into()));
            }
            _ => {}
        }
        Ok(!found.is_empty())
    }
}

impl From<StoreError> for BadIndex {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<Malformed> for BadIndex {
    fn from(error: Malformed) -> Self {
        Self(error.to_string())
    }
}

/// What the spool says of a failed append.
pub(crate) fn append_error(error: &AppendError) -> SpoolError {
    match error {
        AppendError::Full => SpoolError::Full { reason: "no space for the journal".into() },
        error => SpoolError::Unavailable(std::io::Error::other(error.clone())),
    }
}
