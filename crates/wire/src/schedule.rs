//! When a message is to go, by when it is to be there, and how urgent it is.

use std::fmt;

use merpati_types::{ByMode, Timestamp};

/// The most seconds that HOLDFOR and BY can tell: nine digits.
const MOST_SECONDS: u32 = 999_999_999;

/// `HOLDFOR=seconds` or `HOLDUNTIL=date-time` (RFC 4865 §4.2): the message is kept until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds, at least 1 and at most nine digits.
    For(u32),
    /// Until this moment.
    Until(Timestamp),
}

/// `BY=seconds;mode[T]` (RFC 2852 §4): the message is wanted there within that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// Seconds from now, of at most nine digits; below 0 where the time has passed.
    pub seconds: i32,
    /// What is to happen once it has passed.
    pub mode: ByMode,
    /// Whether the sender wants to hear of each hop (`T`).
    pub trace: bool,
}

/// `MT-PRIORITY=n` (RFC 6710 §4.1): how urgent the message is, from -9 to 9, normally 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(i8);

impl Hold {
    /// The value of HOLDFOR.
    pub(crate) fn parse_for(text: &str) -> Option<Self> {
        seconds(text).filter(|&seconds| seconds > 0).map(Self::For)
    }

    /// The value of HOLDUNTIL.
    pub(crate) fn parse_until(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::Until)
    }

    /// The moment, for a message that comes at `now`.
    #[must_use]
    pub fn end(self, now: Timestamp) -> Timestamp {
        match self {
            Self::For(seconds) => now.after(std::time::Duration::from_secs(seconds.into())),
            Self::Until(moment) => moment,
        }
    }
}

/// As it follows MAIL, without a space before it.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(seconds) => write!(f, "HOLDFOR={seconds}"),
            Self::Until(moment) => write!(f, "HOLDUNTIL={}", Moment(*moment)),
        }
    }
}

impl By {
    /// With the seconds kept to what nine digits can tell.
    #[must_use]
    pub fn new(seconds: i64, mode: ByMode, trace: bool) -> Self {
        let most = i64::from(MOST_SECONDS);
        let seconds = i32::try_from(seconds.clamp(-most, most)).expect("nine digits fit");
        Self { seconds, mode, trace }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (time, rest) = text.split_once(';')?;
        let (past, digits) = match time.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, time.strip_prefix('+').unwrap_or(time)),
        };
        let seconds = i64::from(seconds(digits)?);
        let (mode, trace) = match rest.to_ascii_uppercase().as_str() {
            "N" => (ByMode::Notify, false),
            "NT" => (ByMode::Notify, true),
            "R" => (ByMode::Return, false),
            "RT" => (ByMode::Return, true),
            _ => return None,
        };
        Some(Self::new(if past { -seconds } else { seconds }, mode, trace))
    }

    /// The deadline, for a message that comes at `now`.
    #[must_use]
    pub fn deadline(self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_add(i64::from(self.seconds) * 1_000))
    }
}

/// The value of BY.
impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            ByMode::Notify => 'N',
            ByMode::Return => 'R',
        };
        write!(f, "{};{mode}{}", self.seconds, if self.trace { "T" } else { "" })
    }
}

impl Priority {
    /// This priority, if it is from -9 to 9.
    #[must_use]
    pub fn new(priority: i8) -> Option<Self> {
        (-9..=9).contains(&priority).then_some(Self(priority))
    }

    /// From -9 to 9.
    #[must_use]
    pub fn value(self) -> i8 {
        self.0
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = text.strip_prefix('-').filter(|digit| *digit != "0").unwrap_or(text);
        let one = matches!(digit.as_bytes(), [b'0'..=b'9']);
        one.then(|| text.parse().ok()).flatten().and_then(Self::new)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment as RFC 4865 writes it: without a fraction, if it needs none.
pub(crate) struct Moment(pub(crate) Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.strip_suffix(".000Z") {
            Some(seconds) => write!(f, "{seconds}Z"),
            None => f.write_str(&text),
        }
    }
}

/// One to nine digits.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a value is written after it was read; `None` where it is none.
    #[track_caller]
    fn check<T: fmt::Display>(read: fn(&str) -> Option<T>, cases: &[(&str, Option<&str>)]) {
        for (text, written) in cases {
            assert_eq!(read(text).map(|read| read.to_string()).as_deref(), *written, "{text}");
        }
    }

    #[test]
    fn deadlines_are_nine_digits_and_a_mode() {
        check(
            By::parse,
            &[
                ("120;R", Some("120;R")),
                ("120;r", Some("120;R")),
                ("+120;NT", Some("120;NT")),
                ("-120;nt", Some("-120;NT")),
                ("0;N", Some("0;N")),
                ("-999999999;RT", Some("-999999999;RT")),
                ("000000001;R", Some("1;R")),
                ("1000000000;R", None),
                ("120", None),
                ("120;", None),
                (";R", None),
                ("-;R", None),
                ("+-1;R", None),
                ("120;T", None),
                ("120;RN", None),
                ("120;RTT", None),
                ("1.5;R", None),
                ("120;R;T", None),
            ],
        );
        assert_eq!(By::new(i64::MIN, ByMode::Return, false).seconds, -999_999_999);
        let now = Timestamp::from_millis(5_000);
        let by = |seconds| By::new(seconds, ByMode::Notify, false).deadline(now).as_millis();
        assert_eq!((by(2), by(-10)), (7_000, -5_000));
    }

    #[test]
    fn holds_are_seconds_or_a_moment() {
        check(
            Hold::parse_for,
            &[
                ("1", Some("HOLDFOR=1")),
                ("999999999", Some("HOLDFOR=999999999")),
                ("0", None),
                ("1000000000", None),
                ("-1", None),
                ("1s", None),
            ],
        );
        check(
            Hold::parse_until,
            &[
                ("2026-11-23T08:00:00Z", Some("HOLDUNTIL=2026-11-23T08:00:00Z")),
                ("2026-11-23T08:00:00.5Z", Some("HOLDUNTIL=2026-11-23T08:00:00.500Z")),
                ("2026-11-23T08:00:00+01:00", None),
                ("1", None),
            ],
        );
        let now = Timestamp::from_millis(5_000);
        assert_eq!(Hold::For(2).end(now).as_millis(), 7_000);
        assert_eq!(Hold::Until(Timestamp::from_millis(1)).end(now).as_millis(), 1);
    }

    #[test]
    fn priorities_have_one_digit() {
        check(
            Priority::parse,
            &[
                ("0", Some("0")),
                ("9", Some("9")),
                ("-9", Some("-9")),
                ("10", None),
                ("-10", None),
                ("-0", None),
                ("+1", None),
                ("01", None),
                ("-", None),
                ("x", None),
            ],
        );
        assert_eq!(Priority::new(10), None);
    }
}
