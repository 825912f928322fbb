//! Sizes and lengths of time as people write them.

use std::fmt;
use std::time::Duration;

use super::read::{Bounded, Found, FromOption};
use super::{Invalid, Kind};

/// A number of octets: `1048576`, `"512KiB"`, `"20 MB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const TIMES: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromOption for Size {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        if let Kind::Integer(octets) = found.value().kind {
            return u64::try_from(octets).map(Self).map_err(|_| found.reject("a size below 0"));
        }
        let text = found.text()?;
        quantity(text, &SIZES).map(Self).map_err(|why| {
            found.reject_with(why, "write octets, or a number with B, kB, MB, GB, KiB, MiB or GiB")
        })
    }
}

impl FromOption for Duration {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        const HELP: &str = "write a number with ms, s, m, h or d: \"30s\", \"5m\"";
        if let Kind::Integer(_) = found.value().kind {
            return Err(found.reject_with("a time needs its unit", HELP));
        }
        let text = found.text()?;
        parse_duration(text).map_err(|why| found.reject_with(why, HELP))
    }
}

/// Reads a length of time as options have it: `250ms`, `30s`, `5m`, `4h`, `5d`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    quantity(text, &TIMES).map(Duration::from_millis)
}

impl Bounded for Size {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bounded for Duration {
    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        shown(millis, &TIMES)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.0, &SIZES))
    }
}

/// Reads `number unit`.
fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            "the unit is missing".to_owned()
        } else {
            format!("`{unit}` is no unit")
        });
    };
    if number.is_empty() {
        return Err("the number is missing".to_owned());
    }
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    number.ok_or_else(|| "the number is too large".to_owned())
}

/// With the largest unit that leaves a whole number.
fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let whole = |(_, factor): &&(&str, u64)| number != 0 && number.is_multiple_of(*factor);
    match units.iter().filter(whole).max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{}", units[0].0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_quantities() {
        let check = |text: &str, units: &[_], expected: Result<(u64, &str), &str>| {
            let read = quantity(text, units);
            let shown = read.clone().map(|number| (number, shown(number, units)));
            let expected = expected.map(|(n, s)| (n, s.to_owned())).map_err(str::to_owned);
            assert_eq!(shown, expected, "{text:?}");
        };
        check("20MiB", &SIZES, Ok((20 << 20, "20MiB")));
        check("10 MB", &SIZES, Ok((10_000_000, "10MB")));
        check("1024 KiB", &SIZES, Ok((1 << 20, "1MiB")));
        check("7B", &SIZES, Ok((7, "7B")));
        check("0B", &SIZES, Ok((0, "0B")));
        check("7", &SIZES, Err("the unit is missing"));
        check("MiB", &SIZES, Err("the number is missing"));
        check("1.5MB", &SIZES, Err("`.5MB` is no unit"));
        check("99999999999GiB", &SIZES, Err("the number is too large"));
        check("250ms", &TIMES, Ok((250, "250ms")));
        check("90s", &TIMES, Ok((90_000, "90s")));
        check("120s", &TIMES, Ok((120_000, "2m")));
        check("5d", &TIMES, Ok((432_000_000, "5d")));
        check("5 weeks", &TIMES, Err("`weeks` is no unit"));
        check("-5s", &TIMES, Err("`-5s` is no unit"));
    }
}
