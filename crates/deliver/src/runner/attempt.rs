//! One attempt: deliver, decide what follows, settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use merpati_dsn::Action;
use merpati_plugin::deliver::{
    AttemptNotes, DeferClass, DeliveryOutcome, DeliveryResult, Handover, MessageSource,
};
use merpati_plugin::spool::{Lease, Parcel, RecipientResult, Settlement, SpoolError};
use merpati_plugin::{Event, Spool, async_trait};
use merpati_queue::{Cause, Course, Finished, Next, Schedule};
use merpati_types::{ByMode, Severity, Status, Timestamp};

use crate::report::{self, Fate};

use super::{Due, How, RunnerParts, course, supervised};

/// How long to wait before a settlement that failed is tried again.
const SETTLE_PAUSE: Duration = Duration::from_secs(2);

/// Runs an attempt to its end; tells what it says about its site, and how many connections it
/// has opened.
pub(super) async fn run(parts: Arc<RunnerParts>, due: Due) -> (Finished, u32) {
    let Due { lease, parcel, how } = due;
    let parcel = Arc::new(parcel);
    let transport = match &how {
        How::Deliver(transport) => transport.name().to_owned(),
        How::Refuse(_) => "none".to_owned(),
    };
    let message = match parts.spool.message(parcel.id.message).await {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::error!(id = %parcel.id, %error, "cannot read a queued message");
            None
        }
    };
    let connections = Arc::new(AtomicU32::new(0));
    let outcomes = match (&message, how) {
        _ if parcel.expired => same(&parcel, given_up("delivery was given up")),
        // RFC 2852 §4.1: what is to come back is not delivered after its time.
        _ if is_unwanted(&parcel, (parts.now)()) => {
            same(&parcel, given_up("the time that its sender allowed is over"))
        }
        (_, How::Refuse(rejection)) => {
            same(&parcel, DeliveryOutcome::refused(&rejection, DeferClass::Local))
        }
        (Some(message), How::Deliver(transport)) => {
            let message = Arc::clone(message);
            let notes = Notes {
                spool: Arc::clone(&parts.spool),
                lease: lease.clone(),
                connections: Arc::clone(&connections),
            };
            let outbound = parts.routing.load().outbound.clone();
            supervised::deliver(outbound, transport, Arc::new(notes), &parcel, message).await
        }
        (None, How::Deliver(_)) => same(&parcel, broken("the message cannot be read now")),
    };
    let finished = about_site(&outcomes);
    let now = (parts.now)();
    let (settlement, bounced) = conclude(&parts, &parcel, &outcomes, message.as_deref(), now).await;
    for (((place, _), outcome), bounced) in parcel.recipients().zip(&outcomes).zip(bounced) {
        parts.observers.tell(&Event::Attempted {
            parcel: &parcel,
            recipient: place,
            transport: &transport,
            outcome,
            bounced,
        });
    }
    settle(&parts, lease, &parcel, settlement).await;
    (finished, connections.load(Ordering::Relaxed))
}

/// Whether its sender wants it back by now rather than delivered.
fn is_unwanted(parcel: &Parcel, now: Timestamp) -> bool {
    let deliver_by = parcel.info.message.attributes.deliver_by;
    deliver_by.is_some_and(|by| by.mode == ByMode::Return && now >= by.at)
}

/// Decides what follows for each recipient; answers the settlement, and which are given up.
async fn conclude(
    parts: &RunnerParts,
    parcel: &Parcel,
    outcomes: &[DeliveryOutcome],
    message: Option<&dyn MessageSource>,
    now: Timestamp,
) -> (Settlement, Vec<bool>) {
    let schedule = &parts.rules(&parcel.next_hop).schedule;
    let before = course(parcel);
    let expires = schedule.expires(&before);
    let warns = schedule.warns_at(&before).is_some_and(|at| now >= at);
    let next = next(schedule, &Course { warned: before.warned || warns, ..before }, outcomes, now);
    let mut results = Vec::with_capacity(outcomes.len());
    let mut bounced = Vec::with_capacity(outcomes.len());
    let mut fates = Vec::new();
    for ((place, recipient), outcome) in parcel.recipients().zip(outcomes) {
        let reason = reason(parcel, outcome);
        let fate =
            |action, status, retry_until| Fate { recipient, outcome, action, status, retry_until };
        let (result, gone) = match (&outcome.result, next) {
            (DeliveryResult::Delivered(handover), _) => {
                let status = Status::UNDEFINED.success();
                match handover {
                    Handover::Final => fates.push(fate(Action::Delivered, status, None)),
                    Handover::Relayed => fates.push(fate(Action::Relayed, status, None)),
                    Handover::PassedOn => {}
                }
                (RecipientResult::Delivered, false)
            }
            (DeliveryResult::Failed { status }, _) => {
                fates.push(fate(Action::Failed, *status, None));
                (RecipientResult::Failed { reason }, true)
            }
            (DeliveryResult::Deferred { .. }, Next::Expired) => {
                let status = Status::EXPIRED.with(Severity::Permanent);
                fates.push(fate(Action::Failed, status, None));
                (RecipientResult::Failed { reason }, true)
            }
            (DeliveryResult::Deferred { status, .. }, Next::RetryAt(_)) => {
                if warns {
                    let until = Some(expires);
                    fates.push(fate(Action::Delayed, *status, until));
                }
                (RecipientResult::Deferred { reason }, false)
            }
        };
        results.push((place, result));
        bounced.push(gone);
    }
    let routing = parts.routing.load_full();
    let told_how = (&*parts.hostname, &routing.reporting);
    let reports = report::follow_ups(told_how, parcel, &fates, message, now).await;
    let about = parcel.id.message;
    for (action, _) in &reports {
        parts.observers.tell(&Event::Reported { about, action: action.name() });
    }
    let retry_at = match next {
        Next::RetryAt(when) => when,
        Next::Expired => now,
    };
    let warned = fates.iter().any(|fate| fate.action == Action::Delayed);
    let follow_ups = reports.into_iter().map(|(_, follow_up)| follow_up).collect();
    (Settlement { results, retry_at, warned, follow_ups }, bounced)
}

