//! When to try again, when to warn, when to give up.

use std::time::Duration;

use merpati_types::Timestamp;

/// The shortest interval: whatever the settings, a failing site is not asked without pause.
const LEAST: Duration = Duration::from_secs(1);

/// A retry schedule: intervals that double from `first` to `most`, each spread by jitter, until
/// the message is as old as `expiry`. No interval is shorter than a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The interval after the first failure. Default 5 minutes.
    pub first: Duration,
    /// The longest interval. Default 4 hours. RFC 5321 §4.5.4.1 asks for 30 minutes at least,
    /// after the first attempts.
    pub most: Duration,
    /// Intervals differ by up to this many per cent either way, so that messages that failed
    /// together are not tried together; at most 100. Default 10.
    pub jitter_percent: u32,
    /// The age at which a message is given up. Default 5 days (RFC 5321 §4.5.4.1: 4–5 days).
    pub expiry: Duration,
    /// The age at which the sender is told of the delay. Default 4 hours.
    pub warn_after: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5 * 60),
            most: Duration::from_secs(4 * 3_600),
            jitter_percent: 10,
            expiry: Duration::from_secs(5 * 86_400),
            warn_after: Duration::from_secs(4 * 3_600),
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again at this moment, which is not after the expiry.
    RetryAt(Timestamp),
    /// Give up.
    Expired,
}

impl Schedule {
    /// What follows the failure at `now` of attempt number `attempts`, counted from 1, of a
    /// message that arrived at `arrived`. `seed` decides the jitter.
    #[must_use]
    pub fn after_failure(
        &self,
        arrived: Timestamp,
        now: Timestamp,
        attempts: u32,
        seed: u64,
    ) -> Next {
        let expires = arrived.after(self.expiry);
        if now >= expires {
            return Next::Expired;
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let interval = self.first.saturating_mul(1 << doublings).min(self.most);
        let spread = interval / 100 * self.jitter_percent.min(100);
        let more = scale(spread, mix(seed ^ u64::from(attempts)));
        let interval = (interval - spread).saturating_add(more).saturating_add(more).max(LEAST);
        // One last attempt at the very end, rather than none in the last hours.
        Next::RetryAt(now.after(interval).min(expires))
    }

    /// Whether the sender is to be told of the delay now.
    #[must_use]
    pub fn warns(&self, arrived: Timestamp, now: Timestamp) -> bool {
        now.since(arrived) >= self.warn_after
    }
}

/// A fraction of `span`, by 16 bits of `random`.
fn scale(span: Duration, random: u64) -> Duration {
    let fraction = u32::try_from(random & 0xFFFF).unwrap_or(0);
    span / 0xFFFF * fraction
}

/// SplitMix64's finaliser: near seeds give far numbers.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::ProptestConfig;
    use proptest::test_runner::RngSeed;

    use super::*;

    const HOUR: u64 = 3_600;

    fn retry(schedule: &Schedule, age: u64, attempts: u32, seed: u64) -> Option<u64> {
        let arrived = Timestamp::from_millis(0);
        let now = arrived.after(Duration::from_secs(age));
        match schedule.after_failure(arrived, now, attempts, seed) {
            Next::RetryAt(when) => Some(when.since(now).as_secs()),
            Next::Expired => None,
        }
    }

    #[test]
    fn intervals_double_within_jitter_up_to_the_most() {
        let schedule = Schedule::default();
        for seed in 0..200 {
            for (attempts, middle) in
                [(1, 300), (2, 600), (3, 1_200), (6, 9_600), (7, 4 * HOUR), (40, 4 * HOUR)]
            {
                let interval = retry(&schedule, 10, attempts, seed).unwrap();
                let low = middle - middle / 10;
                let high = middle + middle / 10;
                assert!((low..=high).contains(&interval), "attempt {attempts}: {interval}");
            }
        }
        let different: std::collections::BTreeSet<_> =
            (0..50).map(|seed| retry(&schedule, 10, 1, seed)).collect();
        assert!(different.len() > 20, "jitter does not spread");
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(5321),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Whatever the settings and times, a retry is later than now, by as much as the
        /// settings say, and not after the expiry; and so messages do expire.
        #[test]
        fn retries_are_later_and_messages_expire(
            first in 0..u64::MAX,
            most in 0..u64::MAX,
            expiry in 0..u64::MAX,
            jitter_percent in 0..200_u32,
            arrived in 0..i64::MAX,
            age in 0..u64::MAX,
            attempts in 0..u32::MAX,
            seed in 0..u64::MAX,
            shift in 0..64_u32,
        ) {
            // Small numbers and huge ones alike.
            let [first, most, expiry, age] = [first, most, expiry, age].map(|n| n >> shift);
            let schedule = Schedule {
                first: Duration::from_secs(first),
                most: Duration::from_secs(most),
                jitter_percent,
                expiry: Duration::from_secs(expiry),
                ..Schedule::default()
            };
            let arrived = Timestamp::from_millis(arrived >> shift);
            let now = arrived.after(Duration::from_secs(age));
            let expires = arrived.after(Duration::from_secs(expiry));
            match schedule.after_failure(arrived, now, attempts, seed) {
                Next::Expired => proptest::prop_assert!(now >= expires),
                Next::RetryAt(when) => {
                    proptest::prop_assert!(now < when && when <= expires);
                    let interval = when.since(now);
                    proptest::prop_assert!(interval >= LEAST || when == expires);
                    let longest = schedule.most.saturating_mul(2).max(LEAST);
                    proptest::prop_assert!(interval <= longest);
                }
            }
        }
    }

    /// Five days of failures: how often a message is tried by default.
    #[test]
    fn a_message_is_tried_some_forty_times() {
        let schedule = Schedule::default();
        let arrived = Timestamp::from_millis(0);
        for seed in 0..100 {
            let (mut now, mut attempts) = (arrived, 1);
            while let Next::RetryAt(when) = schedule.after_failure(arrived, now, attempts, seed) {
                (now, attempts) = (when, attempts + 1);
            }
            assert_eq!(now, arrived.after(schedule.expiry));
            assert!((34..=42).contains(&attempts), "{attempts} attempts");
        }
    }

    #[test]
    fn the_last_attempt_is_at_the_expiry_and_nothing_is_after_it() {
        let schedule = Schedule::default();
        let day = 24 * HOUR;
        assert_eq!(retry(&schedule, 5 * day - HOUR, 40, 1), Some(HOUR));
        assert_eq!(retry(&schedule, 5 * day, 40, 1), None);
        let at = |age| Timestamp::from_millis(0).after(Duration::from_secs(age));
        assert!(!schedule.warns(at(0), at(4 * HOUR - 1)));
        assert!(schedule.warns(at(0), at(4 * HOUR)));
    }
}
