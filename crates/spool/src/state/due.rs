//! Which parcels are due when: fair between senders, and no next hop hides another.
//!
//! Parcels of one sender and priority form a *group*, and within it those of one
//! next hop a *lane*. What is due soon is in memory; of the rest a lane knows
//! only how many there are and from when on, and asks for the next of them when
//! it comes to that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use merpati_plugin::spool::{Flow, NextHop, NextHops, ParcelId};
use merpati_types::{MessageId, Timestamp};

/// The most lanes that are asked to be filled from the index at once.
const WANTED: usize = 16;

/// A sender's mail of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) flow: Flow,
    pub(crate) priority: i8,
}

/// A group's mail for one next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) group: GroupKey,
    pub(crate) hop: NextHop,
}

/// When a parcel is due, and which: the order within a lane.
pub(crate) type Slot = (Timestamp, ParcelId);

/// What may be leased, and which lanes need more of theirs in memory first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) parcels: Vec<ParcelId>,
    pub(crate) wanted: Vec<LaneKey>,
}

/// All parcels that wait, by group and lane.
#[derive(Debug, Default)]
pub(crate) struct DueQueue {
    groups: BTreeMap<GroupKey, Group>,
    /// Groups by their earliest parcel.
    order: BTreeSet<(Timestamp, GroupKey)>,
    /// The service given so far: no group that comes anew begins below it.
    served: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// The service it has had.
    served: u64,
    lanes: BTreeMap<NextHop, Lane>,
    /// Lanes by their earliest parcel.
    order: BTreeSet<(Timestamp, NextHop)>,
}

#[derive(Debug, Default)]
struct Lane {
    near: BTreeSet<Slot>,
    far: Option<Far>,
}

/// Parcels of a lane that are in the index only.
#[derive(Debug, Clone, Copy)]
struct Far {
    count: u64,
    /// None of them comes before this.
    from: Slot,
}

impl GroupKey {
    /// What one of its parcels counts as service: the less, the more of them come to their
    /// turn. From lowest to highest priority the shares are as 1 to 512.
    fn cost(self) -> u64 {
        1 << ((9 - i32::from(self.priority.clamp(-9, 9))) / 2)
    }
}

impl Lane {
    fn head(&self) -> Option<Timestamp> {
        let near = self.near.first().map(|slot| slot.0);
        near.into_iter().chain(self.far.map(|far| far.from.0)).min()
    }
}

impl Group {
    fn head(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }
}

impl DueQueue {
    pub(crate) fn insert(&mut self, lane: &LaneKey, slot: Slot) {
        self.change(lane, |lane| {
            lane.near.insert(slot);
        });
    }

    pub(crate) fn remove(&mut self, lane: &LaneKey, slot: Slot) {
        self.change(lane, |lane| {
            lane.near.remove(&slot);
        });
    }

    /// Notes a parcel that is in the index only.
    pub(crate) fn add_far(&mut self, lane: &LaneKey, slot: Slot) {
        self.change(lane, |lane| {
            let far = lane.far.get_or_insert(Far { count: 0, from: slot });
            far.count += 1;
            far.from = far.from.min(slot);
        });
    }

    /// Notes that such a parcel is in memory now, or over.
    pub(crate) fn remove_far(&mut self, lane: &LaneKey) {
        self.change(lane, |lane| {
            lane.far = lane.far.and_then(|far| {
                let count = far.count.checked_sub(1).filter(|count| *count > 0)?;
                Some(Far { count, ..far })
            });
        });
    }

    /// Notes that none of the far ones comes before this.
    pub(crate) fn advance_far(&mut self, lane: &LaneKey, from: Slot) {
        self.change(lane, |lane| {
            if let Some(far) = &mut lane.far {
                far.from = far.from.max(from);
            }
        });
    }

    /// Where a lane's far parcels begin, if it has any.
    pub(crate) fn far_from(&self, lane: &LaneKey) -> Option<Slot> {
        Some(self.groups.get(&lane.group)?.lanes.get(&lane.hop)?.far?.from)
    }

