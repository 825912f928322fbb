//! Which source sends a message.
//!
//! Every source of the pool draws a number from the message, the site and its own name, weighed by
//! its share, and the best draw wins. Thus
//!
//! - shares are as weights say, over many messages,
//! - a message keeps its source from attempt to attempt,
//! - one that rests, or has no address of the site's families, leaves its share to the others as
//!   their weights say, and takes no other message's source away.

use std::net::IpAddr;
use std::sync::Arc;

use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, SourceRests};
use merpati_types::{Rejection, Status, Timestamp};

use super::{Source, SourcePool, Sources, Usual};

/// The site under which sources rest that cannot send to anybody.
pub(crate) const ANYWHERE: &str = "*";

/// What a message is sent from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// The pool that somebody has chosen for it.
    pub(crate) pool: Option<&'a str>,
    /// Where it goes.
    pub(crate) site: &'a str,
    /// The addresses there.
    pub(crate) addresses: &'a [IpAddr],
    /// What stands for the message.
    pub(crate) seed: u64,
}

/// Why nobody sends it now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSource {
    #[error("there is no source pool `{0}`")]
    Unknown(String),
    #[error("all sources of pool `{pool}` rest at this site until {until}")]
    AllRest { pool: Arc<str>, until: Timestamp },
    #[error("no source of pool `{0}` has an address of a family that the site has")]
    OutOfReach(Arc<str>),
}

impl Sources {
    /// The pool that is chosen, if it is one of ours; `None` for messages that go out as they
    /// would from a server without pools.
    pub(crate) fn pool(&self, chosen: Option<&str>) -> Result<Option<&SourcePool>, NoSource> {
        let name = match (chosen, &self.default) {
            (Some(name), _) => name,
            (None, Usual::Pool(name)) => name,
            (None, Usual::Unnamed(_)) => return Ok(None),
        };
        let pool = self.pools.get(name);
        pool.map(Some).ok_or_else(|| NoSource::Unknown(name.to_owned()))
    }

    /// The source of a message.
    pub(crate) fn choose(
        &self,
        choice: &Choice<'_>,
        now: Timestamp,
    ) -> Result<Arc<Source>, NoSource> {
        let Some(pool) = self.pool(choice.pool)? else {
            return Ok(self.unnamed_source());
        };
        let reach = |source: &Source| {
            choice.addresses.is_empty() || choice.addresses.iter().any(|to| source.reaches(*to))
        };
        let mut best: Option<(f64, &Arc<Source>)> = None;
        let mut first_end: Option<Timestamp> = None;
        for (source, weight) in pool.members.iter().filter(|(source, _)| reach(source)) {
            let name = source.name.as_deref().unwrap_or_default();
            if *weight == 0 {
                continue;
            }
            if let Some(until) = self.rests_until(choice.site, name, now) {
                first_end = Some(first_end.map_or(until, |first| first.min(until)));
                continue;
            }
            let draw = draw(choice.seed, choice.site, name, *weight);
            if best.is_none_or(|(best, _)| draw < best) {
                best = Some((draw, source));
            }
        }
        match (best, first_end) {
            (Some((_, source)), _) => Ok(Arc::clone(source)),
            (None, Some(until)) => Err(NoSource::AllRest { pool: Arc::clone(&pool.name), until }),
            (None, None) => Err(NoSource::OutOfReach(Arc::clone(&pool.name))),
        }
    }

    /// Until when a source leaves a site alone, for the site's sake or its own.
    pub(crate) fn rests_until(&self, site: &str, name: &str, now: Timestamp) -> Option<Timestamp> {
        let there = self.rests.until(site, name, now);
        there.max(self.rests.until(ANYWHERE, name, now))
    }

    /// Who rests where.
    pub(crate) fn rests(&self) -> &SourceRests {
        &self.rests
    }

    /// What is used where pools are not asked.
    pub(crate) fn unnamed_source(&self) -> Arc<Source> {
        match &self.default {
            Usual::Unnamed(source) => Arc::clone(source),
            Usual::Pool(_) => Arc::default(),
        }
    }
}

impl NoSource {
    /// Whether somebody has to mend the configuration.
    pub(crate) fn is_mistake(&self) -> bool {
        !matches!(self, Self::AllRest { .. })
    }

    /// It is ours, whatever it is: mail waits, and the site is well.
    pub(crate) fn to_outcome(&self) -> DeliveryOutcome {
        let status = match self {
            Self::Unknown(_) => Status::MISCONFIGURED,
            Self::AllRest { .. } | Self::OutOfReach(_) => Status::NO_ROUTE,
        };
        DeliveryOutcome::refused(
            &Rejection::transient(status, &self.to_string()),
            DeferClass::Local,
        )
    }
}

