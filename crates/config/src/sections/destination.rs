//! `[[destination]]`: what holds for some destinations only.

use std::str::FromStr;
use std::time::Duration;

use merpati_plugin::options::{Invalid, Located, OneOrMany, Options, Parsed};

use super::OutboundTls;

/// The longest time that a rate is stated for, in seconds: a week.
const LONGEST: u64 = 7 * 86_400;

/// So many in so much time: `"100/1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// In how much time: from a second to a week.
    pub per: Duration,
}

/// The text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a rate: something like \"100/1h\" is expected, with a time from 1s to 7d")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (count, per) = text.split_once('/').ok_or(RateError)?;
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or(RateError)?;
        let per = per.trim();
        let unit = per.find(|c: char| !c.is_ascii_digit()).ok_or(RateError)?;
        let (number, unit) = per.split_at(unit);
        let number: u64 =
            if number.is_empty() { Ok(1) } else { number.parse() }.map_err(|_| RateError)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(RateError),
        };
        let seconds = number.checked_mul(seconds).filter(|s| (1..=LONGEST).contains(s));
        Ok(Self { count, per: Duration::from_secs(seconds.ok_or(RateError)?) })
    }
}

/// `[[destination]]`: what is not said is as in `[deliver]`.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `match`: patterns of recipients' domains, as of `[[transport]]`. Needed.
    pub patterns: Vec<Located<String>>,
    /// `retry_first`: the interval after a first failure, whatever its cause.
    pub retry_first: Option<Duration>,
    /// `retry_most`: the longest interval, whatever the cause.
    pub retry_most: Option<Duration>,
    /// `expire`: the age at which a message is given up.
    pub expire: Option<Duration>,
    /// `warn`: the age at which its sender is told of the delay.
    pub warn: Option<Duration>,
    /// `tls`: what its hosts must have, as in `[deliver]`; also `"pinned"`.
    pub tls: Option<OutboundTls>,
    /// `pins`: the keys of `tls = "pinned"`, as the SHA-256 of public keys in hexadecimal digits.
    pub pins: Vec<Located<String>>,
    /// `concurrency`: attempts at once at one site, at most.
    pub concurrency: Option<u32>,
    /// `messages`: to one site; default no bound.
    pub messages: Option<Rate>,
    /// `connections`: opened to one site; default no bound.
    pub connections: Option<Rate>,
    /// `recipients`: attempted at one site; default no bound.
    pub recipients: Option<Rate>,
}

impl Destination {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let patterns = reader.required::<OneOrMany<_>>("match");
        let mut rate = |key| reader.optional::<Parsed<Rate>>(key).map(|rate| rate.0);
        let (messages, connections) = (rate("messages"), rate("connections"));
        let recipients = rate("recipients");
        let time = |key, reader: &mut merpati_plugin::options::Reader<'_>| {
            let time = reader.optional::<Duration>(key);
            if time.is_some_and(|time| time < Duration::from_secs(1)) {
                reader.reject(key, "a second at least");
            }
            time
        };
        let read = Self {
            patterns: Vec::new(),
            retry_first: time("retry_first", &mut reader),
            retry_most: time("retry_most", &mut reader),
            expire: time("expire", &mut reader),
            warn: time("warn", &mut reader),
            tls: reader.optional("tls"),
            pins: reader.or("pins", Vec::new()),
            concurrency: reader.optional("concurrency"),
            messages,
            connections,
            recipients,
        };
        if let (Some(first), Some(most)) = (read.retry_first, read.retry_most)
            && first > most
        {
            reader.reject("retry_first", "the first interval is longer than `retry_most`");
        }
        if (read.tls == Some(OutboundTls::Pinned)) == read.pins.is_empty() {
            reader.reject("pins", "tls = \"pinned\" and `pins` go together");
        }
        if read.concurrency == Some(0) {
            reader.reject("concurrency", "one at least");
        }
        reader.finish()?;
        Ok(Self { patterns: patterns?.0, ..read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let check = |text: &str, expected: Option<(u32, u64)>| {
            let rate = text.parse().ok().map(|rate: Rate| (rate.count, rate.per.as_secs()));
            assert_eq!(rate, expected, "{text}");
        };
        check("100/1h", Some((100, 3_600)));
        check("1/s", Some((1, 1)));
        check("20 / 5m", Some((20, 300)));
        check("5/7d", Some((5, 7 * 86_400)));
        for wrong in
            ["", "5", "/h", "0/h", "5/0s", "5/8d", "5/h5", "5/x", "-5/h", "5/9999999999999d"]
        {
            check(wrong, None);
        }
    }
}
