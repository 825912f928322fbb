//! Counts of everything that is live, in memory or not.

use std::collections::{BTreeMap, HashMap};

use merpati_plugin::spool::{ParcelState as Seen, Queued, Share, Stats};

use super::live::Live;
use super::parcel::LiveParcel;

/// Counts by state, by share and by segment.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    stats: Stats,
    /// By [`Share::digest`]; what is empty has no entry.
    shares: HashMap<u64, Queued>,
    /// What messages have their own record in which segment.
    segments: BTreeMap<u64, Based>,
}

/// What a segment is needed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Based {
    pub(crate) messages: u64,
    pub(crate) octets: u64,
}

/// Whether something is counted in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Way {
    fn count(self, number: &mut u64, by: u64) {
        *number = match self {
            Self::In => number.saturating_add(by),
            Self::Out => number.saturating_sub(by),
        };
    }
}

impl Tally {
    /// Counts a message that is live from now on.
    pub(crate) fn add(&mut self, live: &Live) {
        self.message(live, Way::In);
        live.parcels.iter().for_each(|parcel| self.add_parcel(parcel, live.size));
    }

    /// Counts a message that is over.
    pub(crate) fn remove(&mut self, live: &Live) {
        self.message(live, Way::Out);
        live.parcels.iter().for_each(|parcel| self.remove_parcel(parcel, live.size));
    }

    /// Counts a parcel as it is from now on.
    pub(crate) fn add_parcel(&mut self, parcel: &LiveParcel, size: u64) {
        self.parcel(parcel, size, Way::In);
    }

    /// Counts a parcel out as it was.
    pub(crate) fn remove_parcel(&mut self, parcel: &LiveParcel, size: u64) {
        self.parcel(parcel, size, Way::Out);
    }

    /// Counts a message's own record in another segment than before.
    pub(crate) fn rebase(&mut self, live: &Live, before: u64, octets_before: u64) {
        self.segment(before, octets_before, Way::Out);
        self.segment(live.base.segment, live.octets(), Way::In);
    }

    /// Adds all that another has counted.
    pub(crate) fn absorb(&mut self, other: Self) {
        let Stats { messages, active, deferred, held, leased, bytes, loading: _ } = other.stats;
        self.stats.messages += messages;
        self.stats.active += active;
        self.stats.deferred += deferred;
        self.stats.held += held;
        self.stats.leased += leased;
        self.stats.bytes += bytes;
        for (share, queued) in other.shares {
            let mine = self.shares.entry(share).or_default();
            mine.messages += queued.messages;
            mine.bytes += queued.bytes;
        }
        for (segment, based) in other.segments {
            let mine = self.segments.entry(segment).or_default();
            mine.messages += based.messages;
            mine.octets += based.octets;
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn queued(&self, share: Share<'_>) -> Queued {
        match share {
            Share::Whole => Queued { messages: self.stats.messages, bytes: self.stats.bytes },
            share => self.shares.get(&share.digest()).copied().unwrap_or_default(),
        }
    }

    /// The segments that some message has its own record in, oldest first.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u64, Based)> {
        self.segments.iter().map(|(segment, based)| (*segment, *based))
    }

    /// Octets of the journal that messages need.
    pub(crate) fn octets(&self) -> u64 {
        self.segments.values().map(|based| based.octets).sum()
    }

    fn message(&mut self, live: &Live, way: Way) {
        way.count(&mut self.stats.messages, 1);
        way.count(&mut self.stats.bytes, live.size);
        let whose = live.whose;
        self.share(whose.sender, live.size, way);
        self.share(whose.domain, live.size, way);
        // Without an account, the flow is the domain.
        if whose.flow.0 != whose.domain {
            self.share(whose.flow.0, live.size, way);
        }
        self.segment(live.base.segment, live.octets(), way);
    }

    fn parcel(&mut self, parcel: &LiveParcel, size: u64, way: Way) {
        if !parcel.has_pending() {
            return;
        }
        let number = match parcel.seen() {
            Seen::Active => &mut self.stats.active,
            Seen::Deferred => &mut self.stats.deferred,
            Seen::Held => &mut self.stats.held,
            Seen::Leased => &mut self.stats.leased,
        };
        way.count(number, 1);
        self.share(Share::NextHop(&parcel.state.next_hop).digest(), size, way);
    }

    fn share(&mut self, digest: u64, size: u64, way: Way) {
        let queued = self.shares.entry(digest).or_default();
        way.count(&mut queued.messages, 1);
        way.count(&mut queued.bytes, size);
        if queued.messages == 0 {
            self.shares.remove(&digest);
        }
    }

    fn segment(&mut self, segment: u64, octets: u64, way: Way) {
        let based = self.segments.entry(segment).or_default();
        way.count(&mut based.messages, 1);
        way.count(&mut based.octets, octets);
        if based.messages == 0 {
            self.segments.remove(&segment);
        }
    }
}