/// A draw of an exponential distribution whose rate is the weight: that the least of several is a
/// certain one is as probable as its weight's part of all.
fn draw(seed: u64, site: &str, source: &str, weight: u32) -> f64 {
    let octets = site.bytes().chain([0]).chain(source.bytes());
    // FNV-1a, the same on every machine and after every restart, and then SplitMix64's finish.
    let mut hash = octets.fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    // 52 bits and a half, so that it is neither 0 nor 1.
    #[allow(clippy::cast_precision_loss)]
    let uniform = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -uniform.ln() / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn source(name: &str, addresses: &[&str]) -> Arc<Source> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Source { name: Some(name.into()), addresses, ..Source::default() })
    }

    fn sources(members: &[(&str, u32, &[&str])]) -> Sources {
        let members = members.iter().map(|(name, weight, addresses)| {
            let source = source(name, addresses);
            (source, *weight)
        });
        let pool = SourcePool { name: "bulk".into(), members: members.collect() };
        Sources::default().with_pool(pool)
    }

    fn chosen(sources: &Sources, seed: u64, addresses: &[&str]) -> String {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let choice = Choice { pool: Some("bulk"), site: "mx:a.test", addresses: &addresses, seed };
        match sources.choose(&choice, NOW) {
            Ok(source) => source.name.as_deref().unwrap_or("-").to_owned(),
            Err(error) => error.to_string(),
        }
    }

    const MESSAGES: u64 = 60_000;

    /// Per cent of messages by source.
    fn shares(sources: &Sources) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::<String, u64>::new();
        for seed in 0..MESSAGES {
            *counts.entry(chosen(sources, seed, &[])).or_default() += 1;
        }
        counts.into_iter().map(|(name, n)| (name, (n * 100 + MESSAGES / 2) / MESSAGES)).collect()
    }

    fn expect(shares: &BTreeMap<String, u64>, expected: &[(&str, u64)]) {
        let close = |(name, share): &(&str, u64)| {
            shares.get(*name).is_some_and(|found| found.abs_diff(*share) <= 1)
        };
        assert!(shares.len() == expected.len() && expected.iter().all(close), "{shares:?}");
    }

    #[test]
    fn shares_are_as_weights_say() {
        let three = sources(&[("a", 1, &[]), ("b", 3, &[]), ("c", 6, &[]), ("d", 0, &[])]);
        expect(&shares(&three), &[("a", 10), ("b", 30), ("c", 60)]);
        // Who rests leaves its share to the others, and each its own messages.
        let before: Vec<_> = (0..1_000).map(|seed| chosen(&three, seed, &[])).collect();
        three.rests().rest("mx:a.test", "c", Timestamp::from_millis(2_000_000));
        expect(&shares(&three), &[("a", 25), ("b", 75)]);
        for (seed, before) in before.iter().enumerate().filter(|(_, before)| *before != "c") {
            assert_eq!(chosen(&three, seed as u64, &[]), *before);
        }
        expect(&shares(&sources(&[("a", 1, &[])])), &[("a", 100)]);
    }

    #[test]
    fn a_message_keeps_its_source_and_sites_differ() {
        let two = sources(&[("a", 1, &[]), ("b", 1, &[])]);
        assert_eq!(chosen(&two, 7, &[]), chosen(&two, 7, &[]));
        let at = |site: &str| {
            let choice = Choice { pool: Some("bulk"), site, addresses: &[], seed: 7 };
            two.choose(&choice, NOW).unwrap().name.clone()
        };
        let names: Vec<_> = (0..20).map(|site| at(&format!("mx:{site}.test"))).collect();
        assert!(names.iter().any(|name| *name != names[0]));
    }

    #[test]
    fn who_cannot_be_used_is_left_out_and_the_reason_told() {
        let four = ["192.0.2.1"];
        let six = ["2001:db8::1"];
        let two = sources(&[("four", 1, &four), ("six", 1, &six)]);
        for seed in 0..20 {
            assert_eq!(chosen(&two, seed, &["198.51.100.1"]), "four");
            assert_eq!(chosen(&two, seed, &["2001:db8::9"]), "six");
        }
        let only = sources(&[("four", 1, &four)]);
        assert_eq!(
            chosen(&only, 1, &["2001:db8::9"]),
            "no source of pool `bulk` has an address of a family that the site has"
        );
        two.rests().rest("mx:a.test", "four", Timestamp::from_millis(1_500_000));
        assert_eq!(chosen(&two, 1, &["198.51.100.1", "2001:db8::9"]), "six");
        two.rests().rest(ANYWHERE, "six", Timestamp::from_millis(1_200_000));
        assert_eq!(
            chosen(&two, 1, &[]),
            "all sources of pool `bulk` rest at this site until 1970-01-01T00:20:00.000Z"
        );
    }

    #[test]
    fn nobody_is_chosen_where_nothing_is_configured_or_the_pool_is_unknown() {
        let choice = Choice { pool: None, site: "mx:a.test", addresses: &[], seed: 1 };
        let sources = sources(&[("a", 1, &[])]);
        assert_eq!(sources.choose(&choice, NOW).unwrap().name, None);
        let by_default = sources.clone().by_default("bulk");
        assert_eq!(by_default.choose(&choice, NOW).unwrap().name.as_deref(), Some("a"));
        let unknown = Choice { pool: Some("nonsuch"), ..choice };
        let error = sources.choose(&unknown, NOW).unwrap_err();
        assert!(error.is_mistake());
        let outcome = error.to_outcome();
        assert_eq!(outcome.diagnostic, "451 4.3.5 there is no source pool `nonsuch`");
    }
}
