//! Mailboxes: a local part at a host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::domain::{Domain, DomainError};

/// The longest local part, in octets (RFC 5321 §4.5.3.1.1).
const LOCAL_LIMIT: usize = 64;

/// Why a text is no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// There is no `@` between a local part and a domain.
    #[error("address has no @")]
    NoAt,
    /// The local part is empty, or breaks the rules for dots, quotes and characters.
    #[error("local part is malformed")]
    LocalPart,
    /// The local part exceeds 64 octets.
    #[error("local part is longer than 64 octets")]
    LocalPartTooLong,
    /// The domain is malformed.
    #[error("{0}")]
    Domain(#[from] DomainError),
    /// An address literal that is neither IPv4 nor IPv6.
    #[error("address literal is not supported")]
    Literal,
}

/// The part before the `@`: what it says, without quotes and backslashes.
///
/// ```text
/// Local-part = Dot-string / Quoted-string        RFC 5321 §4.1.2, RFC 6531 §3.3
/// ```
/// `"a"@x` and `a@x` are the same mailbox. Letter case is kept and counts: only the final host
/// may know better.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPart(Box<str>);

impl LocalPart {
    /// From what it says, unquoted.
    ///
    /// # Errors
    /// [`MailboxError`], for control characters and for more than 64 octets as written.
    pub fn from_content(content: &str) -> Result<Self, MailboxError> {
        if content.chars().any(char::is_control) {
            return Err(MailboxError::LocalPart);
        }
        let part = Self(content.into());
        if part.to_string().len() > LOCAL_LIMIT {
            return Err(MailboxError::LocalPartTooLong);
        }
        Ok(part)
    }

    /// What it says, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits `user+detail` at the first `separator`; the detail may be empty.
    #[must_use]
    pub fn split_detail(&self, separator: char) -> Option<(&str, &str)> {
        self.0.split_once(separator).filter(|(user, _)| !user.is_empty())
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for character in self.0.chars() {
            if character == '"' || character == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        f.write_str("\"")
    }
}

/// The part after the `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A domain.
    Domain(Domain),
    /// An address in brackets (RFC 5321 §4.1.3).
    Literal(IpAddr),
}

impl Host {
    /// Reads a domain, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    ///
    /// # Errors
    /// [`MailboxError::Domain`] or [`MailboxError::Literal`].
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let Some(literal) = text.strip_prefix('[') else {
            return Ok(Self::Domain(Domain::parse(text)?));
        };
        let literal = literal.strip_suffix(']').ok_or(MailboxError::Literal)?;
        let tagged = literal.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let address = if tagged {
            literal[5..].parse::<Ipv6Addr>().map(IpAddr::V6)
        } else {
            literal.parse::<Ipv4Addr>().map(IpAddr::V4)
        };
        address.map(Self::Literal).map_err(|_| MailboxError::Literal)
    }

    /// The domain, if it is one.
    #[must_use]
    pub fn domain(&self) -> Option<&Domain> {
        match self {
            Self::Domain(domain) => Some(domain),
            Self::Literal(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

impl From<Domain> for Host {
    fn from(domain: Domain) -> Self {
        Self::Domain(domain)
    }
}

/// An address that mail can be sent to: `local@host`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    local: LocalPart,
    host: Host,
}

impl Mailbox {
    /// From its parts.
    #[must_use]
    pub fn new(local: LocalPart, host: impl Into<Host>) -> Self {
        Self { local, host: host.into() }
    }

    /// Reads `local@host`, without brackets or spaces around it.
    ///
    /// # Errors
    /// [`MailboxError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let (local, rest) = if text.starts_with('"') {
            read_quoted(text)?
        } else {
            let at = text.find('@').ok_or(MailboxError::NoAt)?;
            if !is_dot_string(&text[..at]) {
                return Err(MailboxError::LocalPart);
            }
            (LocalPart(text[..at].into()), &text[at..])
        };
        let host = rest.strip_prefix('@').ok_or(MailboxError::NoAt)?;
        if text.len() - rest.len() > LOCAL_LIMIT {
            return Err(MailboxError::LocalPartTooLong);
        }
        Ok(Self { local, host: Host::parse(host)? })
    }

    /// The part before the `@`.
    #[must_use]
    pub fn local(&self) -> &LocalPart {
        &self.local
    }

    /// The part after the `@`.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it has to be sent with SMTPUTF8 as it stands.
    #[must_use]
    pub fn is_internationalized(&self) -> bool {
        !self.local.0.is_ascii() || self.host.domain().is_some_and(Domain::is_internationalized)
    }

    /// The all-ASCII form: A-labels for the domain. `None` when the local part is not ASCII.
    #[must_use]
    pub fn to_ascii(&self) -> Option<String> {
        if !self.local.0.is_ascii() {
            return None;
        }
        Some(match &self.host {
            Host::Domain(domain) => format!("{}@{}", self.local, domain.as_ascii()),
            literal @ Host::Literal(_) => format!("{}@{literal}", self.local),
        })
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;
    fn from_str(text: &str) -> Result<Self, MailboxError> {
        Self::parse(text)
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.host)
    }
}

