//! How much in how much time.

use std::fmt;
use std::time::Duration;

use merpati_types::Timestamp;

/// The longest time a rate may be stated for: a week.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// So many in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
}

/// `100/3600s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.count, self.per.as_secs_f64())
    }
}

impl Rate {
    /// A rate of `count` in `per`; none if either is zero or `per` is longer than a week.
    #[must_use]
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        let sane = count > 0 && per >= Duration::from_millis(1) && per <= LONGEST;
        sane.then_some(Self { count, per })
    }

    /// What may come at once after a pause: a tenth, and at least one. So any stretch of `per`
    /// sees at most the rate and a tenth more.
    #[must_use]
    pub fn burst(self) -> u32 {
        (self.count / 10).max(1)
    }

    /// What one costs: as many units as come in by the time it takes, at `count` a millisecond.
    fn cost(self) -> i64 {
        i64::try_from(self.per.as_millis()).unwrap_or(i64::MAX).max(1)
    }
}

/// A token bucket. It may be overdrawn by one taking, which is paid off before the next: so what
/// is larger than the burst passes, and the rate holds all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// In the units of [`Rate::cost`].
    level: i64,
    filled: Timestamp,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Timestamp) -> Self {
        let mut bucket = Self { rate, level: 0, filled: now };
        bucket.level = bucket.most();
        bucket
    }

    /// The bucket for a rate that may have changed: as many may be taken at once as before, as
    /// far as the new rate lets so many, and what was overdrawn is still to be paid off.
    pub(crate) fn with_rate(mut self, rate: Rate, now: Timestamp) -> Self {
        if rate == self.rate {
            return self;
        }
        self.fill(now);
        let level = i128::from(self.level) * i128::from(rate.cost()) / i128::from(self.rate.cost());
        let mut changed = Self::new(rate, now);
        // A rate is stated for a week at most, so this fits whatever was taken.
        changed.level = i64::try_from(level).unwrap_or(i64::MIN / 2).min(changed.most());
        changed
    }

    /// When it is full again if nothing is taken.
    pub(crate) fn full_at(&self) -> Timestamp {
        self.after_gaining(self.most().saturating_sub(self.level))
    }

    /// When one may be taken: `now`, or later.
    pub(crate) fn ready_at(&mut self, now: Timestamp) -> Timestamp {
        self.fill(now);
        let lacking = self.rate.cost().saturating_sub(self.level);
        if lacking <= 0 { now } else { self.after_gaining(lacking) }
    }

    fn after_gaining(&self, lacking: i64) -> Timestamp {
        let count = i64::from(self.rate.count);
        let wait = lacking.saturating_add(count - 1) / count;
        self.filled.after(Duration::from_millis(u64::try_from(wait).unwrap_or_default()))
    }

    pub(crate) fn take(&mut self, many: u32) {
        self.level = self.level.saturating_sub(self.rate.cost().saturating_mul(many.into()));
    }

    /// Gives back what was taken in vain.
    pub(crate) fn put_back(&mut self, many: u32) {
        let more = self.rate.cost().saturating_mul(many.into());
        self.level = self.level.saturating_add(more).min(self.most());
    }

    fn most(&self) -> i64 {
        self.rate.cost().saturating_mul(self.rate.burst().into())
    }

    fn fill(&mut self, now: Timestamp) {
        let past = i64::try_from(now.since(self.filled).as_millis()).unwrap_or(i64::MAX);
        let more = past.saturating_mul(self.rate.count.into());
        self.level = self.level.saturating_add(more).min(self.most());
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    #[test]
    fn a_rate_that_changes_gives_nothing_away() {
        let rate = |count, seconds| Rate::new(count, Duration::from_secs(seconds)).unwrap();
        let now = Timestamp::from_millis(7);
        let mut bucket = Bucket::new(rate(100, 60), now);
        bucket.take(10);
        let mut slower = bucket.with_rate(rate(10, 60), now);
        assert_eq!(slower.ready_at(now), now.after(Duration::from_secs(6)));
        bucket.take(2);
        let mut slower = bucket.with_rate(rate(60, 60), now);
        assert_eq!(slower.ready_at(now), now.after(Duration::from_secs(3)));
        let back = slower.with_rate(rate(100, 60), now).with_rate(rate(60, 60), now);
        assert_eq!(back.full_at(), slower.full_at());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(5321),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// However it is asked, no stretch of time sees more than the rate, the burst, and the
        /// one taking that overdraws it; and whoever waits as long as he is told gets one.
        #[test]
        fn no_stretch_of_time_sees_more_than_the_rate(
            count in 1..500_u32,
            per in 1..5_000_u64,
            asks in prop::collection::vec((0..3_000_u64, 1..20_u32), 1..100),
        ) {
            let rate = Rate::new(count, Duration::from_millis(per)).unwrap();
            let mut now = Timestamp::from_millis(7);
            let mut bucket = Bucket::new(rate, now);
            let mut taken: Vec<(Timestamp, u32)> = Vec::new();
            for (pause, many) in asks {
                now = now.after(Duration::from_millis(pause));
                let ready = bucket.ready_at(now);
                if ready == now {
                    bucket.take(many);
                    taken.push((now, many));
                } else {
                    let mut later = bucket;
                    prop_assert_eq!(later.ready_at(ready), ready);
                }
            }
            for (place, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (to, many) in &taken[place..] {
                    let stretch = to.since(*from).as_millis();
                    let allowed = stretch * u128::from(count) / u128::from(per)
                        + u128::from(rate.burst());
                    prop_assert!(sum < allowed + 1, "{sum} in {stretch} ms");
                    sum += u128::from(*many);
                }
            }
        }
    }
}
