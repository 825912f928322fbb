//! What a run comes to.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

/// Different failures that are told apart; more are counted together.
const MOST_KINDS: usize = 100;

/// The longest time that is told apart from longer ones: an hour.
const MOST_MICROS: u64 = 3_600_000_000;

/// Counts of a run, and the times messages took.
pub(super) struct Figures {
    /// In microseconds.
    times: Histogram<u64>,
    /// By reply, or by what went wrong.
    failures: BTreeMap<String, u64>,
    /// Queue ids that were answered.
    ids: Option<HashSet<String>>,
    repeated: u64,
}

impl Figures {
    pub(super) fn new(ids_are_unique: bool) -> Self {
        let times = Histogram::new_with_bounds(1, MOST_MICROS, 3).expect("bounds in order");
        let ids = ids_are_unique.then(HashSet::new);
        Self { times, failures: BTreeMap::new(), ids, repeated: 0 }
    }

    /// Counts a message that was taken; `reply` names its queue id.
    pub(super) fn sent(&mut self, took: Duration, reply: &str) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.times.saturating_record(micros);
        if let (Some(ids), Some(id)) = (&mut self.ids, reply.split_whitespace().next_back())
            && !ids.insert(id.to_owned())
        {
            self.repeated += 1;
        }
    }

    pub(super) fn failed(&mut self, why: &str) {
        let known = self.failures.contains_key(why) || self.failures.len() < MOST_KINDS;
        *self.failures.entry(if known { why } else { "others" }.to_owned()).or_default() += 1;
    }

    /// How many messages were answered with the queue id of another.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn json(&self, took: Duration, idle: usize) -> String {
        let sent = self.times.len();
        json!({
            "messages": sent,
            "failed": self.failures.values().sum::<u64>(),
            "failures": self.failures,
            "repeated": self.repeated,
            "seconds": took.as_secs_f64(),
            "per_s": sent as f64 / took.as_secs_f64(),
            "idle": idle,
            "latency_ms": {
                "p50": self.milliseconds(0.5),
                "p90": self.milliseconds(0.9),
                "p99": self.milliseconds(0.99),
                "p99.9": self.milliseconds(0.999),
                "max": self.times.max() as f64 / 1000.0,
            },
        })
        .to_string()
    }

    pub(super) fn text(&self, took: Duration) -> String {
        let sent = self.times.len();
        let mut text = format!(
            "{sent} messages in {:.2} s: {:.0} a second\n\
             milliseconds a message: p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            took.as_secs_f64(),
            sent as f64 / took.as_secs_f64(),
            self.milliseconds(0.5),
            self.milliseconds(0.9),
            self.milliseconds(0.99),
            self.milliseconds(0.999),
            self.times.max() as f64 / 1000.0,
        );
        for (why, count) in &self.failures {
            text.push_str(&format!("\nfailed: {count} × {why}"));
        }
        if self.repeated > 0 {
            text.push_str(&format!("\ntaken for a repetition: {}", self.repeated));
        }
        text
    }
}