/// When the parcel is tried again: recipients of one parcel have one due time, that of the one who
/// is first.
fn next(
    schedule: &Schedule,
    course: &Course,
    outcomes: &[DeliveryOutcome],
    now: Timestamp,
) -> Next {
    let course = Course { failures: course.failures.saturating_add(1), ..*course };
    let retries = outcomes.iter().filter_map(cause);
    let retries = retries.map(|cause| schedule.after_failure(&course, cause, now));
    let next = retries.min_by_key(|next| match next {
        Next::RetryAt(at) => *at,
        Next::Expired => now,
    });
    next.unwrap_or(Next::RetryAt(now))
}

/// Makes the result durable. Until that is done the parcel counts as not attempted, so it is
/// tried until it succeeds or somebody else holds the lease.
async fn settle(parts: &RunnerParts, lease: Lease, parcel: &Parcel, settlement: Settlement) {
    loop {
        match parts.spool.settle(lease.clone(), settlement.clone()).await {
            Ok(()) => return,
            Err(error @ (SpoolError::Full { .. } | SpoolError::Unavailable(_))) => {
                tracing::error!(id = %parcel.id, %error, "cannot settle; trying again");
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(id = %parcel.id, %error, "cannot settle");
                return;
            }
        }
    }
}

/// What the outcomes say about the site.
fn about_site(outcomes: &[DeliveryOutcome]) -> Finished {
    let class = |outcome: &DeliveryOutcome| match outcome.result {
        DeliveryResult::Deferred { class, .. } => Some(class),
        _ => None,
    };
    if outcomes.iter().all(|outcome| class(outcome) == Some(DeferClass::Connection)) {
        Finished::Down
    } else if outcomes.iter().any(|outcome| class(outcome) == Some(DeferClass::Peer)) {
        Finished::Busy
    } else {
        Finished::Served
    }
}

pub(super) fn same(parcel: &Parcel, outcome: DeliveryOutcome) -> Vec<DeliveryOutcome> {
    vec![outcome; parcel.pending.len()]
}

/// Why a recipient is to be tried again, if it is.
fn cause(outcome: &DeliveryOutcome) -> Option<Cause> {
    let DeliveryResult::Deferred { status, class } = &outcome.result else { return None };
    Some(match class {
        _ if status.status == Status::MAILBOX_FULL => Cause::OverQuota,
        DeferClass::Connection | DeferClass::Security => Cause::Connection,
        DeferClass::Dns => Cause::Dns,
        DeferClass::Peer | DeferClass::Recipient => Cause::Greylisting,
        _ => Cause::Other,
    })
}

/// What operators are shown of an outcome: its words, and that the message may be there already.
fn reason(parcel: &Parcel, outcome: &DeliveryOutcome) -> String {
    match &parcel.unknown_at {
        Some(remote) => format!(
            "{}; an earlier attempt at {remote} ended with its reply unknown",
            outcome.diagnostic
        ),
        None => outcome.diagnostic.clone(),
    }
}

fn given_up(why: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        result: DeliveryResult::Failed { status: Status::EXPIRED.with(Severity::Permanent) },
        remote: None,
        source: None,
        diagnostic: why.to_owned(),
    }
}

pub(super) fn broken(text: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        result: DeliveryResult::Deferred {
            status: Status::SYSTEM.with(Severity::Transient),
            class: DeferClass::Local,
        },
        remote: None,
        source: None,
        diagnostic: text.to_owned(),
    }
}

/// Notes what is in flight in the spool.
struct Notes {
    spool: Arc<dyn Spool>,
    lease: Lease,
    connections: Arc<AtomicU32>,
}

#[async_trait]
impl AttemptNotes for Notes {
    fn connecting(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    async fn final_dot(&self, remote: &str) {
        // Without the note a crash now would be taken for one before the dot: no worse than a
        // duplicate that is not announced.
        if let Err(error) = self.spool.attempt(&self.lease, remote).await {
            tracing::warn!(id = %self.lease.parcel, %error, "cannot note an attempt");
        }
    }
}
