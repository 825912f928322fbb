//! Which parcels are due when, so that no next hop hides another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use merpati_plugin::spool::{NextHop, NextHops, ParcelId};
use merpati_types::{MessageId, Timestamp};

/// Parcels by next hop and due time, and next hops by their earliest parcel.
#[derive(Debug, Default)]
pub(crate) struct DueQueue {
    hops: BTreeMap<NextHop, BTreeSet<(Timestamp, ParcelId)>>,
    order: BTreeSet<(Timestamp, NextHop)>,
}

impl DueQueue {
    pub(crate) fn insert(&mut self, hop: &NextHop, due: Timestamp, parcel: ParcelId) {
        self.change(hop, |parcels| parcels.insert((due, parcel)));
    }

    pub(crate) fn remove(&mut self, hop: &NextHop, due: Timestamp, parcel: ParcelId) {
        self.change(hop, |parcels| parcels.remove(&(due, parcel)));
    }

    /// The earliest moment anything is due.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }

    /// The earliest moment later than `after` at which anything is due.
    pub(crate) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let first = ParcelId { message: MessageId::from_u64(u64::MAX), number: u32::MAX };
        let later = (Bound::Excluded((after, first)), Bound::Unbounded);
        self.hops.values().filter_map(|parcels| parcels.range(later).next()).map(|p| p.0).min()
    }

    /// At most `most` parcels due at `now`, the earliest first; they stay in the queue.
    pub(crate) fn due(&self, now: Timestamp, hops: &NextHops, most: usize) -> Vec<ParcelId> {
        // A merge over the next hops: the earliest of each, then the next of the one taken.
        let mut heads: BTreeSet<(Timestamp, ParcelId, &NextHop)> = BTreeSet::new();
        let mut found = Vec::new();
        let mut waiting = self.candidates(now, hops).into_iter().peekable();
        while found.len() < most {
            while let Some((due, hop, parcel)) =
                waiting.next_if(|(due, ..)| heads.first().is_none_or(|head| *due <= head.0))
            {
                heads.insert((due, parcel, hop));
            }
            let Some((due, parcel, hop)) = heads.pop_first() else { break };
            found.push(parcel);
            let after = (Bound::Excluded((due, parcel)), Bound::Unbounded);
            if let Some(&(due, parcel)) = self.hops[hop].range(after).next()
                && due <= now
            {
                heads.insert((due, parcel, hop));
            }
        }
        found
    }

    /// The earliest parcel of each next hop that is asked for and due, in order of time.
    fn candidates<'a>(
        &'a self,
        now: Timestamp,
        hops: &NextHops,
    ) -> Vec<(Timestamp, &'a NextHop, ParcelId)> {
        let head = |hop: &NextHop| {
            let (hop, parcels) = self.hops.get_key_value(hop)?;
            let (due, parcel) = parcels.first()?;
            (*due <= now).then_some((*due, hop, *parcel))
        };
        let due = self.order.iter().take_while(|(due, _)| *due <= now).map(|(_, hop)| hop);
        match hops {
            NextHops::All => due.filter_map(head).collect(),
            NextHops::Except(hops) => {
                let except: BTreeSet<&NextHop> = hops.iter().collect();
                due.filter(|hop| !except.contains(hop)).filter_map(head).collect()
            }
            NextHops::Only(hops) => {
                let only: BTreeSet<&NextHop> = hops.iter().collect();
                let mut found: Vec<_> = only.into_iter().filter_map(head).collect();
                found.sort();
                found
            }
        }
    }

    fn change(
        &mut self,
        hop: &NextHop,
        change: impl FnOnce(&mut BTreeSet<(Timestamp, ParcelId)>) -> bool,
    ) {
        let parcels = self.hops.entry(hop.clone()).or_default();
        let before = parcels.first().map(|(due, _)| *due);
        change(parcels);
        let after = parcels.first().map(|(due, _)| *due);
        if parcels.is_empty() {
            self.hops.remove(hop);
        }
        if before != after {
            before.map(|due| self.order.remove(&(due, hop.clone())));
            after.map(|due| self.order.insert((due, hop.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(number: u64) -> ParcelId {
        ParcelId { message: MessageId::from_u64(number), number: 0 }
    }

    fn hop(name: &str) -> NextHop {
        NextHop::from_text(name)
    }

    #[test]
    fn the_earliest_come_first_across_next_hops_and_within_a_filter() {
        let mut queue = DueQueue::default();
        for (name, due, number) in
            [("a", 5, 1), ("a", 1, 2), ("b", 2, 3), ("b", 9, 4), ("c", 3, 5), ("a", 1, 6)]
        {
            queue.insert(&hop(name), Timestamp::from_millis(due), parcel(number));
        }
        let only = |names: &[&str]| NextHops::Only(names.iter().map(|name| hop(name)).collect());
        let except =
            |names: &[&str]| NextHops::Except(names.iter().map(|name| hop(name)).collect());
        let cases: [(i64, NextHops, usize, &[u64]); 8] = [
            (9, NextHops::All, 9, &[2, 6, 3, 5, 1, 4]),
            (3, NextHops::All, 9, &[2, 6, 3, 5]),
            (9, NextHops::All, 3, &[2, 6, 3]),
            (0, NextHops::All, 9, &[]),
            (9, except(&["a"]), 9, &[3, 5, 4]),
            (9, only(&["b", "a", "b"]), 3, &[2, 6, 3]),
            (9, only(&["c", "z"]), 9, &[5]),
            (9, NextHops::All, 0, &[]),
        ];
        for (now, hops, most, expected) in cases {
            let expected: Vec<ParcelId> = expected.iter().map(|&number| parcel(number)).collect();
            assert_eq!(queue.due(Timestamp::from_millis(now), &hops, most), expected, "{hops:?}");
        }
        assert_eq!(queue.earliest(), Some(Timestamp::from_millis(1)));
        assert_eq!(queue.next_after(Timestamp::from_millis(1)), Some(Timestamp::from_millis(2)));
        queue.remove(&hop("a"), Timestamp::from_millis(1), parcel(2));
        queue.remove(&hop("a"), Timestamp::from_millis(1), parcel(6));
        assert_eq!(queue.earliest(), Some(Timestamp::from_millis(2)));
        for (name, due, number) in [("a", 5, 1), ("b", 2, 3), ("b", 9, 4), ("c", 3, 5)] {
            queue.remove(&hop(name), Timestamp::from_millis(due), parcel(number));
        }
        assert_eq!((queue.earliest(), queue.hops.len()), (None, 0));
    }
}
