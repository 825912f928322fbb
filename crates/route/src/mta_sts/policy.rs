//! The policy itself (RFC 8461 §3.2), and which hosts it allows (§4.1).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use merpati_types::Domain;

use super::{MAX_AGE_LIMIT, POLICY_LIMIT};

/// How much a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// No mail to a host that fails it.
    Enforce,
    /// Failures are reported, and mail goes all the same.
    Testing,
    /// As if there were none: how a domain takes its policy back.
    None,
}

impl Mode {
    /// Its name in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// A pattern of hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MxPattern {
    /// `mail.example.org`: this host.
    Exactly(Domain),
    /// `*.example.org`: hosts one label below, and neither deeper ones nor the domain itself.
    OneBelow(Domain),
}

impl MxPattern {
    /// Whether `host` fits.
    #[must_use]
    pub fn matches(&self, host: &Domain) -> bool {
        match self {
            Self::Exactly(name) => name == host,
            Self::OneBelow(parent) => {
                host.as_ascii().split_once('.').is_some_and(|(_, above)| above == parent.as_ascii())
            }
        }
    }
}

impl FromStr for MxPattern {
    type Err = merpati_types::DomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*.") {
            Some(parent) => parent.parse().map(Self::OneBelow),
            None => text.parse().map(Self::Exactly),
        }
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name.as_ascii()),
            Self::OneBelow(parent) => write!(f, "*.{}", parent.as_ascii()),
        }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How much it counts.
    pub mode: Mode,
    /// How long it counts after it was fetched; at most [`MAX_AGE_LIMIT`].
    pub max_age: Duration,
    /// The hosts it allows; none only where the mode is none.
    pub mx: Vec<MxPattern>,
}

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Longer than [`POLICY_LIMIT`].
    #[error("the policy is longer than {POLICY_LIMIT} octets")]
    TooLong,
    /// Not UTF-8.
    #[error("the policy is not text")]
    NotText,
    /// A line without a colon, or with a value that the field cannot have. Lines count from 1.
    #[error("line {line} of the policy is malformed")]
    BadLine {
        /// Which.
        line: usize,
    },
    /// A field that every policy has.
    #[error("the policy has no field {0}")]
    Missing(&'static str),
}

impl Policy {
    /// Reads a policy: lines of `name: value`, ended by LF or CRLF. Unknown fields are ignored,
    /// and of a field that comes twice the first counts, but for `mx`.
    ///
    /// A `max_age` beyond [`MAX_AGE_LIMIT`] counts as that: taking the policy for malformed would
    /// leave those without protection who asked for it longest.
    ///
    /// # Errors
    /// [`PolicyError`]: there is no policy in it.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > POLICY_LIMIT {
            return Err(PolicyError::TooLong);
        }
        Self::parse_text(std::str::from_utf8(text).map_err(|_| PolicyError::NotText)?)
    }

    pub(super) fn parse_text(text: &str) -> Result<Self, PolicyError> {
        let (mut version, mut mode, mut max_age) = (None, None, None);
        // Thousands of patterns fit in: each is compared with few.
        let (mut mx, mut seen) = (Vec::new(), BTreeSet::new());
        for (number, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(WSP);
            if line.is_empty() {
                continue;
            }
            let bad = PolicyError::BadLine { line: number + 1 };
            let (name, value) = line.split_once(':').ok_or(bad)?;
            let value = value.trim_start_matches(WSP);
            match name {
                "version" if version.is_none() => {
                    version = Some((value == "STSv1").then_some(()).ok_or(bad)?);
                }
                "mode" if mode.is_none() => mode = Some(read_mode(value).ok_or(bad)?),
                "max_age" if max_age.is_none() => max_age = Some(read_age(value).ok_or(bad)?),
                "mx" => {
                    let pattern: MxPattern = value.parse().map_err(|_| bad)?;
                    if seen.insert(pattern.clone()) {
                        mx.push(pattern);
                    }
                }
                _ => {}
            }
        }
        version.ok_or(PolicyError::Missing("version"))?;
        let mode = mode.ok_or(PolicyError::Missing("mode"))?;
        let max_age = max_age.ok_or(PolicyError::Missing("max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::Missing("mx"));
        }
        Ok(Self { mode, max_age, mx })
    }

    /// Whether the policy allows this host (RFC 8461 §4.1).
    #[must_use]
    pub fn allows(&self, host: &Domain) -> bool {
        self.mx.iter().any(|pattern| pattern.matches(host))
    }
}

