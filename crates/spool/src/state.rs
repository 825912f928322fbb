//! What the spool knows, made from the journal's facts: pure, no disk, no clock.
//!
//! Facts are applied in the journal's order, once while they happen and once
//! more when the journal is read again. A fact whose number is not above the
//! message's own is known already, so an index that is older or newer than the
//! facts replayed over it comes to the same.
//!
//! A message is *near* while it is in memory, and *far* while only the index has
//! it. What happens to a message happens to a near one; counts and queues know
//! of both.

use std::collections::{BTreeMap, BTreeSet};

use merpati_journal::Position;
use merpati_plugin::spool::{MessageInfo, ParcelId, Queued, Share, Stats};
use merpati_types::{MessageId, Timestamp};

use crate::codec::Malformed;
use crate::fact::{Fact, ParcelState, Place, parcel_id};

mod checkpoint;
mod due;
mod lease;
mod live;
mod parcel;
mod tally;

pub(crate) use checkpoint::Change;
use checkpoint::Dirty;
pub(crate) use due::LaneKey;
use due::{DueQueue, GroupKey, Slot};
pub(crate) use lease::Stale;
pub(crate) use live::{Finished, Fresh, Live, View};
pub(crate) use parcel::LiveParcel;
use tally::Tally;

/// All messages that have a recipient left, and what is due.
#[derive(Debug, Default)]
pub(crate) struct State {
    messages: BTreeMap<MessageId, Live>,
    due: DueQueue,
    leases: BTreeSet<(Timestamp, ParcelId)>,
    tally: Tally,
    /// Messages that changed since the last checkpoint began.
    dirty: BTreeMap<MessageId, Dirty>,
    /// Messages that the checkpoint under way has still to write.
    unwritten: BTreeMap<MessageId, Dirty>,
    /// Messages that are being written to the index now.
    writing: BTreeSet<MessageId>,
    /// From which fact on the checkpoint under way leaves something to be replayed.
    needed: u64,
    /// How many messages went from near to far.
    evictions: u64,
    /// The last fencing number given out.
    fence: u64,
}

impl State {
    /// Takes in a fact that the journal has, unless it is known from the index. The message
    /// must be near, if the index has it.
    pub(crate) fn replay(&mut self, seq: u64, position: Position, id: MessageId, fact: Fact) {
        if self.messages.get(&id).is_none_or(|live| seq > live.seq) {
            self.apply(seq, position, id, fact, None);
        }
    }

    /// Takes a fact in; tells if that was the end of the message.
    pub(crate) fn apply(
        &mut self,
        seq: u64,
        position: Position,
        id: MessageId,
        fact: Fact,
        fresh: Option<Fresh>,
    ) -> Option<Finished> {
        match fact {
            Fact::Message { info, place } => {
                let parcels = ParcelState::of(&info.message);
                self.insert(id, Live::at(seq, position, &info, place, parcels, fresh));
                None
            }
            Fact::Copy { info, place, parcels } => {
                self.move_to(seq, position, id, &info, place, parcels);
                None
            }
            Fact::Attempt { number, remote } => {
                // Not synced: another fact may come to have its number after a power cut, so
                // the message's own number stays.
                self.change(id, number, None, |parcel| parcel.state.unknown_at = Some(remote))
            }
            Fact::Outcome { number, results, retry_at, warned } => {
                self.change(id, number, Some(seq), |parcel| {
                    parcel.settle(&results, retry_at, warned);
                })
            }
            Fact::Mark { number, mark } => {
                self.change(id, number, Some(seq), |parcel| parcel.mark(mark))
            }
            Fact::Done => self.finish(id),
        }
    }

    /// Notes where a copy of the message's own record is from now on.
    ///
    /// What happened to the message since the copy was made stays as it is.
    pub(crate) fn moved(&mut self, seq: u64, position: Position, id: MessageId) {
        let Some(live) = self.messages.get_mut(&id) else { return };
        let octets = live.octets();
        let from = std::mem::replace(&mut live.base, position).segment;
        live.base_seq = seq;
        live.seq = live.seq.max(seq);
        self.tally.rebase(live, from, octets);
        self.dirty.entry(id).or_default().passed = 1;
    }

    /// The message, if it is near.
    pub(crate) fn live(&self, id: MessageId) -> Option<&Live> {
        self.messages.get(&id)
    }

    /// The parcel, if it is near.
    pub(crate) fn parcel(&self, id: ParcelId) -> Option<&LiveParcel> {
        self.messages.get(&id.message)?.parcels.get(id.number as usize)
    }

