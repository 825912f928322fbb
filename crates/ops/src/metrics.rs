//! Counts of what happens, for Prometheus.
//!
//! Labels are bounded: names of listeners, plugins, transports and sources come from the configuration,
//! reply codes from the few there are. Addresses are never labels.
//!
//! | metric | labels |
//! |---|---|
//! | `merpati_connections_total`, `merpati_connections_open`, `merpati_session_seconds` | `listener` |
//! | `merpati_verdicts_total` | `stage`, `plugin`, `decision` |
//! | `merpati_policy_seconds` | `stage`, `plugin` |
//! | `merpati_logins_total` | `mechanism`, `result` |
//! | `merpati_refused_total` | `stage`, `code` |
//! | `merpati_messages_accepted_total`, `merpati_message_octets`, `merpati_accept_seconds` | `listener` |
//! | `merpati_messages_discarded_total` | `listener` |
//! | `merpati_deliveries_total` | `transport`, `result` |
//! | `merpati_source_deliveries_total` | `source`, `result` |
//! | `merpati_reports_total` | `action` |
//! | `merpati_reports_heard_total` | `kind`, `class` |
//! | `merpati_queue_messages`, `merpati_queue_octets` | |
//! | `merpati_queue_parcels` | `state` |
//! | `merpati_ready`, `merpati_shedding` (0 or 1) | |
//! | `merpati_spool_full`, `merpati_spool_failing`, `merpati_spool_loading` (0 or 1) | |
//! | `merpati_spool_damaged` | |
//! | `merpati_spool_index` (0 or 1) | `state` |

use std::time::Duration;

use merpati_plugin::spool::Stats;
use merpati_plugin::{Event, Observer};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::api::{HealthView, Index};
use crate::events;

/// From a policy that only looks at memory to a session of an hour.
const SECONDS: [f64; 12] =
    [0.000_1, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// From a line of text to the largest messages.
const OCTETS: [f64; 8] = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 10e6, 50e6];

const COUNTERS_AND_TIMES: [(&str, &str); 12] = [
    ("merpati_connections_total", "Connections accepted."),
    ("merpati_verdicts_total", "Answers of policies."),
    ("merpati_logins_total", "Attempts to authenticate."),
    ("merpati_refused_total", "Commands and messages refused, by stage and reply code."),
    ("merpati_messages_accepted_total", "Messages for which responsibility was taken."),
    ("merpati_messages_discarded_total", "Messages answered 250 and not kept."),
    ("merpati_deliveries_total", "Recipients of delivery attempts, by result."),
    ("merpati_source_deliveries_total", "The same for those of whom a host spoke, by source."),
    ("merpati_reports_total", "Delivery reports queued."),
    ("merpati_reports_heard_total", "Recipients of whom reports from outside speak."),
    ("merpati_session_seconds", "How long connections lasted."),
    ("merpati_accept_seconds", "From MAIL to a durable message."),
];

const GAUGES: [(&str, &str); 7] = [
    ("merpati_ready", "Whether mail is taken."),
    ("merpati_shedding", "Whether new mail is turned away for want of room."),
    ("merpati_spool_full", "Whether new mail is refused for want of space."),
    ("merpati_spool_failing", "Whether nothing can be made durable at present."),
    ("merpati_spool_loading", "Whether older mail is still being looked up after a start."),
    ("merpati_spool_damaged", "Places that could not be read since the start."),
    ("merpati_spool_index", "Whether all mail can be found."),
];

