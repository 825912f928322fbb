//! Points in time that are stored or shown.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;

/// A point in time, UTC, in milliseconds since 1970. Has no notion of *now*: that is the
/// caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Later than everything.
    pub const MAX: Self = Self(i64::MAX);

    /// So many milliseconds after 1970 began.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Later by `time`; at the end of time at the latest.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long `earlier` is past; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// `Mon, 23 Nov 2026 08:00:00 +0000` (RFC 5322 §3.3).
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let civil = Civil::of(self);
        let weekday = DAYS[usize::try_from(civil.days.rem_euclid(7)).unwrap_or(0)];
        format!(
            "{weekday}, {} {} {:04} {:02}:{:02}:{:02} +0000",
            civil.day,
            MONTHS[civil.month - 1],
            civil.year,
            civil.hour,
            civil.minute,
            civil.second
        )
    }
}

/// `2026-11-23T08:00:00.000Z` (RFC 3339).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, milli, .. } = Civil::of(*self);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// A text that is no date and time of RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time such as 2026-11-23T08:00:00Z")]
pub struct TimestampError;

/// `2026-11-23T08:00:00Z`, with or without a fraction: RFC 3339 in UTC. Finer parts than
/// milliseconds are dropped; a leap second is the second after it.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let bytes = text.as_bytes();
        let digits = |from: usize, to: usize| -> Result<i64, TimestampError> {
            let digits = text.get(from..to).ok_or(TimestampError)?;
            let all = digits.bytes().all(|octet| octet.is_ascii_digit());
            all.then(|| digits.parse().ok()).flatten().ok_or(TimestampError)
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        let marked = |&(at, mark): &(usize, u8)| {
            bytes.get(at).is_some_and(|octet| octet.eq_ignore_ascii_case(&mark))
        };
        if !marks.iter().all(marked) || !bytes.ends_with(b"Z") && !bytes.ends_with(b"z") {
            return Err(TimestampError);
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        let millis = match text.get(19..bytes.len() - 1).ok_or(TimestampError)? {
            "" => 0,
            fraction => {
                let fraction = fraction.strip_prefix('.').ok_or(TimestampError)?;
                if !(1..=9).contains(&fraction.len()) {
                    return Err(TimestampError);
                }
                digits(20, 20 + fraction.len())?;
                format!("{fraction:0<3}")[..3].parse().map_err(|_| TimestampError)?
            }
        };
        let days = days_before(year, month, day).ok_or(TimestampError)?;
        if hour > 23 || minute > 59 || second > 60 {
            return Err(TimestampError);
        }
        Ok(Self(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + millis))
    }
}

/// Days from 1970 to a date, if there is such a date; the inverse of [`Civil::of`].
fn days_before(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    // The 31st of a short month is another day.
    let civil = Civil::of(Timestamp(days * DAY_MS));
    (civil.day == day).then_some(days)
}

struct Civil {
    /// Days since 1970 began.
    days: i64,
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

impl Civil {
    /// The proleptic Gregorian date. Years are counted from March, so that the leap day is the
    /// last day of a year, in cycles of 400 years (146,097 days).
    fn of(time: Timestamp) -> Self {
        let days = time.0.div_euclid(DAY_MS);
        let in_day = time.0.rem_euclid(DAY_MS);
        // Days since 1 March of year 0.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            days,
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: usize::try_from(month).unwrap_or(1),
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: in_day / 3_600_000,
            minute: in_day / 60_000 % 60,
            second: in_day / 1_000 % 60,
            milli: in_day % 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        let check = |millis, rfc3339: &str, rfc5322: &str| {
            let time = Timestamp::from_millis(millis);
            assert_eq!((time.to_string().as_str(), time.to_rfc5322().as_str()), (rfc3339, rfc5322));
        };
        check(0, "1970-01-01T00:00:00.000Z", "Thu, 1 Jan 1970 00:00:00 +0000");
        check(-1, "1969-12-31T23:59:59.999Z", "Wed, 31 Dec 1969 23:59:59 +0000");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z", "Tue, 29 Feb 2000 00:00:00 +0000");
        check(1_795_420_800_123, "2026-11-23T08:00:00.123Z", "Mon, 23 Nov 2026 08:00:00 +0000");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z", "Mon, 1 Mar 2100 00:00:00 +0000");
    }

    #[test]
    fn reads_what_it_writes_and_rfc_3339_in_utc() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2026-11-23T08:00:00.123Z", Some(1_795_420_800_123)),
            ("2026-11-23t08:00:00.1z", Some(1_795_420_800_100)),
            ("2026-11-23T08:00:00.123456789Z", Some(1_795_420_800_123)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400_000)),
            ("1998-12-31T23:59:60Z", Some(915_148_800_000)),
            ("2026-11-23T08:00:00", None),
            ("2026-11-23T08:00:00+00:00", None),
            ("2026-11-23T08:00:00.Z", None),
            ("2026-11-23T08:00:00.1234567890Z", None),
            ("2026-11-23 08:00:00Z", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-11-23T08:60:00Z", None),
            ("2026-11-23T08:00:61Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-11-31T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("+026-11-23T08:00:00Z", None),
            ("2026-11-23T08:00:0\u{e9}Z", None),
            ("Z", None),
            ("", None),
        ] {
            let read = text.parse::<Timestamp>().ok().map(Timestamp::as_millis);
            assert_eq!(read, millis, "{text}");
        }
        for day in (0..400 * 366).step_by(17) {
            let time = Timestamp::from_millis(day * DAY_MS + 1);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn adds_and_subtracts_within_bounds() {
        let time = Timestamp::from_millis(1_000);
        assert_eq!(time.after(Duration::from_secs(1)).since(time), Duration::from_secs(1));
        assert_eq!(time.since(Timestamp::from_millis(2_000)), Duration::ZERO);
        assert_eq!(time.after(Duration::MAX), Timestamp::MAX);
    }
}
