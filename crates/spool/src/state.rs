//! What the spool knows, made from the journal's facts: pure, no disk, no clock.
//!
//! Facts are applied in the journal's order, once while they happen and once
//! more when the journal is read again. A fact whose number is not above the
//! message's own is known already, so an index that is older or newer than the
//! facts replayed over it comes to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use merpati_journal::Position;
use merpati_plugin::spool::{
    Lease, MessageInfo, NextHops, ParcelId, ParcelState as Seen, RecipientResult, Stats,
};
use merpati_types::{MessageId, Timestamp};

use crate::body::Kept;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::fact::{Fact, ParcelState, Place, parcel_id};

mod due;
mod parcel;

use due::DueQueue;
pub(crate) use parcel::LiveParcel;
use parcel::is_over;

/// All messages that have a recipient left, and what is due.
#[derive(Debug, Default)]
pub(crate) struct State {
    messages: BTreeMap<MessageId, Live>,
    due: DueQueue,
    leases: BTreeSet<(Timestamp, ParcelId)>,
    /// Which messages have their own record in which segment.
    bases: BTreeMap<u64, BTreeSet<MessageId>>,
    /// Messages that changed since the last checkpoint, and how many have passed them by.
    dirty: BTreeMap<MessageId, u8>,
    /// The last fencing number given out.
    fence: u64,
}

/// A message with a recipient left.
#[derive(Debug)]
pub(crate) struct Live {
    /// Where its own record is.
    pub(crate) base: Position,
    /// The number of that record.
    pub(crate) base_seq: u64,
    /// The last synced fact that is in here.
    pub(crate) seq: u64,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) parcels: Vec<LiveParcel>,
    /// How many facts about it are on their way to the journal.
    pub(crate) busy: u32,
    /// Kept until its first attempt is over, if there is room.
    pub(crate) fresh: Option<Fresh>,
}

/// What a message that was just accepted need not be read back for.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) info: Arc<MessageInfo>,
    pub(crate) body: Option<Kept>,
}

/// What is needed to read or attempt a parcel, taken out of the lock.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) base: Position,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) fresh: Option<Fresh>,
}

/// A message that is over: what is left to clear away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) id: MessageId,
    pub(crate) place: Place,
}

/// A message's entry for the index, or none if it has none.
pub(crate) type Change = (MessageId, Option<Vec<u8>>);

/// The lease is not, or no longer, the parcel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

impl Live {
    /// Whether it is worth a place in the index: it did not go at once.
    fn has_stayed(&self) -> bool {
        let stays = |p: &LiveParcel| p.state.attempts > 0 || p.state.held.is_some();
        self.parcels.iter().any(stays)
    }

    pub(crate) fn view(&self) -> View {
        let Self { base, size, place, fresh, .. } = self;
        View { base: *base, size: *size, place: *place, fresh: fresh.clone() }
    }

    pub(crate) fn parcel_states(&self) -> Vec<ParcelState> {
        self.parcels.iter().map(|parcel| parcel.state.clone()).collect()
    }

    /// For the index; [`State::restore`] reads it.
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u64(self.base.segment);
        out.u64(self.base.offset);
        out.u32(self.base.meta_len);
        out.u32(self.base.body_len);
        out.u64(self.base_seq);
        out.u64(self.seq);
        out.u64(self.size);
        out.flag(self.place == Place::File);
        out.list(self.parcels.iter(), |out, parcel| parcel.state.encode(out));
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder(bytes);
        Ok(Self {
            base: Position {
                segment: from.u64()?,
                offset: from.u64()?,
                meta_len: from.u32()?,
                body_len: from.u32()?,
            },
            base_seq: from.u64()?,
            seq: from.u64()?,
            size: from.u64()?,
            place: if from.flag()? { Place::File } else { Place::Inline },
            parcels: from.list(ParcelState::decode)?.into_iter().map(LiveParcel::new).collect(),
            busy: 0,
            fresh: None,
        })
    }
}

