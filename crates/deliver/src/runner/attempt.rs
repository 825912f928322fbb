//! One attempt: deliver, decide what follows, settle.

use std::sync::Arc;
use std::time::Duration;

use merpati_dsn::Action;
use merpati_plugin::deliver::{
    AttemptNotes, DeferClass, DeliveryOutcome, DeliveryResult, Handover, MessageSource,
};
use merpati_plugin::spool::{Lease, Parcel, RecipientResult, Settlement, SpoolError};
use merpati_plugin::{Deliverer, Event, Job, Spool, async_trait};
use merpati_queue::{Finished, Next};
use merpati_types::{Severity, Status, Timestamp};

use crate::report::{self, Fate};

use super::{Due, How, RunnerParts};

/// How long to wait before a settlement that failed is tried again.
const SETTLE_PAUSE: Duration = Duration::from_secs(2);

/// Runs an attempt to its end, and tells what it says about its site.
pub(super) async fn run(parts: Arc<RunnerParts>, due: Due) -> Finished {
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
    let outcomes = match (&message, how) {
        _ if parcel.expired => same(&parcel, given_up()),
        (_, How::Refuse(rejection)) => {
            same(&parcel, DeliveryOutcome::refused(&rejection, DeferClass::Local))
        }
        (Some(message), How::Deliver(transport)) => {
            let message = Arc::clone(message);
            deliver(&parts, transport, &lease, &parcel, message).await
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
    finished
}

async fn deliver(
    parts: &RunnerParts,
    transport: Arc<dyn Deliverer>,
    lease: &Lease,
    parcel: &Arc<Parcel>,
    message: Arc<dyn MessageSource>,
) -> Vec<DeliveryOutcome> {
    let notes = Notes { spool: Arc::clone(&parts.spool), lease: lease.clone() };
    let job = Job { parcel: Arc::clone(parcel), message, notes: Arc::new(notes) };
    // A task of its own, so that a plugin's panic defers this parcel and harms nothing else.
    let outcomes = tokio::spawn(async move { transport.deliver(job).await }).await;
    match outcomes {
        Ok(outcomes) if outcomes.len() == parcel.pending.len() => outcomes,
        Ok(_) => {
            tracing::error!(id = %parcel.id, "transport answered for other recipients than asked");
            same(parcel, broken("delivery failed"))
        }
        Err(error) => {
            tracing::error!(id = %parcel.id, %error, "transport broke down");
            same(parcel, broken("delivery failed"))
        }
    }
}

/// Decides what follows for each recipient; answers the settlement, and which are given up.
async fn conclude(
    parts: &RunnerParts,
    parcel: &Parcel,
    outcomes: &[DeliveryOutcome],
    message: Option<&dyn MessageSource>,
    now: Timestamp,
) -> (Settlement, Vec<bool>) {
    let arrived = parcel.info.message.arrived;
    let schedule = &parts.schedule;
    let seed = parcel.id.message.as_u64();
    let next = schedule.after_failure(arrived, now, parcel.attempts + 1, seed);
    let warns = !parcel.warned && schedule.warns(arrived, now);
    let mut results = Vec::with_capacity(outcomes.len());
    let mut bounced = Vec::with_capacity(outcomes.len());
    let mut fates = Vec::new();
    for ((place, recipient), outcome) in parcel.recipients().zip(outcomes) {
        let reason = outcome.diagnostic.clone();
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
                    let until = Some(arrived.after(schedule.expiry));
                    fates.push(fate(Action::Delayed, *status, until));
                }
                (RecipientResult::Deferred { reason }, false)
            }
        };
        results.push((place, result));
        bounced.push(gone);
    }
    let reports = report::follow_ups(&parts.hostname, parcel, &fates, message, now).await;
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

fn same(parcel: &Parcel, outcome: DeliveryOutcome) -> Vec<DeliveryOutcome> {
    vec![outcome; parcel.pending.len()]
}

fn given_up() -> DeliveryOutcome {
    DeliveryOutcome {
        result: DeliveryResult::Failed { status: Status::EXPIRED.with(Severity::Permanent) },
        remote: None,
        diagnostic: "delivery was given up".to_owned(),
    }
}

fn broken(text: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        result: DeliveryResult::Deferred {
            status: Status::SYSTEM.with(Severity::Transient),
            class: DeferClass::Local,
        },
        remote: None,
        diagnostic: text.to_owned(),
    }
}

/// Notes what is in flight in the spool.
struct Notes {
    spool: Arc<dyn Spool>,
    lease: Lease,
}

#[async_trait]
impl AttemptNotes for Notes {
    async fn final_dot(&self, remote: &str) {
        // Without the note a crash now would be taken for one before the dot: no worse than a
        // duplicate that is not announced.
        if let Err(error) = self.spool.attempt(&self.lease, remote).await {
            tracing::warn!(id = %self.lease.parcel, %error, "cannot note an attempt");
        }
    }
}