    /// Near messages from `first` to `last`, in order.
    pub(crate) fn near(
        &self,
        first: MessageId,
        last: MessageId,
    ) -> impl Iterator<Item = (MessageId, &Live)> {
        self.messages.range(first..=last).map(|(id, live)| (*id, live))
    }

    /// Grows whenever a message goes from near to far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// How many messages are in memory.
    pub(crate) fn near_count(&self) -> usize {
        self.messages.len()
    }

    /// How many messages the next checkpoint has to look at.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.tally.stats()
    }

    pub(crate) fn queued(&self, share: Share<'_>) -> Queued {
        self.tally.queued(share)
    }

    /// Octets of the journal that messages need.
    pub(crate) fn octets_in_journal(&self) -> u64 {
        self.tally.octets()
    }

    /// When something is due, or a lease ends, later than `after` if that is given.
    pub(crate) fn next_event(&self, after: Option<Timestamp>) -> Option<Timestamp> {
        let lease = self.leases.first().map(|(until, _)| *until);
        let due = match after {
            None => self.due.earliest(),
            Some(after) => self.due.next_after(after),
        };
        due.into_iter().chain(lease).min()
    }

    /// The segments that some message has its own record in, oldest first.
    pub(crate) fn segments(&self) -> impl Iterator<Item = u64> {
        self.tally.segments().map(|(segment, _)| segment)
    }

    /// Notes that a fact about the message is on its way to the journal.
    pub(crate) fn begin(&mut self, id: MessageId) {
        if let Some(live) = self.messages.get_mut(&id) {
            live.busy += 1;
        }
    }

    /// Notes that it has arrived, or failed.
    pub(crate) fn end(&mut self, id: MessageId) {
        if let Some(live) = self.messages.get_mut(&id) {
            live.busy = live.busy.saturating_sub(1);
        }
    }
}

/// Messages that the index has.
impl State {
    /// Whether what the index says of the message is out of date.
    pub(crate) fn hides(&self, id: MessageId) -> bool {
        self.messages.contains_key(&id)
            || self.dirty.contains_key(&id)
            || self.unwritten.contains_key(&id)
            || self.writing.contains(&id)
    }

    /// Counts a message that only the index has.
    pub(crate) fn count_far(&mut self, id: MessageId, live: &Live) {
        self.tally.add(live);
        for (lane, slot) in waiting(id, live) {
            self.due.add_far(&lane, slot);
        }
    }

    /// Brings a far message near; nothing if it is near or over already.
    ///
    /// # Errors
    /// The entry makes no sense: the index is no good.
    pub(crate) fn fetch(&mut self, id: MessageId, entry: &[u8]) -> Result<(), Malformed> {
        if self.hides(id) {
            return Ok(());
        }
        let mut live = Live::decode(entry)?;
        live.indexed = Some(live.seq);
        for (lane, slot) in waiting(id, &live) {
            self.due.remove_far(&lane);
            self.due.insert(&lane, slot);
        }
        self.messages.insert(id, live);
        Ok(())
    }

    /// Where the parcels of a lane begin that only the index has, if there are any.
    pub(crate) fn far_from(&self, lane: &LaneKey) -> Option<Slot> {
        self.due.far_from(lane)
    }

    /// Notes that none of a lane's far parcels comes before this.
    pub(crate) fn advance_far(&mut self, lane: &LaneKey, from: Slot) {
        self.due.advance_far(lane, from);
    }

    /// Takes over all that another state has; they have no message in common.
    pub(crate) fn absorb(&mut self, other: Self) {
        debug_assert!(other.leases.is_empty(), "nobody leases from what is being read");
        self.messages.extend(other.messages);
        self.due.absorb(other.due);
        self.tally.absorb(other.tally);
        self.dirty.extend(other.dirty);
        self.fence = self.fence.max(other.fence);
        // Pages that were read before knew nothing of these.
        self.evictions += other.evictions + 1;
    }

    /// Takes a message that is near out of memory: the index has it.
    fn evict(&mut self, id: MessageId) {
        let Some(live) = self.messages.remove(&id) else { return };
        self.evictions += 1;
        for (lane, slot) in waiting(id, &live) {
            self.due.remove(&lane, slot);
            self.due.add_far(&lane, slot);
        }
    }

    /// Begins anew without an index: what is near stays, what is far is for whoever reads the
    /// journal again. Answers what is near.
    pub(crate) fn lose_index(&mut self) -> BTreeSet<MessageId> {
        let Self { messages, leases, fence, evictions, .. } = std::mem::take(self);
        (self.leases, self.fence, self.evictions) = (leases, fence, evictions + 1);
        for (id, mut live) in messages {
            live.indexed = None;
            self.tally.add(&live);
            for (lane, slot) in waiting(id, &live) {
                self.due.insert(&lane, slot);
            }
            self.dirty.insert(id, Dirty { passed: 1, indexed: false });
            self.messages.insert(id, live);
        }
        self.messages.keys().copied().collect()
    }