    /// Takes over all that another holds.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (group, theirs) in other.groups {
            for (hop, theirs) in theirs.lanes {
                self.change(&LaneKey { group, hop }, |lane| {
                    lane.near.extend(theirs.near);
                    lane.far = match (lane.far, theirs.far) {
                        (Some(a), Some(b)) => {
                            Some(Far { count: a.count + b.count, from: a.from.min(b.from) })
                        }
                        (a, b) => a.or(b),
                    };
                });
            }
        }
    }

    /// The earliest moment anything is due.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }

    /// The earliest moment later than `after` at which anything is due.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let last = ParcelId { message: MessageId::from_u64(u64::MAX), number: u32::MAX };
        let later = (Bound::Excluded((after, last)), Bound::Unbounded);
        let lanes = self.groups.values().flat_map(|group| group.lanes.values());
        let next = |lane: &Lane| {
            let near = lane.near.range(later).next().map(|slot| slot.0);
            let far = lane.far.map(|far| far.from.0).filter(|from| *from > after);
            near.into_iter().chain(far).min()
        };
        lanes.filter_map(next).min()
    }

    /// At most `most` parcels due at `now`; they stay in the queue.
    ///
    /// Groups share by what they were served before and by priority; within a group the
    /// earliest comes first.
    pub(crate) fn due(&mut self, now: Timestamp, hops: &NextHops, most: usize) -> Found {
        let listed: BTreeSet<&NextHop> = match hops {
            NextHops::All => BTreeSet::new(),
            NextHops::Only(hops) | NextHops::Except(hops) => hops.iter().collect(),
        };
        let choice = Choice { now, hops, listed };
        let mut found = Found::default();
        let mut turns: BTreeSet<(u64, Timestamp, GroupKey)> = BTreeSet::new();
        let mut walks: BTreeMap<GroupKey, Walk<'_>> = BTreeMap::new();
        for (due, key) in self.order.iter().take_while(|(due, _)| *due <= now) {
            let group = &self.groups[key];
            walks.insert(*key, Walk::new(group, &choice));
            turns.insert((group.served.max(self.served), *due, *key));
        }
        let mut served = Vec::new();
        while found.parcels.len() < most {
            let Some((turn, due, key)) = turns.pop_first() else { break };
            let Some(walk) = walks.get_mut(&key) else { break };
            match walk.step(now) {
                Step::Parcel(parcel) => {
                    found.parcels.push(parcel);
                    turns.insert((turn + key.cost(), due, key));
                    served.push((key, turn));
                }
                Step::Wanted(hop) => {
                    if found.wanted.len() < WANTED {
                        found.wanted.push(LaneKey { group: key, hop: hop.clone() });
                    }
                    turns.insert((turn, due, key));
                }
                Step::End => {}
            }
        }
        drop(walks);
        for (key, turn) in served {
            self.served = self.served.max(turn);
            if let Some(group) = self.groups.get_mut(&key) {
                group.served = turn + key.cost();
            }
        }
        found
    }

    fn change(&mut self, key: &LaneKey, change: impl FnOnce(&mut Lane)) {
        let group = self.groups.entry(key.group).or_default();
        let group_before = group.head();
        let lane = group.lanes.entry(key.hop.clone()).or_default();
        let before = lane.head();
        change(lane);
        let after = lane.head();
        if after.is_none() {
            group.lanes.remove(&key.hop);
        }
        if before != after {
            before.map(|due| group.order.remove(&(due, key.hop.clone())));
            after.map(|due| group.order.insert((due, key.hop.clone())));
        }
        let group_after = group.head();
        if group_before != group_after {
            group_before.map(|due| self.order.remove(&(due, key.group)));
            group_after.map(|due| self.order.insert((due, key.group)));
        }
        if group_after.is_none() {
            self.groups.remove(&key.group);
        }
    }
}

/// Which lanes are asked for.
struct Choice<'a> {
    now: Timestamp,
    hops: &'a NextHops,
    listed: BTreeSet<&'a NextHop>,
}

impl Choice<'_> {
    fn takes(&self, hop: &NextHop) -> bool {
        match self.hops {
            NextHops::All => true,
            NextHops::Only(_) => self.listed.contains(hop),
            NextHops::Except(_) => !self.listed.contains(hop),
        }
    }
}

enum Step<'a> {
    Parcel(ParcelId),
    /// What comes next in this lane is not in memory.
    Wanted(&'a NextHop),
    End,
}

/// A merge over the lanes of a group: the earliest of each, then the next of the one taken.
struct Walk<'a> {
    group: &'a Group,
    /// Lanes that have not been begun, in order of time.
    waiting: std::iter::Peekable<Box<dyn Iterator<Item = &'a (Timestamp, NextHop)> + 'a>>,
    heads: BTreeSet<(Timestamp, Head, &'a NextHop)>,
}

/// What a lane has next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Head {
    Near(ParcelId),
    Far,
}

impl<'a> Walk<'a> {
    fn new(group: &'a Group, choice: &'a Choice<'a>) -> Self {
        let lanes = group.order.iter().take_while(|(due, _)| *due <= choice.now);
        let lanes = lanes.filter(|(_, hop)| choice.takes(hop));
        let waiting: Box<dyn Iterator<Item = _>> = Box::new(lanes);
        Self { group, waiting: waiting.peekable(), heads: BTreeSet::new() }
    }

    fn step(&mut self, now: Timestamp) -> Step<'a> {
        let heads = &mut self.heads;
        while let Some((_, hop)) =
            self.waiting.next_if(|(due, _)| heads.first().is_none_or(|head| *due <= head.0))
        {
            let lane = &self.group.lanes[hop];
            let near = lane.near.first().map(|(due, parcel)| (*due, Head::Near(*parcel)));
            let far = lane.far.map(|far| (far.from.0, Head::Far));
            heads.extend(
                near.into_iter()
                    .chain(far)
                    .filter(|(due, _)| *due <= now)
                    .map(|(due, head)| (due, head, hop)),
            );
        }
        let Some((due, head, hop)) = heads.pop_first() else { return Step::End };
        let Head::Near(parcel) = head else { return Step::Wanted(hop) };
        let after = (Bound::Excluded((due, parcel)), Bound::Unbounded);
        if let Some(&(due, parcel)) = self.group.lanes[hop].near.range(after).next()
            && due <= now
        {
            heads.insert((due, Head::Near(parcel), hop));
        }
        Step::Parcel(parcel)
    }
}

#[cfg(test)]
mod tests;
