//! One parcel: its state, and the lease it is under.

use std::sync::Arc;

use merpati_plugin::spool::{MessageInfo, Parcel, ParcelId, ParcelState as Seen, RecipientResult};
use merpati_types::Timestamp;

use crate::fact::{Mark, ParcelState, cut_reason};

/// A parcel and the lease it is under.
#[derive(Debug, Clone)]
pub(crate) struct LiveParcel {
    pub(crate) state: ParcelState,
    /// The fencing number and the end of the lease it is under.
    pub(super) lease: Option<(u64, Timestamp)>,
    /// A settlement is on its way to the journal: the lease does not end meanwhile.
    pub(super) settling: bool,
}

impl LiveParcel {
    pub(super) fn new(state: ParcelState) -> Self {
        Self { state, lease: None, settling: false }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.state.pending.is_empty() && self.state.held.is_none() && self.lease.is_none()
    }

    /// The parcel as a plugin sees it.
    pub(crate) fn parcel(&self, id: ParcelId, info: Arc<MessageInfo>) -> Parcel {
        let state = &self.state;
        Parcel {
            id,
            next_hop: state.next_hop.clone(),
            info,
            pending: state.pending.clone(),
            attempts: state.attempts,
            due: state.due,
            warned: state.warned,
            expired: state.expired,
            last_reason: state.held.clone().or_else(|| state.last_reason.clone()),
            unknown_at: state.unknown_at.clone(),
            sent_as: None,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        match (&self.lease, &self.state) {
            (Some(_), _) => Seen::Leased,
            (None, state) if state.held.is_some() => Seen::Held,
            (None, state) if state.attempts > 0 => Seen::Deferred,
            _ => Seen::Active,
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.state.pending.is_empty()
    }

    pub(super) fn settle(
        &mut self,
        results: &[(u32, RecipientResult)],
        retry_at: Timestamp,
        warned: bool,
    ) {
        let state = &mut self.state;
        state.pending.retain(|place| !is_over(results, *place));
        state.attempts += 1;
        state.due = retry_at;
        state.warned |= warned;
        state.unknown_at = None;
        let mut reasons = results.iter().filter_map(|(_, result)| match result {
            RecipientResult::Deferred { reason } => Some(reason),
            RecipientResult::Delivered | RecipientResult::Failed { .. } => None,
        });
        if let Some(reason) = reasons.next_back() {
            state.last_reason = Some(cut_reason(reason).to_owned());
        }
        (self.lease, self.settling) = (None, false);
    }

    pub(super) fn mark(&mut self, mark: Mark) {
        let state = &mut self.state;
        match mark {
            Mark::Hold { reason } => state.held = Some(reason),
            Mark::Release { due } => {
                state.held = None;
                state.due = due;
            }
            Mark::Requeue { due } => state.due = due,
            Mark::Expire { due } => {
                state.expired = true;
                state.due = due;
            }
            Mark::Delete => {
                state.pending.clear();
                (self.lease, self.settling) = (None, false);
            }
        }
    }
}

/// Whether a recipient needs no further attempt.
pub(super) fn is_over(results: &[(u32, RecipientResult)], place: u32) -> bool {
    results
        .iter()
        .any(|(at, result)| *at == place && !matches!(result, RecipientResult::Deferred { .. }))
}
