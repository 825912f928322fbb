//! When to try again, when to warn, when to give up.

use std::time::Duration;

use merpati_types::{ByMode, Timestamp};

/// The shortest interval: whatever the settings, a failing site is not asked without pause.
const LEAST: Duration = Duration::from_secs(1);

/// Intervals that double from `first` to `most`. None is shorter than a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Intervals {
    /// The interval after failure number `failures`, counted from 1.
    fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }
}

/// Why an attempt has failed, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The site could not be reached, or the connection broke.
    Connection,
    /// The DNS gave no answer.
    Dns,
    /// The peer said 4xx, as greylisting does.
    Greylisting,
    /// The mailbox is full.
    OverQuota,
    /// Anything else.
    Other,
}

/// A retry schedule: intervals by cause, each spread by jitter, until the message is as old as
/// `expiry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// After what has no intervals of its own. Default 5 minutes to 4 hours. RFC 5321 §4.5.4.1
    /// asks for 30 minutes at least, after the first attempts.
    pub usual: Intervals,
    /// After trouble with the connection. Default as usual: it is the site that rests and is
    /// probed, and not each of its messages.
    pub connection: Intervals,
    /// After trouble with the DNS. Default 5 minutes to 1 hour: a failure may be cached for 5
    /// minutes (RFC 2308 §7.1), so that asking earlier is in vain; and the question costs the
    /// peer's mail servers nothing, so it may be asked more often than they are.
    pub dns: Intervals,
    /// After a 4xx of the peer. Default 2 minutes to 4 hours: most greylists let a second attempt
    /// pass after 5 minutes, and the third one then comes after 6.
    pub greylisting: Intervals,
    /// After a mailbox was full. Default 30 minutes to 4 hours: mailboxes are not emptied in
    /// minutes.
    pub over_quota: Intervals,
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
        let between = |first, most| Intervals { first: minutes(first), most: minutes(most) };
        Self {
            usual: between(5, 240),
            connection: between(5, 240),
            dns: between(5, 60),
            greylisting: between(2, 240),
            over_quota: between(30, 240),
            jitter_percent: 10,
            expiry: minutes(5 * 24 * 60),
            warn_after: minutes(240),
        }
    }
}

