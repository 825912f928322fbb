//! What goes to the index, and what need not stay in memory then.
//!
//! A checkpoint takes all that has changed and writes it slice by slice; what
//! happens meanwhile is for the next one. At its end the index says from which
//! fact on the journal is needed besides.

use merpati_types::{MessageId, Timestamp};

use super::State;
use super::live::Live;

/// How a message stands with the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// How many checkpoints have passed it by.
    pub(super) passed: u8,
    /// Of a message that is over: whether the index has it.
    pub(super) indexed: bool,
}

/// A message's new entry for the index, or none if it is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) id: MessageId,
    pub(crate) entry: Option<Vec<u8>>,
    /// The last fact that is in the entry.
    seq: u64,
    /// Whether the index may have an entry of it now.
    pub(crate) indexed: bool,
}

impl State {
    /// Begins a checkpoint: facts below `next` are in it, but for what
    /// [`end_checkpoint`](Self::end_checkpoint) says.
    pub(crate) fn begin_checkpoint(&mut self, next: u64) {
        let dirty = std::mem::take(&mut self.dirty);
        // What an earlier one could not finish comes along.
        self.unwritten.extend(dirty);
        self.needed = next;
    }

    /// Whether nothing has changed that the index does not know.
    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.unwritten.is_empty()
    }

    /// The next changes to be written; none once all are.
    ///
    /// No entry is larger than `limit` octets.
    pub(crate) fn slice(&mut self, most: usize, limit: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < most {
            let Some((id, dirty)) = self.unwritten.pop_first() else { break };
            let Some(live) = self.messages.get(&id) else {
                if dirty.indexed {
                    changes.push(Change { id, entry: None, seq: 0, indexed: true });
                }
                continue;
            };
            // What comes and goes between two checkpoints never enters the index.
            // One with a fact on its way has a number that says nothing of that fact.
            let settled = live.busy == 0 && (dirty.passed > 0 || live.has_stayed());
            match settled.then(|| live.encode(limit)).flatten() {
                Some(entry) => {
                    let (seq, indexed) = (live.seq, live.indexed.is_some() || dirty.indexed);
                    self.dirty.remove(&id);
                    changes.push(Change { id, entry: Some(entry), seq, indexed });
                }
                None => {
                    let known = live.indexed.map_or(live.base_seq, |seq| seq + 1);
                    self.needed = self.needed.min(known);
                    let passed = dirty.passed.saturating_add(1);
                    self.dirty.entry(id).or_default().passed = passed;
                }
            }
        }
        self.writing.extend(changes.iter().map(|change| change.id));
        changes
    }

    /// Notes that a slice is in the index, and lets go of what need not be near: everything
    /// not due before `soon`, or simply everything if more than `resident` messages are near.
    pub(crate) fn written(&mut self, changes: &[Change], soon: Timestamp, resident: usize) {
        for Change { id, entry, seq, .. } in changes {
            self.writing.remove(id);
            match self.messages.get_mut(id) {
                Some(live) => live.indexed = entry.as_ref().map(|_| *seq),
                // It was over meanwhile.
                None => {
                    if let Some(dirty) = self.dirty.get_mut(id) {
                        dirty.indexed = entry.is_some();
                    }
                }
            }
            let crowded = self.messages.len() > resident;
            let unchanged = !self.dirty.contains_key(id);
            if unchanged && self.messages.get(id).is_some_and(|live| live.may_go(soon, crowded)) {
                self.evict(*id);
            }
        }
    }

    /// Notes that a slice is not in the index after all.
    pub(crate) fn unwritten(&mut self, changes: &[Change]) {
        for Change { id, indexed, .. } in changes {
            self.writing.remove(id);
            let dirty = self.dirty.entry(*id).or_default();
            dirty.passed = 1;
            dirty.indexed |= indexed;
        }
    }

    /// Ends a checkpoint: the number from which facts are needed besides.
    pub(crate) fn end_checkpoint(&mut self) -> u64 {
        self.needed
    }

    /// Lets go of what was looked up and is not needed near any more, if more than `resident`
    /// messages are.
    pub(crate) fn thin(&mut self, soon: Timestamp, resident: usize) {
        let surplus = self.messages.len().saturating_sub(resident);
        let known = |id: &MessageId| !self.dirty.contains_key(id) && !self.writing.contains(id);
        let idle = self.messages.iter().filter(|(id, live)| known(id) && live.may_go(soon, true));
        let idle: Vec<MessageId> = idle.map(|(id, _)| *id).take(surplus).collect();
        idle.into_iter().for_each(|id| self.evict(id));
    }

    /// Lets the next checkpoint take everything, however fresh.
    pub(crate) fn mature(&mut self) {
        self.dirty.values_mut().for_each(|dirty| dirty.passed = dirty.passed.max(1));
    }
}

impl Live {
    /// Whether nothing needs it in memory before long.
    fn may_go(&self, soon: Timestamp, crowded: bool) -> bool {
        let near = |parcel: &super::LiveParcel| {
            parcel.lease.is_some()
                || parcel.settling
                || (!crowded && parcel.is_waiting() && parcel.state.due <= soon)
        };
        self.busy == 0 && self.indexed.is_some() && !self.parcels.iter().any(near)
    }
}