const WSP: [char; 2] = [' ', '\t'];

fn read_mode(text: &str) -> Option<Mode> {
    [Mode::Enforce, Mode::Testing, Mode::None].into_iter().find(|mode| mode.as_str() == text)
}

fn read_age(text: &str) -> Option<Duration> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    let seconds = digits.then(|| text.parse().ok()).flatten()?;
    Some(Duration::from_secs(seconds).min(MAX_AGE_LIMIT))
}

/// As RFC 8461 §3.2 writes it, with LF.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version: STSv1\nmode: {}", self.mode.as_str())?;
        self.mx.iter().try_for_each(|pattern| writeln!(f, "mx: {pattern}"))?;
        writeln!(f, "max_age: {}", self.max_age.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::mta_sts::{CachedPolicy, find_id};
    use crate::tls_rpt::find_destinations;
    use crate::tlsa::Tlsa;

    fn check(text: &str, expected: Result<&str, PolicyError>) {
        let read = Policy::parse(text.as_bytes());
        let short = read.map(|policy| {
            assert_eq!(
                Policy::parse(policy.to_string().as_bytes()).as_ref(),
                Ok(&policy),
                "{text}"
            );
            let mx: Vec<_> = policy.mx.iter().map(ToString::to_string).collect();
            format!("{} {} {}", policy.mode.as_str(), policy.max_age.as_secs(), mx.join(","))
        });
        assert_eq!(short.as_deref().map_err(|error| *error), expected, "{text:?}");
    }

    #[test]
    fn policies_are_read_as_the_rfc_says() {
        use PolicyError::{BadLine, Missing};
        let good = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\n\
                    mx: backupmx.example.com\nmax_age: 604800\n";
        let read = "enforce 604800 mail.example.com,*.example.net,backupmx.example.com";
        check(good, Ok(read));
        check(&good.replace('\n', "\r\n"), Ok(read));
        check(good.trim_end(), Ok(read));
        check(&good.replace(": ", ":"), Ok(read));
        check(&good.replace(": ", ": \t ").replace('\n', " \t\r\n"), Ok(read));
        check(&format!("\n{good}\n\r\n"), Ok(read));
        check(&format!("{good}later: \u{e9}t\u{e9} 1: 2\nx:\n"), Ok(read));
        check(&format!("{good}mode: none\nversion: STSv9\nmax_age: x\n"), Ok(read));
        check(&format!("{good}mx: MAIL.example.com\n"), Ok(read));
        check("max_age: 0\nmode: none\nversion: STSv1", Ok("none 0 "));
        let rest = "mode: testing\nmx: a.test\nmax_age: 86400";
        check(&format!("version: STSv1\n{rest}"), Ok("testing 86400 a.test"));
        check(rest, Err(Missing("version")));
        check(&format!("version: STSv2\n{rest}"), Err(BadLine { line: 1 }));
        check(&format!("version: stsv1\n{rest}"), Err(BadLine { line: 1 }));
        check(&format!("Version: STSv1\n{rest}"), Err(Missing("version")));
        check(&format!("version : STSv1\n{rest}"), Err(Missing("version")));
        check(&format!("version: STSv1\nhello\n{rest}"), Err(BadLine { line: 2 }));
        check("version: STSv1\nmx: a.test\nmax_age: 1", Err(Missing("mode")));
        check("version: STSv1\nmode: Enforce", Err(BadLine { line: 2 }));
        check("version: STSv1\nmode: enforce\nmx: a.test", Err(Missing("max_age")));
        check("version: STSv1\nmode: enforce\nmax_age: 1", Err(Missing("mx")));
        check("", Err(Missing("version")));
    }

    #[test]
    fn ages_are_bounded() {
        let check = |age: &str, expected: Option<u64>| {
            let read =
                Policy::parse(format!("version: STSv1\nmode: none\nmax_age: {age}").as_bytes());
            assert_eq!(read.ok().map(|policy| policy.max_age.as_secs()), expected, "{age}");
        };
        check("31557600", Some(31_557_600));
        check("31557601", Some(31_557_600));
        check("9999999999", Some(31_557_600));
        check("0000000001", Some(1));
        for wrong in ["", "-1", "+1", "1.5", "1 2", "1d", "00000000001", "10000000000", "\u{661}"] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_and_octets_are_bounded() {
        let small = "version: STSv1\nmode: none\nmax_age: 1\n";
        let padded = |length: usize| format!("{small}x:{}", "y".repeat(length - small.len() - 2));
        assert!(Policy::parse(padded(POLICY_LIMIT).as_bytes()).is_ok());
        let error = Policy::parse(padded(POLICY_LIMIT + 1).as_bytes()).unwrap_err();
        assert_eq!(error, PolicyError::TooLong);
        let error = Policy::parse(b"version: STSv1\nx: \xff").unwrap_err();
        assert_eq!(error, PolicyError::NotText);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(8461),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn whatever_is_read_is_written_as_it_is_read(
            mode in "none|testing|enforce",
            age in "[0-9]{1,10}",
            mx in proptest::collection::vec(r"(\*\.)?[a-c]{1,3}(\.[a-cé]{1,3}){0,2}", 1..5),
            other in r"[a-z]{1,4}: ?\PC{0,5}",
            end in "\r?\n",
        ) {
            let mx: String = mx.iter().map(|pattern| format!("mx:{pattern}{end}")).collect();
            let text =
                format!("{other}{end}max_age:{age}{end}{mx}mode: {mode}{end}version: STSv1{end}");
            let policy = Policy::parse(text.as_bytes());
            prop_assume!(!text.starts_with("mode") && !text.starts_with("mx:"));
            let policy = policy.unwrap();
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }

        #[test]
        fn octets_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let after = |start: &[u8]| [start, &octets].concat();
            let _ = Policy::parse(&octets);
            let _ = Policy::parse(&after(b"version: STSv1\nmode: none\nmax_age: 1\nmx: "));
            let _ = CachedPolicy::from_bytes(&after(b"merpati-mta-sts 1\n"));
            let _ = find_id([&octets[..], &after(b"v=STSv1;")]);
            let _ = find_destinations([&after(b"v=TLSRPTv1;rua=mailto:")[..]]);
            let _ = Tlsa::new(3, 1, 0, &after(b"\x30"));
        }
    }

    #[test]
    fn patterns_match_one_label() {
        let check = |pattern: &str, hosts: &str, others: &str| {
            let pattern: MxPattern = pattern.parse().unwrap();
            let fits = |host: &str| pattern.matches(&Domain::parse(host).unwrap());
            assert!(hosts.split_whitespace().all(fits), "{pattern}: {hosts}");
            assert!(!others.split_whitespace().any(fits), "{pattern}: {others}");
        };
        check("mx.example.com", "mx.example.com MX.Example.COM", "a.mx.example.com example.com");
        check("*.example.com", "mx.example.com", "a.mx.example.com example.com mxexample.com com");
        check("*.bücher.example", "a.xn--bcher-kva.example a.BÜCHER.example", "a.bucher.example");
        for wrong in [
            "",
            "*",
            "*.",
            "*example.com",
            "mx*.example.com",
            "*.*.example.com",
            ".a.test",
            "mx.*.test",
            "a.test.",
            "192.0.2.1",
            "[192.0.2.1]",
            "a test",
        ] {
            assert!(wrong.parse::<MxPattern>().is_err(), "{wrong}");
        }
    }
}
