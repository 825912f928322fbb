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

use crate::body::blocking;
use crate::core::{BadIndex, Flying};
use crate::fact::{Fact, Mark, parcel_id};
use crate::index::IndexReader;
use crate::spool::Inner;
use crate::state::{Live, LiveParcel, State, View};

/// How many messages are looked at in one step.
const PAGE: usize = 512;
/// How often a page is read out of the lock before it is read in it.
const TRIES: usize = 3;
/// How long an operator's change may wait for company.
const WITHIN: Duration = Duration::from_millis(5);

/// A parcel that may match, taken out of the lock.
struct Candidate {
    id: ParcelId,
    parcel: LiveParcel,
    view: View,
}

/// A page of candidates, and where the next begins after.
type Page = (Option<ParcelId>, Vec<Candidate>);

/// Which messages a page is about.
struct Span {
    after: Option<ParcelId>,
    first: MessageId,
    last: MessageId,
}

/// A page of the index.
struct Far {
    /// Messages with a parcel that matches.
    matches: Vec<(MessageId, Live)>,
    /// Where it ends, if it may go on.
    end: Option<MessageId>,
}

impl Far {
    fn read(index: Option<&IndexReader>, filter: &Filter, span: &Span) -> Result<Self, BadIndex> {
        let entries = match index {
            None => Vec::new(),
            Some(index) if span.first == span.last => {
                index.entry(span.first)?.map(|entry| (span.first, entry)).into_iter().collect()
            }
            Some(index) => index.entries(span.first, PAGE)?,
        };
        let end = entries.last().filter(|_| entries.len() == PAGE).map(|(id, _)| *id);
        let mut matches = Vec::new();
        for (id, entry) in &entries {
            let live = Live::decode(entry)?;
            let mut parcels = live.parcels.iter().enumerate();
            if parcels.any(|(place, p)| filter_takes_state(filter, parcel_id(*id, place), p)) {
                matches.push((*id, live));
            }
        }
        Ok(Self { matches, end })
    }
}

/// Joins what is near and what is far.
fn page(state: &State, filter: &Filter, span: &Span, far: Far) -> Page {
    let near: Vec<(MessageId, &Live)> = state.near(span.first, span.last).take(PAGE).collect();
    // Where one side goes on after its page, so does the other.
    let near_end = near.last().filter(|_| near.len() == PAGE).map(|(id, _)| *id);
    let end = near_end.into_iter().chain(far.end).min();
    let in_page = |id: MessageId| end.is_none_or(|end| id <= end);
    let mut found = BTreeMap::new();
    let mut take = |id: MessageId, live: &Live| {
        let pending = live.parcels.iter().enumerate().filter(|(_, p)| p.has_pending());
        for (place, parcel) in pending {
            let id = parcel_id(id, place);
            if span.after < Some(id) && filter_takes_state(filter, id, parcel) {
                found.insert(id, Candidate { id, parcel: parcel.clone(), view: live.view() });
            }
        }
    };
    near.iter().filter(|(id, _)| in_page(*id)).for_each(|(id, live)| take(*id, live));
    let far = far.matches.iter().filter(|(id, _)| in_page(*id) && !state.hides(*id));
    far.for_each(|(id, live)| take(*id, live));
    let next = end.map(|message| ParcelId { message, number: u32::MAX });
    (next, found.into_values().collect())
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
        let (inner, looked_for) = (self.clone(), filter.clone());
        let (last, candidates) = blocking(move || inner.candidates(&looked_for, after))
            .await
            .map_err(|bad| self.bad_index(&bad))?;
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
    fn candidates(&self, filter: &Filter, after: Option<ParcelId>) -> Result<Page, BadIndex> {
        let first = after.map_or(MessageId::from_u64(0), |after| after.message);
        let span = match filter.id {
            Some(id) if id < first => return Ok((None, Vec::new())),
            Some(id) => Span { after, first: id, last: id },
            None => Span { after, first, last: MessageId::from_u64(u64::MAX) },
        };
        for _ in 0..TRIES {
            let (index, evictions) = {
                let core = self.core();
                (core.index.clone(), core.state.evictions())
            };
            // Most of the work is done out of the lock; what went far meanwhile is in nobody's
            // page, and then all is looked at once more.
            let far = Far::read(index.as_ref(), filter, &span)?;
            let core = self.core();
            if core.state.evictions() == evictions {
                return Ok(page(&core.state, filter, &span, far));
            }
        }
        let core = self.core();
        let far = Far::read(core.index.as_ref(), filter, &span)?;
        Ok(page(&core.state, filter, &span, far))
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
