//! A spool in memory, on the paused clock: what runners ask of one, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::spool::{
    Change, Changed, Cursor, Filter, Lease, Listed, MessageInfo, NewMessage, NextHop, NextHops,
    Parcel, ParcelId, Queued, RecipientResult, Settlement, Share, SpoolError, SpoolWriter, Stats,
};
use merpati_plugin::{BodyReader, Spool, async_trait};
use merpati_types::{MessageId, Timestamp};
use tokio::sync::Notify;

use super::now;

#[derive(Default)]
pub(super) struct Memory {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    bodies: BTreeMap<MessageId, Bytes>,
    parcels: BTreeMap<ParcelId, Parcel>,
    due: BTreeSet<(Timestamp, ParcelId)>,
    leased: BTreeMap<ParcelId, u64>,
    fence: u64,
    /// When each settlement came, and of what.
    settled: Vec<(Timestamp, ParcelId, Settlement)>,
    leases: usize,
}

impl Memory {
    pub(super) fn put(&self, message: NewMessage, body: Bytes) -> MessageId {
        let mut state = self.state();
        state.next += 1;
        let id = MessageId::from_u64(state.next);
        state.bodies.insert(id, body.clone());
        let groups = NextHop::split(&message.envelope.recipients);
        let due = message.attributes.not_before.unwrap_or(message.arrived);
        let info = Arc::new(MessageInfo { message, size: body.len() as u64 });
        for (number, (next_hop, pending)) in (0..).zip(groups) {
            let id = ParcelId { message: id, number };
            let parcel = Parcel {
                id,
                next_hop,
                info: Arc::clone(&info),
                pending,
                attempts: 0,
                due,
                warned: false,
                expired: false,
                last_reason: None,
                unknown_at: None,
                sent_as: None,
            };
            state.due.insert((due, id));
            state.parcels.insert(id, parcel);
        }
        drop(state);
        self.news.notify_waiters();
        id
    }

    /// A crash of the server: leases end, all else stays.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        let leased = std::mem::take(&mut state.leased);
        for id in leased.into_keys() {
            let due = state.parcels[&id].due;
            state.due.insert((due, id));
        }
    }

    pub(super) fn settled(&self) -> Vec<(Timestamp, ParcelId, Settlement)> {
        self.state().settled.clone()
    }

    pub(super) fn parcels(&self) -> Vec<Parcel> {
        self.state().parcels.values().cloned().collect()
    }

    /// How many leases were given.
    pub(super) fn leases(&self) -> usize {
        self.state().leases
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn check(&self, lease: &Lease) -> Result<(), SpoolError> {
        let is_held = self.leased.get(&lease.parcel) == Some(&lease.fence);
        is_held.then_some(()).ok_or(SpoolError::StaleLease)
    }

    fn give_back(&mut self, id: ParcelId, due: Timestamp) {
        self.leased.remove(&id);
        if let Some(parcel) = self.parcels.get_mut(&id) {
            parcel.due = due;
            self.due.insert((due, id));
        }
    }
}

pub(super) struct Source(pub(super) Bytes);

#[async_trait]
impl MessageSource for Source {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(Once(Some(self.0.clone()))))
    }
}

struct Once(Option<Bytes>);

#[async_trait]
impl BodyReader for Once {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

#[async_trait]
impl Spool for Memory {
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        panic!("runners take no mail")
    }

    async fn message(&self, id: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError> {
        let body = self.state().bodies.get(&id).cloned().ok_or(SpoolError::NotFound)?;
        Ok(Arc::new(Source(body)))
    }

    async fn lease(
        &self,
        now: Timestamp,
        ttl: Duration,
        next_hops: &NextHops,
        most: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError> {
        let mut state = self.state();
        let takes = |hop: &NextHop| match next_hops {
            NextHops::All => true,
            NextHops::Only(hops) => hops.contains(hop),
            NextHops::Except(hops) => !hops.contains(hop),
        };
        let due = state.due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id);
        let chosen = due.filter(|id| takes(&state.parcels[id].next_hop)).take(most);
        let chosen: Vec<_> = chosen.collect();
        let mut leased = Vec::new();
        for id in chosen {
            let parcel = state.parcels[&id].clone();
            state.due.remove(&(parcel.due, id));
            state.fence += 1;
            state.leases += 1;
            let fence = state.fence;
            state.leased.insert(id, fence);
            leased.push((Lease { parcel: id, fence, until: now.after(ttl) }, parcel));
        }
        Ok(leased)
    }

    async fn renew(&self, lease: &Lease, until: Timestamp) -> Result<Lease, SpoolError> {
        self.state().check(lease)?;
        Ok(Lease { until, ..lease.clone() })
    }

    async fn release(&self, lease: Lease, due: Timestamp) -> Result<(), SpoolError> {
        let mut state = self.state();
        state.check(&lease)?;
        state.give_back(lease.parcel, due);
        Ok(())
    }

    async fn attempt(&self, lease: &Lease, remote: &str) -> Result<(), SpoolError> {
        let mut state = self.state();
        state.check(lease)?;
        let parcel = state.parcels.get_mut(&lease.parcel).expect("it is leased");
        parcel.unknown_at = Some(remote.to_owned());
        Ok(())
    }

    async fn settle(&self, lease: Lease, settlement: Settlement) -> Result<(), SpoolError> {
        let id = lease.parcel;
        {
            let mut state = self.state();
            state.check(&lease)?;
            state.settled.push((now(), id, settlement.clone()));
            let parcel = state.parcels.get_mut(&id).expect("it is leased");
            parcel.attempts += 1;
            parcel.warned |= settlement.warned;
            parcel.unknown_at = None;
            for (place, result) in &settlement.results {
                if let RecipientResult::Deferred { reason } = result {
                    parcel.last_reason = Some(reason.clone());
                } else {
                    parcel.pending.retain(|pending| pending != place);
                }
            }
            if parcel.pending.is_empty() {
                state.parcels.remove(&id);
                state.leased.remove(&id);
            } else {
                state.give_back(id, settlement.retry_at);
            }
        }
        for follow_up in settlement.follow_ups {
            self.put(follow_up.message, follow_up.body);
        }
        Ok(())
    }

    async fn wait_due(&self, now: Timestamp) {
        let news = self.news.notified();
        let next = {
            let state = self.state();
            let later = state.due.iter().find(|(due, _)| *due > now);
            later.map(|(due, _)| due.since(now))
        };
        match next {
            Some(next) => {
                tokio::select! {
                    () = news => {}
                    () = tokio::time::sleep_until(tokio::time::Instant::now() + next) => {}
                }
            }
            None => news.await,
        }
    }

    async fn list(
        &self,
        _: &Filter,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        panic!("runners do not list")
    }

    async fn change(
        &self,
        _: &Filter,
        _: &Change,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Changed, SpoolError> {
        panic!("runners change nothing")
    }

    fn queued(&self, _: Share<'_>) -> Queued {
        Queued::default()
    }

    async fn stats(&self) -> Result<Stats, SpoolError> {
        panic!("runners do not count")
    }

    async fn close(&self) {}
}