/// The metrics of a process: an observer that counts.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let recorder = builder().expect("there are buckets").build_recorder();
        for (name, text) in COUNTERS_AND_TIMES {
            let text = SharedString::const_str(text);
            if name.ends_with("_seconds") {
                recorder.describe_histogram(KeyName::from(name), None, text);
            } else {
                recorder.describe_counter(KeyName::from(name), None, text);
            }
        }
        for (name, text) in GAUGES {
            recorder.describe_gauge(KeyName::from(name), None, SharedString::const_str(text));
        }
        Self { handle: recorder.handle(), recorder }
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Tells the depth of the queue.
    pub fn set_queue(&self, stats: &Stats) {
        self.gauge("merpati_queue_messages", Vec::new(), stats.messages);
        self.gauge("merpati_queue_octets", Vec::new(), stats.bytes);
        for (state, parcels) in [
            ("active", stats.active),
            ("deferred", stats.deferred),
            ("held", stats.held),
            ("leased", stats.leased),
        ] {
            self.gauge("merpati_queue_parcels", labels([("state", state)]), parcels);
        }
    }

    /// Tells how the server is.
    pub fn set_health(&self, health: &HealthView) {
        let spool = &health.spool;
        for (name, value) in [
            ("merpati_ready", u64::from(health.ready)),
            ("merpati_shedding", u64::from(health.shedding.is_some())),
            ("merpati_spool_full", u64::from(spool.full.is_some())),
            ("merpati_spool_failing", u64::from(spool.failing.is_some())),
            ("merpati_spool_loading", u64::from(spool.index.is_loading())),
            ("merpati_spool_damaged", spool.damaged),
        ] {
            self.gauge(name, Vec::new(), value);
        }
        for state in [Index::Whole, Index::Loading, Index::Rebuilding, Index::Lost] {
            let labels = labels([("state", state.name())]);
            self.gauge("merpati_spool_index", labels, u64::from(state == spool.index));
        }
    }

    fn count(&self, name: &'static str, labels: Vec<Label>) {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA).increment(1);
    }

    // Counts and sizes beyond 2^53 do not occur, and would only be rounded.
    #[allow(clippy::cast_precision_loss)]
    fn gauge(&self, name: &'static str, labels: Vec<Label>, value: u64) {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA).set(value as f64);
    }

    fn record(&self, name: &'static str, labels: Vec<Label>, value: f64) {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA).record(value);
    }

    fn time(&self, name: &'static str, labels: Vec<Label>, took: Duration) {
        self.record(name, labels, took.as_secs_f64());
    }

    fn open_connections(&self, listener: &str) -> metrics::Gauge {
        let key = Key::from_parts("merpati_connections_open", labels([("listener", listener)]));
        self.recorder.register_gauge(&key, &METADATA)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected { conversation } => {
                let listener = &conversation.connection.listener;
                self.count("merpati_connections_total", labels([("listener", listener)]));
                self.open_connections(listener).increment(1.0);
            }
            Event::Disconnected { conversation, lasted, .. } => {
                let listener = &conversation.connection.listener;
                self.open_connections(listener).decrement(1.0);
                self.time("merpati_session_seconds", labels([("listener", listener)]), *lasted);
            }
            Event::Verdict { record, .. } => {
                let at = [("stage", record.stage.name()), ("plugin", record.plugin)];
                self.time("merpati_policy_seconds", labels(at), record.took);
                let [stage, plugin] = at;
                let decision = ("decision", record.decision);
                self.count("merpati_verdicts_total", labels([stage, plugin, decision]));
            }
            Event::Login { mechanism, refused, .. } => {
                let result = if refused.is_some() { "refused" } else { "ok" };
                let labels = labels([("mechanism", mechanism), ("result", result)]);
                self.count("merpati_logins_total", labels);
            }
            Event::Refused { stage, rejection, .. } => {
                let code = rejection.code().as_u16().to_string();
                let labels = labels([("stage", stage.name()), ("code", &code)]);
                self.count("merpati_refused_total", labels);
            }
            Event::Accepted { conversation, size, took, .. } => {
                let labels = labels([("listener", &conversation.connection.listener)]);
                self.count("merpati_messages_accepted_total", labels.clone());
                self.time("merpati_accept_seconds", labels.clone(), *took);
                #[allow(clippy::cast_precision_loss)]
                self.record("merpati_message_octets", labels, *size as f64);
            }
            Event::Discarded { conversation, .. } => {
                let labels = labels([("listener", &conversation.connection.listener)]);
                self.count("merpati_messages_discarded_total", labels);
            }
            Event::Repeated { conversation, .. } => {
                let labels = labels([("listener", &conversation.connection.listener)]);
                self.count("merpati_messages_repeated_total", labels);
            }
            Event::Attempted { transport, outcome, bounced, .. } => {
                let result = events::result(&outcome.result, *bounced);
                let labels = labels([("transport", transport), ("result", result)]);
                self.count("merpati_deliveries_total", labels);
                if let Some(source) = &outcome.source {
                    let labels = self::labels([("source", &**source), ("result", result)]);
                    self.count("merpati_source_deliveries_total", labels);
                }
            }
            Event::Heard { news, .. } => {
                let class = news.class.unwrap_or("none");
                let labels = labels([("kind", news.kind), ("class", class)]);
                self.count("merpati_reports_heard_total", labels);
            }
            Event::Reported { action, .. } => {
                self.count("merpati_reports_total", labels([("action", action)]));
            }
            _ => {}
        }
    }
}

const METADATA: Metadata<'_> = Metadata::new("merpati", Level::INFO, None);

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_octets".to_owned()), &OCTETS)
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<Label> {
    pairs.into_iter().map(|(name, value)| Label::new(name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use merpati_plugin::{Connection, Conversation, News, Protocol, Stage};
    use merpati_types::{Rejection, Status};

    use super::*;

    #[test]
    fn counts_with_bounded_labels() {
        let metrics = Metrics::new();
        let address = "192.0.2.1:25".parse().unwrap();
        let conversation = Conversation::new(Connection {
            id: 1,
            listener: Arc::from("mx"),
            protocol: Protocol::Smtp,
            local: address,
            peer: address,
        });
        let rejection = Rejection::permanent(Status::NO_MAILBOX, "no such mailbox");
        let refused = Event::Refused {
            conversation: &conversation,
            stage: Stage::Rcpt,
            subject: Some("x@y.test"),
            id: None,
            rejection: &rejection,
        };
        metrics.observe(&Event::Connected { conversation: &conversation });
        metrics.observe(&refused);
        metrics.observe(&refused);
        let lasted = Duration::from_secs(2);
        metrics.observe(&Event::Connected { conversation: &conversation });
        metrics.observe(&Event::Disconnected { conversation: &conversation, lasted, messages: 0 });
        let recipient = merpati_types::Mailbox::parse("b@y.test").ok();
        let class = Some("unknown-user");
        let news = News { kind: "failed", recipient, class, ..News::default() };
        metrics.observe(&Event::Heard { id: None, news: &news });
        metrics.set_queue(&Stats { held: 7, ..Stats::default() });
        let text = metrics.render();
        for line in [
            "merpati_connections_total{listener=\"mx\"} 2",
            "merpati_connections_open{listener=\"mx\"} 1",
            "merpati_refused_total{stage=\"rcpt\",code=\"550\"} 2",
            "merpati_session_seconds_bucket{listener=\"mx\",le=\"5\"} 1",
            "merpati_session_seconds_bucket{listener=\"mx\",le=\"1\"} 0",
            "merpati_reports_heard_total{kind=\"failed\",class=\"unknown-user\"} 1",
            "merpati_queue_parcels{state=\"held\"} 7",
            "# HELP merpati_refused_total Commands and messages refused, by stage and reply code.",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(!text.contains("y.test") && !text.contains("192.0.2.1"), "{text}");
    }
}