    /// Forgets a message that is over although no fact says so any more.
    pub(crate) fn forget(&mut self, id: MessageId) {
        self.finish(id);
    }
}

/// Changes that keep counts and queues true.
impl State {
    fn insert(&mut self, id: MessageId, live: Live) {
        self.finish(id);
        self.dirty.entry(id).or_default();
        self.tally.add(&live);
        for (lane, slot) in waiting(id, &live) {
            self.due.insert(&lane, slot);
        }
        self.messages.insert(id, live);
    }

    fn move_to(
        &mut self,
        seq: u64,
        position: Position,
        id: MessageId,
        info: &MessageInfo,
        place: Place,
        parcels: Vec<ParcelState>,
    ) {
        if !self.messages.contains_key(&id) {
            self.insert(id, Live::at(seq, position, info, place, parcels, None));
            return;
        }
        self.moved(seq, position, id);
        for (place, state) in parcels.into_iter().enumerate() {
            self.edit(parcel_id(id, place), |parcel| {
                // The same but where a fact that led to it was lost to damage.
                if !parcel.state.has_same_facts(&state) {
                    parcel.state = state;
                }
            });
        }
    }

    /// Changes a parcel by a fact; `seq` is its number if it is synced.
    fn change(
        &mut self,
        id: MessageId,
        number: u32,
        seq: Option<u64>,
        change: impl FnOnce(&mut LiveParcel),
    ) -> Option<Finished> {
        self.edit(ParcelId { message: id, number }, change);
        let live = self.messages.get_mut(&id)?;
        if let Some(seq) = seq {
            live.seq = live.seq.max(seq);
        }
        if live.has_stayed() {
            live.fresh = None;
        }
        self.dirty.entry(id).or_default();
        let over = !live.parcels.iter().any(LiveParcel::has_pending);
        if over { self.finish(id) } else { None }
    }

    /// Changes a parcel, how it is counted, and where it stands in the queues.
    fn edit(&mut self, id: ParcelId, change: impl FnOnce(&mut LiveParcel)) {
        let Some(live) = self.messages.get_mut(&id.message) else { return };
        let (size, group) = (live.size, group(live));
        let Some(parcel) = live.parcels.get_mut(id.number as usize) else { return };
        let lane = LaneKey { group, hop: parcel.state.next_hop.clone() };
        if parcel.is_waiting() {
            self.due.remove(&lane, (parcel.state.due, id));
        }
        if let Some((_, until)) = parcel.lease {
            self.leases.remove(&(until, id));
        }
        self.tally.remove_parcel(parcel, size);
        change(parcel);
        self.tally.add_parcel(parcel, size);
        if parcel.is_waiting() {
            self.due.insert(&lane, (parcel.state.due, id));
        }
        if let Some((_, until)) = parcel.lease {
            self.leases.insert((until, id));
        }
    }

    fn finish(&mut self, id: MessageId) -> Option<Finished> {
        let live = self.messages.remove(&id)?;
        for (lane, slot) in waiting(id, &live) {
            self.due.remove(&lane, slot);
        }
        for (place, parcel) in live.parcels.iter().enumerate() {
            if let Some((_, until)) = parcel.lease {
                self.leases.remove(&(until, parcel_id(id, place)));
            }
        }
        self.tally.remove(&live);
        // What never came to the index need not be taken out of it.
        if live.indexed.is_some() || self.writing.contains(&id) {
            self.dirty.insert(id, Dirty { passed: 0, indexed: live.indexed.is_some() });
        } else {
            self.dirty.remove(&id);
        }
        Some(Finished { id, place: live.place })
    }
}

fn group(live: &Live) -> GroupKey {
    GroupKey { flow: live.whose.flow, priority: live.whose.priority }
}

/// Where a message's parcels wait.
fn waiting(id: MessageId, live: &Live) -> impl Iterator<Item = (LaneKey, Slot)> {
    let group = group(live);
    let parcels = live.parcels.iter().enumerate().filter(|(_, parcel)| parcel.is_waiting());
    parcels.map(move |(place, parcel)| {
        let lane = LaneKey { group, hop: parcel.state.next_hop.clone() };
        (lane, (parcel.state.due, parcel_id(id, place)))
    })
}

/// The lanes and slots of a message, for the index.
pub(crate) fn slots(id: MessageId, live: &Live) -> Vec<(LaneKey, Slot)> {
    waiting(id, live).collect()
}