/// `Dot-string = Atom *("." Atom)`, with UTF-8 as in RFC 6531.
fn is_dot_string(text: &str) -> bool {
    let atext = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^' | '_'
        | '`' | '{' | '|' | '}' | '~' => true,
        // C1 controls are UTF-8, but no part of a name.
        other => !other.is_ascii() && !other.is_control(),
    };
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

/// `Quoted-string = DQUOTE *QcontentSMTP DQUOTE`; answers the content and what follows.
fn read_quoted(text: &str) -> Result<(LocalPart, &str), MailboxError> {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((place, character)) = characters.next() {
        let character = match character {
            '"' => return Ok((LocalPart(content.into()), &text[place + 1..])),
            '\\' => {
                let (_, quoted) = characters.next().ok_or(MailboxError::LocalPart)?;
                if !quoted.is_ascii() {
                    return Err(MailboxError::LocalPart);
                }
                quoted
            }
            other => other,
        };
        if character.is_control() {
            return Err(MailboxError::LocalPart);
        }
        content.push(character);
    }
    Err(MailboxError::LocalPart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, MailboxError>) {
        let read = Mailbox::parse(text).map(|mailbox| mailbox.to_string());
        assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text:?}");
    }

    #[test]
    fn reads_mailboxes() {
        for same in [
            "bob@example.org",
            "first.last+tag@example.org",
            "!#$%&'*+-/=?^_`{|}~@example.org",
            "\"a b\"@example.org",
            "\"a@b\"@example.org",
            "\"a\\\"b\\\\c\"@example.org",
            "\"\"@example.org",
            "\".a\"@example.org",
            "bob@[192.0.2.1]",
            "bob@[IPv6:2001:db8::1]",
            "пример@пример.example",
            "bob@EXAMPLE.org",
        ] {
            check(same, Ok(same));
        }
        check("\"bob\"@example.org", Ok("bob@example.org"));
        check("\"b\\ob\"@example.org", Ok("bob@example.org"));
        check("bob@[ipv6:2001:DB8:0::1]", Ok("bob@[IPv6:2001:db8::1]"));
    }

    #[test]
    fn refuses_the_rest() {
        let long = format!("{}@example.org", "a".repeat(65));
        for (text, error) in [
            ("", MailboxError::NoAt),
            ("bob", MailboxError::NoAt),
            ("@example.org", MailboxError::LocalPart),
            (".bob@example.org", MailboxError::LocalPart),
            ("bob.@example.org", MailboxError::LocalPart),
            ("b..b@example.org", MailboxError::LocalPart),
            ("b b@example.org", MailboxError::LocalPart),
            ("b\u{0}b@example.org", MailboxError::LocalPart),
            ("b\u{85}b@example.org", MailboxError::LocalPart),
            ("b(c)@example.org", MailboxError::LocalPart),
            ("\"bob@example.org", MailboxError::LocalPart),
            ("\"b\r\nb\"@example.org", MailboxError::LocalPart),
            ("\"bob\"example.org", MailboxError::NoAt),
            ("bob@", MailboxError::Domain(DomainError::EmptyLabel)),
            ("bob@a@b", MailboxError::Domain(DomainError::BadLabel)),
            ("bob@192.0.2.1", MailboxError::Domain(DomainError::Numeric)),
            ("bob@[192.0.2]", MailboxError::Literal),
            ("bob@[2001:db8::1]", MailboxError::Literal),
            ("bob@[IPv6:192.0.2.1]", MailboxError::Literal),
            ("bob@[x400:c=de]", MailboxError::Literal),
            ("bob@[192.0.2.1", MailboxError::Literal),
            (long.as_str(), MailboxError::LocalPartTooLong),
        ] {
            check(text, Err(error));
        }
    }

    #[test]
    fn the_ascii_form_keeps_the_local_part_and_maps_the_domain() {
        let ascii = |text: &str| Mailbox::parse(text).unwrap().to_ascii();
        assert_eq!(ascii("bob@bücher.example").unwrap(), "bob@xn--bcher-kva.example");
        assert_eq!(ascii("bób@example.org"), None);
    }
}