/// What a schedule needs to know of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// When its message arrived.
    pub arrived: Timestamp,
    /// By when it must be delivered, and what is to happen then (DELIVERBY, RFC 2852).
    pub deliver_by: Option<(Timestamp, ByMode)>,
    /// How many attempts have failed.
    pub failures: u32,
    /// Whether the sender was told of the delay.
    pub warned: bool,
    /// Decides the jitter: a constant of the message.
    pub seed: u64,
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
    /// The intervals after this cause.
    #[must_use]
    pub fn intervals(&self, cause: Cause) -> Intervals {
        match cause {
            Cause::Connection => self.connection,
            Cause::Dns => self.dns,
            Cause::Greylisting => self.greylisting,
            Cause::OverQuota => self.over_quota,
            Cause::Other => self.usual,
        }
    }

    /// When the message is given up: when it is too old, or when its sender wants it back.
    #[must_use]
    pub fn expires(&self, course: &Course) -> Timestamp {
        let too_old = course.arrived.after(self.expiry);
        match course.deliver_by {
            Some((at, ByMode::Return)) => too_old.min(at),
            _ => too_old,
        }
    }

    /// When the sender is to be told of the delay, unless that is done. A deadline after which
    /// it wants to be told stands in for the usual age (RFC 2852 §4).
    #[must_use]
    pub fn warns_at(&self, course: &Course) -> Option<Timestamp> {
        let at = match course.deliver_by {
            Some((at, ByMode::Notify)) => at,
            _ => course.arrived.after(self.warn_after),
        };
        (!course.warned).then_some(at)
    }

    /// What follows the failure at `now` of the last of `course.failures` attempts. It is never
    /// later than the expiry and, before the sender was told of the delay, never later than the
    /// moment to do so.
    #[must_use]
    pub fn after_failure(&self, course: &Course, cause: Cause, now: Timestamp) -> Next {
        if now >= self.expires(course) {
            return Next::Expired;
        }
        let interval = self.intervals(cause).after(course.failures);
        Next::RetryAt(self.spread(course, interval, now))
    }

    /// When to look again at a parcel that was not attempted at `now` because its site rests:
    /// as an attempt would be, the later the older it is.
    #[must_use]
    pub fn look_again(&self, course: &Course, now: Timestamp) -> Timestamp {
        let Intervals { first, most } = self.connection;
        let interval = now.since(course.arrived).max(first).min(most);
        self.spread(course, interval, now)
    }

    /// `interval` from now, give or take the jitter, unless something is to be done earlier.
    fn spread(&self, course: &Course, interval: Duration, now: Timestamp) -> Timestamp {
        let seed = course.seed ^ u64::from(course.failures);
        let at = now.after(jittered(interval, self.jitter_percent, seed).max(LEAST));
        let warns_at = self.warns_at(course).filter(|at| *at > now);
        // One last attempt at the very end, rather than none in the last hours.
        let at = at.min(self.expires(course));
        warns_at.map_or(at, |warns_at| at.min(warns_at)).max(now.after(Duration::from_millis(1)))
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// `interval`, more or less by up to so many per cent.
pub(crate) fn jittered(interval: Duration, percent: u32, seed: u64) -> Duration {
    let spread = interval / 100 * percent.min(100);
    let more = scale(spread, mix(seed));
    (interval - spread).saturating_add(more).saturating_add(more)
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

    fn course(arrived: Timestamp, failures: u32, seed: u64) -> Course {
        Course { arrived, deliver_by: None, failures, warned: true, seed }
    }

    fn retry(schedule: &Schedule, age: u64, attempts: u32, seed: u64) -> Option<u64> {
        let arrived = Timestamp::from_millis(0);
        let now = arrived.after(Duration::from_secs(age));
        match schedule.after_failure(&course(arrived, attempts, seed), Cause::Other, now) {
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
            let usual = Intervals {
                first: Duration::from_secs(first),
                most: Duration::from_secs(most),
            };
            let schedule = Schedule {
                usual,
                jitter_percent,
                expiry: Duration::from_secs(expiry),
                ..Schedule::default()
            };
            let arrived = Timestamp::from_millis(arrived >> shift);
            let now = arrived.after(Duration::from_secs(age));
            let expires = arrived.after(Duration::from_secs(expiry));
            let course = course(arrived, attempts, seed);
            match schedule.after_failure(&course, Cause::Other, now) {
                Next::Expired => proptest::prop_assert!(now >= expires),
                Next::RetryAt(when) => {
                    proptest::prop_assert!(now < when && when <= expires);
                    let interval = when.since(now);
                    proptest::prop_assert!(interval >= LEAST || when == expires);
                    let longest = schedule.usual.most.saturating_mul(2).max(LEAST);
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
            while let Next::RetryAt(when) =
                schedule.after_failure(&course(arrived, attempts, seed), Cause::Other, now)
            {
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
    }

    #[test]
    fn causes_have_intervals_of_their_own() {
        let schedule = Schedule { jitter_percent: 0, ..Schedule::default() };
        let arrived = Timestamp::from_millis(0);
        let check = |cause, minutes: [u64; 9]| {
            for (failures, expected) in (1..).zip(minutes) {
                let next = schedule.after_failure(&course(arrived, failures, 7), cause, arrived);
                let expected = Duration::from_secs(60 * expected);
                assert_eq!(next, Next::RetryAt(arrived.after(expected)), "{cause:?} {failures}");
            }
        };
        check(Cause::Other, [5, 10, 20, 40, 80, 160, 240, 240, 240]);
        check(Cause::Connection, [5, 10, 20, 40, 80, 160, 240, 240, 240]);
        check(Cause::Dns, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
        check(Cause::Greylisting, [2, 4, 8, 16, 32, 64, 128, 240, 240]);
        check(Cause::OverQuota, [30, 60, 120, 240, 240, 240, 240, 240, 240]);
    }

    /// What the sender is to hear, it hears in time: no interval reaches beyond that moment.
    #[test]
    fn deadlines_and_warnings_cut_intervals_short() {
        let schedule = Schedule::default();
        let at = |minutes: u64| Timestamp::from_millis(0).after(Duration::from_secs(60 * minutes));
        let by = |at, mode| Course {
            deliver_by: Some((at, mode)),
            ..course(Timestamp::from_millis(0), 9, 3)
        };
        let next = |course: &Course, now| schedule.after_failure(course, Cause::Other, now);

        let plain = Course { warned: false, ..course(at(0), 9, 3) };
        assert_eq!(schedule.warns_at(&plain), Some(at(240)));
        assert_eq!(schedule.warns_at(&Course { warned: true, ..plain }), None);
        assert_eq!(next(&plain, at(200)), Next::RetryAt(at(240)));
        assert!(matches!(next(&plain, at(240)), Next::RetryAt(when) if when > at(400)));

        let returned = by(at(60), ByMode::Return);
        assert_eq!(next(&returned, at(30)), Next::RetryAt(at(60)));
        assert_eq!(next(&returned, at(60)), Next::Expired);

        let notified = Course { warned: false, ..by(at(60), ByMode::Notify) };
        assert_eq!(schedule.warns_at(&notified), Some(at(60)));
        assert_eq!(next(&notified, at(30)), Next::RetryAt(at(60)));
        assert!(matches!(next(&notified, at(60)), Next::RetryAt(when) if when > at(200)));
        assert_eq!(schedule.look_again(&notified, at(59)), at(60));
    }

    #[test]
    fn the_older_a_parcel_the_later_it_is_looked_at_again() {
        let schedule = Schedule { jitter_percent: 0, ..Schedule::default() };
        let at = |minutes: u64| Timestamp::from_millis(0).after(Duration::from_secs(60 * minutes));
        for (age, expected) in [(0, 5), (5, 10), (60, 120), (300, 540), (2_000, 2_240)] {
            let look = schedule.look_again(&course(at(0), 0, 3), at(age));
            assert_eq!(look, at(expected), "{age}");
        }
    }
}
