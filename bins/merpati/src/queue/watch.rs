//! `merpati queue watch`: what happens, interval by interval.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use merpati_ops::api::{ActivityView, HopView, Status};
use merpati_ops::client::{Client, ClientError};
use serde_json::json;

use crate::table::{align, plain, size};

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Looks this often
    #[arg(long, value_name = "TIME", default_value = "2s",
          value_parser = merpati_config::parse_duration)]
    interval: Duration,
    /// Ends after so many intervals
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// What happened in an interval, in one second.
struct Rates {
    accepted: f64,
    delivered: f64,
    deferred: f64,
    bounced: f64,
}

pub(crate) fn run(args: &WatchArgs, client: &Client, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let redraw = out.is_terminal() && !json;
    let mut before: ActivityView = client.get("/v1/activity")?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        thread::sleep(args.interval);
        shown += 1;
        let now: ActivityView = match client.get("/v1/activity") {
            Ok(now) => now,
            // It may come back: a restart is what one watches for.
            Err(error @ ClientError::Unreachable { .. }) => {
                eprintln!("merpati: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let rates = Rates::between(&before, &now);
        if json {
            writeln!(out, "{}", rates.to_json(&now)?)?;
        } else if redraw {
            write!(out, "\x1b[H\x1b[J{}", screen(&before, &now, &rates))?;
        } else {
            writeln!(out, "{}", line(&now, &rates))?;
        }
        out.flush()?;
        before = now;
    }
    Ok(())
}

impl Rates {
    fn between(before: &ActivityView, now: &ActivityView) -> Self {
        let millis = u32::try_from(now.at.saturating_sub(before.at)).unwrap_or(u32::MAX).max(1);
        let rate = |before: u64, now: u64| per_second(grown(before, now), millis);
        Self {
            accepted: rate(before.accepted, now.accepted),
            delivered: rate(before.delivered, now.delivered),
            deferred: rate(before.deferred, now.deferred),
            bounced: rate(before.bounced, now.bounced),
        }
    }

    fn to_json(&self, now: &ActivityView) -> serde_json::Result<String> {
        let Self { accepted, delivered, deferred, bounced } = self;
        let mut value = serde_json::to_value(now)?;
        value["rates"] = json!({
            "accepted": accepted,
            "delivered": delivered,
            "deferred": deferred,
            "bounced": bounced,
        });
        serde_json::to_string(&value)
    }
}

/// How much a count has grown; it begins anew when the server does.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn per_second(count: u64, millis: u32) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let tenths = (f64::from(count) * 10_000.0 / f64::from(millis)).round();
    tenths / 10.0
}

fn line(now: &ActivityView, rates: &Rates) -> String {
    let queue = &now.queue;
    let mut line = format!(
        "queued {} (active {}, deferred {}, held {}, leased {}, {}); a second: accepted {:.1}, \
         delivered {:.1}, deferred {:.1}, bounced {:.1}",
        queue.messages,
        queue.active,
        queue.deferred,
        queue.held,
        queue.leased,
        size(queue.octets),
        rates.accepted,
        rates.delivered,
        rates.deferred,
        rates.bounced,
    );
    if now.status != Status::Ok {
        line.push_str("; ");
        line.push_str(now.status.name());
    }
    for reason in &now.reasons {
        line.push_str("; ");
        line.push_str(&plain(reason));
    }
    line
}

/// A screen: health, the queue, rates, and the busiest next hops with what changed.
fn screen(before: &ActivityView, now: &ActivityView, rates: &Rates) -> String {
    let mut text = format!("{}\n\n", line(now, rates).replace("; ", "\n"));
    let title = ["next hop", "queued", "size", "delivered", "deferred", "bounced", "last refusal"];
    let mut rows = vec![title.map(str::to_owned)];
    for hop in &now.hops {
        let old = before.hops.iter().find(|old| old.domain == hop.domain);
        let count = |count: fn(&HopView) -> u64| {
            let now = count(hop);
            match grown(old.map_or(0, count), now) {
                0 => now.to_string(),
                more => format!("{now} +{more}"),
            }
        };
        let last = hop.last.as_deref().unwrap_or_default();
        rows.push([
            plain(&hop.domain),
            hop.messages.to_string(),
            size(hop.octets),
            count(|hop| hop.delivered),
            count(|hop| hop.deferred),
            count(|hop| hop.bounced),
            plain(last).chars().take(60).collect(),
        ]);
    }
    for line in align(&rows) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use merpati_ops::api::StatsView;

    use super::*;

    fn view(at: i64, delivered: u64) -> ActivityView {
        let hop = HopView {
            domain: "receiver.test".to_owned(),
            messages: 7,
            octets: 70,
            delivered,
            deferred: 1,
            bounced: 0,
            last: Some("450 busy".to_owned()),
        };
        ActivityView {
            at,
            status: Status::Degraded,
            reasons: vec!["the spool is full: no room".to_owned()],
            queue: StatsView { messages: 7, deferred: 7, octets: 70, ..StatsView::default() },
            accepted: 0,
            delivered,
            deferred: 1,
            bounced: 0,
            hops: vec![hop],
        }
    }

    #[test]
    fn shows_rates_and_what_changed() {
        let (before, now) = (view(1_000, 10), view(3_000, 15));
        let rates = Rates::between(&before, &now);
        let line = line(&now, &rates);
        assert_eq!(
            line,
            "queued 7 (active 0, deferred 7, held 0, leased 0, 70); a second: accepted 0.0, \
             delivered 2.5, deferred 0.0, bounced 0.0; degraded; the spool is full: no room"
        );
        let screen = screen(&before, &now, &rates);
        let row = "receiver.test  7       70    15 +5      1         0        450 busy";
        assert!(screen.lines().any(|line| line == row), "{screen}");
        // The server began anew.
        assert!((Rates::between(&now, &view(5_000, 4)).delivered - 2.0).abs() < 1e-9);
    }
}