impl State {
    /// Takes in a fact that the journal has, unless it is known from the index.
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
                self.insert(id, Live::at(seq, position, info.size, place, parcels, fresh));
                None
            }
            Fact::Copy { info, place, parcels } => {
                self.move_to(seq, position, id, info.size, place, parcels);
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

    /// Takes a message from the index.
    ///
    /// # Errors
    /// The entry makes no sense: the index is no good.
    pub(crate) fn restore(&mut self, id: MessageId, bytes: &[u8]) -> Result<(), Malformed> {
        let live = Live::decode(bytes)?;
        self.insert(id, live);
        self.dirty.remove(&id);
        Ok(())
    }

    /// Notes where a copy of the message's own record is from now on.
    ///
    /// What happened to the message since the copy was made stays as it is.
    pub(crate) fn moved(&mut self, seq: u64, position: Position, id: MessageId) {
        let Some(live) = self.messages.get_mut(&id) else { return };
        let from = std::mem::replace(&mut live.base, position).segment;
        live.base_seq = seq;
        live.seq = live.seq.max(seq);
        self.unbase(from, id);
        self.bases.entry(position.segment).or_default().insert(id);
        self.dirty.entry(id).or_insert(1);
    }

    /// Forgets messages whose own record is in a segment that is gone: they were over.
    pub(crate) fn retain_segments(&mut self, there: &BTreeSet<u64>) {
        let gone: Vec<u64> = self.bases.keys().copied().filter(|s| !there.contains(s)).collect();
        for segment in gone {
            for id in self.bases.remove(&segment).unwrap_or_default() {
                self.finish(id);
            }
        }
    }

    /// What changed since the last call, for the index: an entry, or none if the message is
    /// over; and the number from which facts are needed besides.
    pub(crate) fn changes(&mut self, limit: usize) -> (Vec<Change>, u64) {
        let mut needed = u64::MAX;
        let mut out = Vec::new();
        let mut left = BTreeMap::new();
        for (id, passed) in std::mem::take(&mut self.dirty) {
            let Some(live) = self.messages.get(&id) else {
                out.push((id, None));
                continue;
            };
            // What comes and goes between two checkpoints never enters the index.
            // One with a fact on its way has a number that says nothing of that fact.
            let settled = live.busy == 0 && (passed > 0 || live.has_stayed());
            let entry = settled.then(|| live.encode());
            match entry.filter(|entry| entry.len() <= limit) {
                Some(entry) => out.push((id, Some(entry))),
                None => {
                    needed = needed.min(live.base_seq);
                    left.insert(id, passed.saturating_add(1));
                    // An older entry of it would be passed over its own facts.
                    out.push((id, None));
                }
            }
        }
        self.dirty = left;
        (out, needed)
    }

    /// Makes messages count as changed that no checkpoint has taken after all.
    pub(crate) fn touch(&mut self, ids: &[MessageId]) {
        for id in ids {
            self.dirty.entry(*id).or_insert(1);
        }
    }

    /// Lets the next checkpoint take everything, however fresh.
    pub(crate) fn mature(&mut self) {
        self.dirty.values_mut().for_each(|passed| *passed = 1);
    }

    /// Octets of the journal that messages need.
    pub(crate) fn octets_in_journal(&self) -> u64 {
        let octets = |live: &Live| u64::from(live.base.meta_len) + u64::from(live.base.body_len);
        self.messages.values().map(octets).sum()
    }

    pub(crate) fn live(&self, id: MessageId) -> Option<&Live> {
        self.messages.get(&id)
    }

    pub(crate) fn parcel(&self, id: ParcelId) -> Option<&LiveParcel> {
        self.messages.get(&id.message)?.parcels.get(id.number as usize)
    }

    /// All parcels after `after` with a recipient left, in order.
    pub(crate) fn parcels(
        &self,
        after: Option<ParcelId>,
    ) -> impl Iterator<Item = (ParcelId, &Live, &LiveParcel)> {
        let start = after.map_or(MessageId::from_u64(0), |after| after.message);
        self.messages.range(start..).flat_map(move |(&id, live)| {
            let parcels = live.parcels.iter().enumerate();
            parcels
                .map(move |(place, parcel)| (parcel_id(id, place), live, parcel))
                .filter(move |(id, _, p)| after < Some(*id) && !p.state.pending.is_empty())
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for live in self.messages.values() {
            stats.messages += 1;
            stats.bytes += live.size;
            for parcel in live.parcels.iter().filter(|p| !p.state.pending.is_empty()) {
                *match parcel.seen() {
                    Seen::Active => &mut stats.active,
                    Seen::Deferred => &mut stats.deferred,
                    Seen::Held => &mut stats.held,
                    Seen::Leased => &mut stats.leased,
                } += 1;
            }
        }
        stats
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

    /// The oldest segment that some message has its own record in.
    pub(crate) fn oldest_base(&self) -> Option<u64> {
        self.bases.keys().next().copied()
    }

    /// Messages whose own record is in this segment.
    pub(crate) fn based_in(&self, segment: u64) -> Vec<MessageId> {
        self.bases.get(&segment).map(|ids| ids.iter().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (MessageId, &Live)> {
        self.messages.iter().map(|(id, live)| (*id, live))
    }
}

/// Leases.
impl State {
    /// Begins fencing numbers above all that an earlier process may have given out.
    pub(crate) fn fence_from(&mut self, fence: u64) {
        self.fence = self.fence.max(fence);
    }

    /// Leases due parcels, leases that have ended included.
    pub(crate) fn lease(
        &mut self,
        now: Timestamp,
        until: Timestamp,
        hops: &NextHops,
        most: usize,
    ) -> Vec<Lease> {
        self.end_leases(now);
        let due = self.due.due(now, hops, most);
        let mut leases = Vec::with_capacity(due.len());
        for id in due {
            self.fence += 1;
            let fence = self.fence;
            self.edit(id, |parcel| parcel.lease = Some((fence, until)));
            leases.push(Lease { parcel: id, fence, until });
        }
        leases
    }

    pub(crate) fn renew(&mut self, lease: &Lease, until: Timestamp) -> Result<(), Stale> {
        self.check(lease)?;
        self.edit(lease.parcel, |parcel| parcel.lease = Some((lease.fence, until)));
        Ok(())
    }

    pub(crate) fn release(&mut self, lease: &Lease, due: Timestamp) -> Result<(), Stale> {
        self.check(lease)?;
        self.edit(lease.parcel, |parcel| {
            parcel.lease = None;
            parcel.state.due = due;
        });
        Ok(())
    }

    /// Whether the lease is the parcel's.
    pub(crate) fn check(&self, lease: &Lease) -> Result<(), Stale> {
        let parcel = self.parcel(lease.parcel).ok_or(Stale)?;
        match parcel.lease {
            Some((fence, _)) if fence == lease.fence && !parcel.settling => Ok(()),
            _ => Err(Stale),
        }
    }

    /// The fact that a settlement is, now on its way: the lease stays until
    /// [`settled`](Self::settled).
    pub(crate) fn settle(
        &mut self,
        lease: &Lease,
        results: Vec<(u32, RecipientResult)>,
        retry_at: Timestamp,
        warned: bool,
    ) -> Result<Fact, Stale> {
        self.check(lease)?;
        let id = lease.parcel;
        self.edit(id, |parcel| parcel.settling = true);
        let others_left = |live: &Live| {
            let others = live.parcels.iter().enumerate();
            others.filter(|(n, _)| *n != id.number as usize).any(|(_, p)| p.has_pending())
        };
        let over = self.messages.get(&id.message).is_some_and(|live| {
            let parcel = &live.parcels[id.number as usize];
            parcel.state.pending.iter().all(|place| is_over(&results, *place)) && !others_left(live)
        });
        let outcome = Fact::Outcome { number: id.number, results, retry_at, warned };
        Ok(if over { Fact::Done } else { outcome })
    }

    /// The settlement has failed: the lease is as before.
    pub(crate) fn unsettle(&mut self, id: ParcelId) {
        self.edit(id, |parcel| parcel.settling = false);
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
            live.busy -= 1;
        }
    }

    fn end_leases(&mut self, now: Timestamp) {
        let ended: Vec<ParcelId> =
            self.leases.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect();
        for id in ended {
            if self.parcel(id).is_some_and(|parcel| !parcel.settling) {
                self.edit(id, |parcel| parcel.lease = None);
            }
        }
    }
}

/// Changes that keep the queues true.
impl State {
    fn insert(&mut self, id: MessageId, live: Live) {
        self.finish(id);
        self.dirty.insert(id, 0);
        self.bases.entry(live.base.segment).or_default().insert(id);
        for (place, parcel) in live.parcels.iter().enumerate().filter(|(_, p)| p.is_waiting()) {
            let state = &parcel.state;
            self.due.insert(&state.next_hop, state.due, parcel_id(id, place));
        }
        self.messages.insert(id, live);
    }

    fn move_to(
        &mut self,
        seq: u64,
        position: Position,
        id: MessageId,
        size: u64,
        place: Place,
        parcels: Vec<ParcelState>,
    ) {
        if !self.messages.contains_key(&id) {
            self.insert(id, Live::at(seq, position, size, place, parcels, None));
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
        self.dirty.entry(id).or_insert(0);
        let over = !live.parcels.iter().any(LiveParcel::has_pending);
        if over { self.finish(id) } else { None }
    }

    /// Changes a parcel and where it stands in the queues.
    fn edit(&mut self, id: ParcelId, change: impl FnOnce(&mut LiveParcel)) {
        let live = self.messages.get_mut(&id.message);
        let Some(parcel) = live.and_then(|live| live.parcels.get_mut(id.number as usize)) else {
            return;
        };
        if parcel.is_waiting() {
            self.due.remove(&parcel.state.next_hop, parcel.state.due, id);
        }
        if let Some((_, until)) = parcel.lease {
            self.leases.remove(&(until, id));
        }
        change(parcel);
        if parcel.is_waiting() {
            self.due.insert(&parcel.state.next_hop, parcel.state.due, id);
        }
        if let Some((_, until)) = parcel.lease {
            self.leases.insert((until, id));
        }
    }

    fn finish(&mut self, id: MessageId) -> Option<Finished> {
        let live = self.messages.remove(&id)?;
        for (place, parcel) in live.parcels.iter().enumerate() {
            let id = parcel_id(id, place);
            if parcel.is_waiting() {
                self.due.remove(&parcel.state.next_hop, parcel.state.due, id);
            }
            if let Some((_, until)) = parcel.lease {
                self.leases.remove(&(until, id));
            }
        }
        self.unbase(live.base.segment, id);
        self.dirty.insert(id, 0);
        Some(Finished { id, place: live.place })
    }

    fn unbase(&mut self, segment: u64, id: MessageId) {
        if let Some(ids) = self.bases.get_mut(&segment) {
            ids.remove(&id);
            if ids.is_empty() {
                self.bases.remove(&segment);
            }
        }
    }
}

impl Live {
    fn at(
        seq: u64,
        base: Position,
        size: u64,
        place: Place,
        parcels: Vec<ParcelState>,
        fresh: Option<Fresh>,
    ) -> Self {
        let parcels = parcels.into_iter().map(LiveParcel::new).collect();
        Self { base, base_seq: seq, seq, size, place, parcels, busy: 0, fresh }
    }
}
