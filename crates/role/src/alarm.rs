//! Says in the log when the server's health changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use merpati_ops::Vitals;
use merpati_ops::api::{HealthView, Status};
use merpati_spool::DiskSpool;

/// How often the health is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Tells of what was found in the spool, once it has been read; mail is taken meanwhile.
pub(crate) fn tell_what_is_there(spool: Arc<DiskSpool>) {
    tokio::spawn(async move {
        let report = spool.whole().await;
        let damaged = report.journal.damage.len();
        let (malformed, without_body) = (report.malformed.len(), report.missing_bodies.len());
        let rebuilt = report.index_rebuilt.as_deref();
        let messages = report.messages;
        if damaged + malformed + without_body > 0 {
            tracing::error!(
                damaged,
                malformed,
                without_body,
                "the spool is damaged: `merpati spool check` names each place, and all else is \
                 served"
            );
        }
        tracing::info!(messages, rebuilt, swept = report.swept, "spool read");
    });
}

/// Watches until the runtime ends.
pub(crate) fn watch(vitals: Vitals) {
    tokio::spawn(async move {
        let mut known = BTreeSet::new();
        loop {
            let health = vitals.health();
            known = tell(&known, &health);
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Tells what was not known, and answers what now is. What follows the colon of a reason may
/// change all the time.
fn tell(known: &BTreeSet<String>, health: &HealthView) -> BTreeSet<String> {
    let status = health.status.name();
    let mut now = BTreeSet::new();
    for reason in &health.reasons {
        let what = reason.split(':').next().unwrap_or(reason);
        now.insert(what.to_owned());
        if known.contains(what) {
            continue;
        }
        match health.status {
            Status::Ok => tracing::info!(event = "health", status, reason),
            Status::Degraded => tracing::warn!(event = "health", status, reason),
            Status::Failing => tracing::error!(event = "health", status, reason),
        }
    }
    if now.is_empty() && !known.is_empty() {
        tracing::info!(event = "health", status, "all is well again");
    }
    now
}
