//! From the configuration to what the queue goes by.

use std::sync::Arc;

use merpati_config::RoleConfig;
use merpati_config::sections::{Deliver, Destination, OutboundTls, Rate, Retry};
use merpati_deliver::runner::Rules;
use merpati_deliver::smtp::Pin;
use merpati_plugin::options::{Errors, Place};
use merpati_queue::{Intervals, Limits, Schedule, SiteLimits};
use merpati_route::security::Override;
use merpati_route::{Pattern, PatternError, Table};

/// What holds for every destination.
pub(crate) fn usual(deliver: &Deliver) -> Rules {
    let site = SiteLimits {
        most: deliver.concurrency_per_site,
        held: deliver.held_per_site,
        rest: deliver.rest,
        rest_most: deliver.rest_most,
        ..SiteLimits::default()
    };
    Rules { schedule: schedule(deliver), site: Arc::new(site) }
}

/// The bounds of the queue as a whole.
pub(crate) fn limits(deliver: &Deliver) -> Limits {
    Limits { running: deliver.concurrency, held: deliver.held }
}

/// What holds for some destinations. Patterns that are none are told to `wrong`, and left out.
pub(crate) fn destinations(
    config: &RoleConfig,
    mut wrong: impl FnMut(&Place, PatternError),
) -> Table<Rules> {
    let usual = usual(&config.deliver);
    let mut rows = Vec::new();
    for destination in &config.destinations {
        let rules = special(destination, &usual);
        for pattern in &destination.patterns {
            match pattern.value.parse::<Pattern>() {
                Ok(parsed) => rows.push((parsed, rules.clone())),
                Err(error) => wrong(&pattern.place, error),
            }
        }
    }
    Table::new(rows)
}

/// What hosts of some destinations must have. Pins that are none are told to `errors`; patterns
/// that are none are left out, and told of by [`destinations`].
pub(crate) fn tls(config: &RoleConfig, errors: &Errors) -> Table<Override> {
    let mut rows = Vec::new();
    for destination in &config.destinations {
        let Some(choice) = destination.tls else { continue };
        let mut pins = Vec::new();
        for pin in &destination.pins {
            match pin.value.parse() {
                Ok(parsed) => pins.push(parsed),
                Err::<Pin, _>(error) => drop(errors.report(&pin.place, error)),
            }
        }
        let Some(wanted) = wanted(choice, &pins) else { continue };
        let patterns = destination.patterns.iter().filter_map(|at| at.value.parse().ok());
        rows.extend(patterns.map(|pattern: Pattern| (pattern, wanted.clone())));
    }
    Table::new(rows)
}

/// What a choice means; `None` for pinned keys of which there are none.
pub(crate) fn wanted(choice: OutboundTls, pins: &[Pin]) -> Option<Override> {
    Some(match choice {
        OutboundTls::None => Override::None,
        OutboundTls::May => Override::May,
        OutboundTls::Encrypt => Override::Encrypt,
        OutboundTls::Dane => Override::Dane,
        OutboundTls::Verify => Override::Verify,
        OutboundTls::Pinned if pins.is_empty() => return None,
        OutboundTls::Pinned => Override::Pinned(pins.iter().map(|pin| pin.0.clone()).collect()),
    })
}

fn special(destination: &Destination, usual: &Rules) -> Rules {
    let Schedule { jitter_percent, expiry, warn_after, .. } = usual.schedule;
    let intervals = |usual: Intervals| {
        let most = destination.retry_most.unwrap_or(usual.most);
        let first = destination.retry_first.unwrap_or(usual.first).min(most);
        Intervals { first, most }
    };
    let schedule = Schedule {
        usual: intervals(usual.schedule.usual),
        connection: intervals(usual.schedule.connection),
        dns: intervals(usual.schedule.dns),
        greylisting: intervals(usual.schedule.greylisting),
        over_quota: intervals(usual.schedule.over_quota),
        jitter_percent,
        expiry: destination.expire.unwrap_or(expiry),
        warn_after: destination.warn.unwrap_or(warn_after),
    };
    let rate =
        |rate: Option<Rate>| rate.and_then(|rate| merpati_queue::Rate::new(rate.count, rate.per));
    let site = SiteLimits {
        most: destination.concurrency.unwrap_or(usual.site.most),
        messages: rate(destination.messages),
        connections: rate(destination.connections),
        recipients: rate(destination.recipients),
        ..SiteLimits::clone(&usual.site)
    };
    Rules { schedule, site: Arc::new(site) }
}

fn schedule(deliver: &Deliver) -> Schedule {
    let intervals = |retry: Retry| Intervals { first: retry.first, most: retry.most };
    Schedule {
        usual: Intervals { first: deliver.retry_first, most: deliver.retry_most },
        connection: intervals(deliver.connection),
        dns: intervals(deliver.dns),
        greylisting: intervals(deliver.greylisting),
        over_quota: intervals(deliver.over_quota),
        jitter_percent: deliver.retry_jitter,
        expiry: deliver.expire,
        warn_after: deliver.warn,
    }
}
