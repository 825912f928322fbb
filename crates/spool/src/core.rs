//! The state together with what is on its way to the journal.

use std::collections::BTreeMap;

use merpati_journal::{AppendError, Appended, Journal, Ticket};
use merpati_plugin::spool::{ParcelId, SpoolError};
use merpati_types::{MessageId, Timestamp};

use crate::fact::{Fact, Place};
use crate::state::{Fresh, State};

/// All that is behind the spool's one lock, which is never held over a wait.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub(crate) state: State,
    /// Body files of messages that are over.
    pub(crate) cleared: Vec<MessageId>,
    /// The time of the last lease that found less than it asked for, while nothing has
    /// become due since.
    pub(crate) dry: Option<Timestamp>,
    /// The highest number that was taken in.
    pub(crate) highest: u64,
    flights: BTreeMap<u64, Floor>,
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
    pub(crate) fn new(state: State, highest: u64) -> Self {
        Self { state, highest, ..Self::default() }
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
        self.flights.insert(number, floor);
        facts.iter().for_each(|flying| self.state.begin(flying.id));
        Flight { ticket: Some(append()), number, facts, settles }
    }

    /// Takes in what became of a flight; tells if anything may have become due.
    pub(crate) fn land(&mut self, flight: Flight, result: Result<&Appended, &AppendError>) -> bool {
        self.flights.remove(&flight.number);
        flight.facts.iter().for_each(|flying| self.state.end(flying.id));
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => {
                flight.settles.into_iter().for_each(|parcel| self.state.unsettle(parcel));
                // After a failed sync the record may be there yet: its file stays until the
                // next start knows.
                if !matches!(error, AppendError::Failed(_)) {
                    let files = flight.facts.iter().filter(|flying| flying.fact.has_file());
                    self.cleared.extend(files.map(|flying| flying.id));
                }
                return false;
            }
        };
        self.highest = self.highest.max(appended.last);
        let first = appended.last + 1 - flight.facts.len() as u64;
        let mut due = false;
        for ((flying, seq), &position) in
            flight.facts.into_iter().zip(first..).zip(&appended.positions)
        {
            let Flying { id, fact, fresh } = flying;
            due |= !matches!(fact, Fact::Done | Fact::Attempt { .. } | Fact::Copy { .. });
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
        self.flights.values().next().copied()
    }
}

/// What the spool says of a failed append.
pub(crate) fn append_error(error: &AppendError) -> SpoolError {
    match error {
        AppendError::Full => SpoolError::Full { reason: "no space for the journal".into() },
        error => SpoolError::Unavailable(std::io::Error::other(error.clone())),
    }
}
