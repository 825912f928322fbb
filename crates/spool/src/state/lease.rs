//! Leases: who may attempt what, and until when.

use merpati_plugin::spool::{Lease, NextHops, ParcelId, RecipientResult};
use merpati_types::Timestamp;

use super::parcel::is_over;
use super::{LaneKey, Live, LiveParcel, State};
use crate::fact::Fact;

/// The lease is not, or no longer, the parcel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale;

impl State {
    /// Begins fencing numbers above all that an earlier process may have given out.
    pub(crate) fn fence_from(&mut self, fence: u64) {
        self.fence = self.fence.max(fence);
    }

    /// Leases due parcels, leases that have ended included; and says which lanes need some of
    /// theirs in memory before it can go on with them.
    pub(crate) fn lease(
        &mut self,
        now: Timestamp,
        until: Timestamp,
        hops: &NextHops,
        most: usize,
    ) -> (Vec<Lease>, Vec<LaneKey>) {
        self.end_leases(now);
        let found = self.due.due(now, hops, most);
        let mut leases = Vec::with_capacity(found.parcels.len());
        for id in found.parcels {
            self.fence += 1;
            let fence = self.fence;
            self.edit(id, |parcel| parcel.lease = Some((fence, until)));
            leases.push(Lease { parcel: id, fence, until });
        }
        (leases, found.wanted)
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
        // The index, if it has the parcel, has it at another time.
        self.dirty.entry(lease.parcel.message).or_default();
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

    /// The fact that a settlement is, now on its way: the lease stays until it has arrived.
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

    fn end_leases(&mut self, now: Timestamp) {
        let ended: Vec<ParcelId> =
            self.leases.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect();
        for id in ended {
            if self.parcel(id).is_some_and(|parcel| !parcel.settling) {
                self.edit(id, |parcel: &mut LiveParcel| parcel.lease = None);
            }
        }
    }
}
