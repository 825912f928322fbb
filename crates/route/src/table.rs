//! A table from domains to anything: the transport table.

use std::fmt;
use std::str::FromStr;

use merpati_types::{Domain, Host};

/// Which hosts a row is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `example.org`: this domain.
    Exactly(Domain),
    /// `.example.org`: every domain below it.
    Below(Domain),
    /// `*`: everything, address literals included.
    Any,
}

/// The text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern: example.org, .example.org or * is expected")]
pub struct PatternError;

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let domain = |text| Domain::parse(text).map_err(|_| PatternError);
        match text.strip_prefix('.') {
            Some(parent) => domain(parent).map(Self::Below),
            None => domain(text).map(Self::Exactly),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, ".{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Pattern {
    /// How closely it fits; `None` if it does not.
    fn fit(&self, host: &Host) -> Option<usize> {
        match (self, host) {
            (Self::Any, _) => Some(0),
            (Self::Below(parent), Host::Domain(domain)) => {
                (domain != parent && domain.is_within(parent)).then(|| 1 + parent.as_ascii().len())
            }
            (Self::Exactly(own), Host::Domain(domain)) => (own == domain).then_some(usize::MAX),
            (Self::Below(_) | Self::Exactly(_), Host::Literal(_)) => None,
        }
    }
}

/// Rows of patterns and values. The closest pattern counts, not the first.
#[derive(Clone, Debug)]
pub struct Table<T>(Vec<(Pattern, T)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Table<T> {
    /// A table of these rows.
    #[must_use]
    pub fn new(rows: Vec<(Pattern, T)>) -> Self {
        Self(rows)
    }

    /// The row that fits `host` most closely.
    #[must_use]
    pub fn find(&self, host: &Host) -> Option<(&Pattern, &T)> {
        let fits = self.0.iter().filter_map(|(pattern, value)| {
            let fit = pattern.fit(host)?;
            Some((fit, (pattern, value)))
        });
        // Of equal fits the first counts; `max_by_key` would take the last.
        fits.rev().max_by_key(|(fit, _)| *fit).map(|(_, row)| row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pattern_counts() {
        let rows = ["*", ".example.org", "example.org", ".b.example.org", "example.org"];
        let rows = rows.iter().enumerate().map(|(n, p)| (p.parse().unwrap(), n)).collect();
        let table = Table::new(rows);
        let check = |host: &str, expected: usize| {
            let host = Host::parse(host).unwrap();
            assert_eq!(table.find(&host).map(|(_, n)| *n), Some(expected), "{host}");
        };
        check("example.org", 2);
        check("a.example.org", 1);
        check("a.b.example.org", 3);
        check("b.example.org", 1);
        check("other.test", 0);
        check("[192.0.2.1]", 0);
        assert_eq!("a b".parse::<Pattern>(), Err(PatternError));
        assert!(Table::<u8>::default().find(&Host::parse("a.test").unwrap()).is_none());
    }
}
