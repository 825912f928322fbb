//! When to try again, when to warn, when to give up.

use std::time::Duration;

use merpati_types::Timestamp;

/// A retry schedule: intervals that double from `first` to `most`, each spread by jitter, until
/// the message is as old as `expiry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The interval after the first failure. Default 5 minutes.
    pub first: Duration,
    /// The longest interval. Default 4 hours. RFC 5321 §4.5.4.1 asks for 30 minutes at least,
    /// after the first attempts.
    pub most: Duration,
    /// Intervals differ by up to this many per cent either way, so that messages that failed
    /// together are not tried together. Default 10.
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
        let spread = interval * self.jitter_percent.min(100) / 100;
        let interval = interval - spread + scale(spread * 2, mix(seed ^ u64::from(attempts)));
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
