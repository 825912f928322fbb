//! What operators do: list, hold, release, requeue, expire, delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use merpati_journal::{Durability, Group};
use merpati_plugin::spool::{
    Change, Changed, Cursor, Filter, Listed, MessageInfo, Parcel, ParcelId, ParcelState as Seen,
    SpoolError,
};
use merpati_types::MessageId;

use crate::core::{BadIndex, Flying};
use crate::fact::{Fact, Mark, parcel_id};
use crate::spool::Inner;
use crate::state::{Live, LiveParcel, View};

/// How many messages are looked at under one lock.
const PAGE: usize = 256;
/// How long an operator's change may wait for company.
const WITHIN: Duration = Duration::from_millis(5);

/// A parcel that may match, taken out of the lock.
struct Candidate {
    id: ParcelId,
    parcel: LiveParcel,
    view: View,
}

impl Inner {
    pub(crate) async fn list(
        self: &Arc<Self>,
        filter: &Filter,
        mut after: Option<ParcelId>,
        most: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        let mut listed = Vec::new();
        while listed.len() < most {
            let Some(last) = self.page(filter, after, most, &mut listed).await? else { break };
            after = Some(last);
        }
        Ok(listed)
    }

    /// Adds matches of one page; answers where the next begins, if there is one.
    async fn page(
        self: &Arc<Self>,
        filter: &Filter,
        after: Option<ParcelId>,
        most: usize,
        listed: &mut Vec<Listed>,
    ) -> Result<Option<ParcelId>, SpoolError> {
        let (last, candidates) =
            self.candidates(filter, after).map_err(|bad| self.bad_index(&bad))?;
        let mut message: Option<(MessageId, Arc<MessageInfo>)> = None;
        for candidate in candidates {
            let id = candidate.id;
            let info = match message.take().filter(|(known, _)| *known == id.message) {
                Some((_, info)) => info,
                None => match self.info(id.message, &candidate.view).await {
                    Ok(info) => info,
                    // It was over, or has moved: the next listing knows.
                    Err(SpoolError::NotFound) => continue,
                    Err(SpoolError::Corrupt { id, reason }) => {
                        tracing::error!(message = %id, reason, "a message cannot be listed");
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            message = Some((id.message, info.clone()));
            let parcel = candidate.parcel.parcel(id, info);
            if filter_takes_info(filter, &parcel) {
                listed.push(Listed { parcel, state: candidate.parcel.seen() });
                if listed.len() == most {
                    return Ok(None);
                }
            }
        }
        Ok(last)
    }

    /// Up to a page of messages' parcels that match as far as the state tells, and where the
    /// next page begins after.
    fn candidates(
        &self,
        filter: &Filter,
        after: Option<ParcelId>,
    ) -> Result<(Option<ParcelId>, Vec<Candidate>), BadIndex> {
        let first = after.map_or(MessageId::from_u64(0), |after| after.message);
        let (first, last) = match filter.id {
            Some(id) if id < first => return Ok((None, Vec::new())),
            Some(id) => (id, id),
            None => (first, MessageId::from_u64(u64::MAX)),
        };
        let core = self.core();
        let far = match &core.index {
            Some(index) if first == last => {
                index.entry(first)?.map(|e| (first, e)).into_iter().collect()
            }
            Some(index) => index.entries(first, PAGE)?,
            None => Vec::new(),
        };
        let near: Vec<(MessageId, &Live)> = core.state.near(first, last).take(PAGE).collect();
        // Where one side goes on after its page, so does the other.
        let ends = [
            near.last().filter(|_| near.len() == PAGE).map(|(id, _)| *id),
            far.last().filter(|_| far.len() == PAGE).map(|(id, _)| *id),
        ];
        let end = ends.into_iter().flatten().min();
        let in_page = |id: MessageId| end.is_none_or(|end| id <= end);
        let mut found = BTreeMap::new();
        let mut take = |id: MessageId, live: &Live| {
            let pending = live.parcels.iter().enumerate().filter(|(_, p)| p.has_pending());
            for (place, parcel) in pending {
                let id = parcel_id(id, place);
                if after < Some(id) && filter_takes_state(filter, id, parcel) {
                    found.insert(id, Candidate { id, parcel: parcel.clone(), view: live.view() });
                }
            }
        };
        near.iter().filter(|(id, _)| in_page(*id)).for_each(|(id, live)| take(*id, live));
        for (id, entry) in &far {
            if in_page(*id) && *id <= last && !core.state.hides(*id) {
                take(*id, &Live::decode(entry)?);
            }
        }
        let next = end.map(|message| ParcelId { message, number: u32::MAX });
        Ok((next, found.into_values().collect()))
    }

    /// Marks every parcel that matches and is concerned, page by page, until about `most` have
    /// been looked at.
    pub(crate) async fn change(
        self: &Arc<Self>,
        filter: &Filter,
        change: &Change,
        after: Option<ParcelId>,
        most: usize,
    ) -> Result<Changed, SpoolError> {
        let mark = Mark::from(change.clone());
        let mut changed = Changed { parcels: 0, next: after.map(Cursor) };
        let mut looked = 0;
        while looked < most {
            let mut listed = Vec::new();
            let after = changed.next.map(|Cursor(after)| after);
            let next = self.page(filter, after, usize::MAX, &mut listed).await?;
            let ids: Vec<ParcelId> = listed.into_iter().map(|listed| listed.parcel.id).collect();
            changed.parcels += self.mark_all(&ids, &|parcel| mark.concerns(parcel), &mark).await?;
            changed.next = next.map(Cursor);
            if next.is_none() {
                break;
            }
            looked += PAGE;
        }
        Ok(changed)
    }

    async fn mark_all(
        self: &Arc<Self>,
        ids: &[ParcelId],
        wanted: &(impl Fn(&LiveParcel) -> bool + Sync),
        mark: &Mark,
    ) -> Result<u64, SpoolError> {
        let flight = {
            let mut core = self.core();
            for id in ids {
                core.fetch(id.message).map_err(|bad| self.bad_index(&bad))?;
            }
            let still = |id: &&ParcelId| core.state.parcel(**id).is_some_and(wanted);
            let flying: Vec<Flying> = ids
                .iter()
                .filter(still)
                .map(|id| {
                    let fact = Fact::Mark { number: id.number, mark: mark.clone() };
                    Flying::new(id.message, fact)
                })
                .collect();
            if flying.is_empty() {
                return Ok(0);
            }
            let records = flying.iter().map(|f| f.fact.to_record(f.id, Vec::new())).collect();
            let journal = &self.journal;
            let append =
                || journal.append_urgent(Group::new(records), Durability::Group { within: WITHIN });
            core.launch(journal, flying, None, append)
        };
        let count = flight.facts.len() as u64;
        self.land(flight).await?;
        Ok(count)
    }
}

impl Mark {
    /// Whether there is anything to change.
    fn concerns(&self, parcel: &LiveParcel) -> bool {
        match self {
            Self::Hold { .. } => parcel.state.held.is_none(),
            Self::Release { .. } => parcel.state.held.is_some(),
            // One that is leased is being attempted already; one that is held stays so.
            Self::Requeue { .. } => matches!(parcel.seen(), Seen::Active | Seen::Deferred),
            Self::Expire { .. } => !parcel.state.expired,
            Self::Delete => true,
        }
    }
}

/// Whether a parcel matches as far as the state tells.
fn filter_takes_state(filter: &Filter, id: ParcelId, parcel: &LiveParcel) -> bool {
    filter.id.is_none_or(|wanted| wanted == id.message)
        && filter.next_hop.as_ref().is_none_or(|hop| *hop == parcel.state.next_hop)
        && filter.state.is_none_or(|state| state == parcel.seen())
}

/// Whether a parcel matches in what only its message tells.
fn filter_takes_info(filter: &Filter, parcel: &Parcel) -> bool {
    let message = &parcel.info.message;
    let has = |text: &str, part: &Option<String>| {
        let part = part.as_deref().map(str::to_ascii_lowercase);
        part.is_none_or(|part| text.to_ascii_lowercase().contains(&part))
    };
    let sender = message.envelope.sender.mailbox().map(ToString::to_string).unwrap_or_default();
    has(&sender, &filter.sender)
        && (filter.recipient.is_none()
            || parcel.recipients().any(|(_, r)| has(&r.address.to_string(), &filter.recipient)))
        && filter.arrived_before.is_none_or(|before| message.arrived < before)
        && filter.arrived_after.is_none_or(|after| message.arrived >= after)
        && has(parcel.last_reason.as_deref().unwrap_or(""), &filter.reason)
}
