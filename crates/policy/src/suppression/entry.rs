//! What the list says of an address, and how it is written down.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use merpati_dsn::BounceClass;
use merpati_plugin::spool::NextHop;
use merpati_types::{Domain, Mailbox, Timestamp};

/// The longest reason that is kept, in octets.
const REASON_LIMIT: usize = 300;

/// An address, or all of a domain: `bob@example.org`, `@example.org`. Letter case does not count,
/// and domains are in A-label form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

/// A text that is neither an address nor `@domain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an address nor `@domain`")]
pub struct SubjectError;

impl Subject {
    /// The address.
    #[must_use]
    pub fn of(address: &Mailbox) -> Self {
        let text = format!("{}@{}", address.local(), NextHop::of(address));
        Self(text.to_lowercase().into())
    }

    /// All of the address's domain.
    #[must_use]
    pub fn domain_of(address: &Mailbox) -> Self {
        Self(format!("@{}", NextHop::of(address)).to_lowercase().into())
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What [`Self::as_str`] has given.
    pub(super) fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.strip_prefix('@') {
            Some(domain) => {
                let domain = Domain::parse(domain).map_err(|_| SubjectError)?;
                Ok(Self(format!("@{}", domain.as_ascii()).into()))
            }
            None => {
                Mailbox::parse(text).map(|address| Self::of(&address)).map_err(|_| SubjectError)
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who has put an entry on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A person, or a program of theirs.
    Operator,
    /// Mail that came back.
    Bounce,
    /// A feedback report (RFC 5965).
    Complaint,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Bounce, Self::Complaint];

    /// The name, which does not change.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// Why mail is kept from somebody, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who says so.
    pub source: Source,
    /// What kind of trouble it was, for bounces; operators may say.
    pub class: Option<BounceClass>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` is for good.
    pub until: Option<Timestamp>,
    /// In words, of one line; at most 300 octets are kept.
    pub reason: String,
}

impl Entry {
    /// Whether mail is kept back by it now.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// `since until source class reason`; `-` is none.
    pub(super) fn encode(&self) -> String {
        let until = self.until.map_or_else(none, |until| until.as_millis().to_string());
        let class = self.class.map_or("-", BounceClass::as_str);
        let (since, source) = (self.since.as_millis(), self.source.as_str());
        format!("{since} {until} {source} {class} {}", line(&self.reason))
    }

    /// What [`Self::encode`] has written.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.splitn(5, ' ');
        let since = Timestamp::from_millis(words.next()?.parse().ok()?);
        let until = match words.next()? {
            "-" => None,
            moment => Some(Timestamp::from_millis(moment.parse().ok()?)),
        };
        let source = Source::of(words.next()?)?;
        // A class that a later version knows is none here.
        let class = words.next()?.parse().ok();
        Some(Self { source, class, since, until, reason: words.next()?.to_owned() })
    }
}

fn none() -> String {
    "-".to_owned()
}

/// One line, and not too long a one.
fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while line.len() > REASON_LIMIT {
        line.pop();
    }
    line
}

/// How often mail to an address has come back, while that is not often enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) first: Timestamp,
    pub(super) times: u32,
}

impl Count {
    pub(super) fn encode(self) -> String {
        format!("{} {}", self.first.as_millis(), self.times)
    }

    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let (first, times) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let first = Timestamp::from_millis(first.parse().ok()?);
        Some(Self { first, times: times.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = Timestamp::from_millis;
        for (until, class, reason, read) in [
            (None, None, "", ""),
            (Some(at(9)), Some(BounceClass::UnknownUser), "550 5.1.1 no one", "550 5.1.1 no one"),
            (None, Some(BounceClass::Spam), "a\r\nb\tc", "a  b c"),
            (None, None, &"ü".repeat(200), &"ü".repeat(150)),
        ] {
            for source in Source::ALL {
                let since = at(-7);
                let entry = Entry { source, class, since, until, reason: reason.to_owned() };
                let expected = Entry { reason: read.to_owned(), ..entry.clone() };
                assert_eq!(Entry::decode(entry.encode().as_bytes()), Some(expected));
            }
        }
        for wrong in ["", "1 - operator -", "x - operator - why", "1 2 nobody - why"] {
            assert_eq!(Entry::decode(wrong.as_bytes()), None, "{wrong}");
        }
        let count = Count { first: at(5), times: 2 };
        assert_eq!(Count::decode(count.encode().as_bytes()), Some(count));
    }

    #[test]
    fn subjects_have_one_form() {
        let check = |text: &str, expected: Option<&str>| {
            let subject = text.parse::<Subject>().ok();
            assert_eq!(subject.as_ref().map(Subject::as_str), expected, "{text}");
        };
        check("Bob@Example.ORG", Some("bob@example.org"));
        check("@B\u{fc}cher.test", Some("@xn--bcher-kva.test"));
        check("a@[192.0.2.1]", Some("a@[192.0.2.1]"));
        check("\"A b\"@x.test", Some("\"a b\"@x.test"));
        check("\"a b\"@x.test", Some("\"a b\"@x.test"));
        check("bob", None);
        check("@", None);
        let address = Mailbox::parse("Bob@Example.org").unwrap();
        assert_eq!(Subject::domain_of(&address).as_str(), "@example.org");
    }
}
