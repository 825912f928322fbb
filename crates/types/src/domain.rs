//! Domain names in mail.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The longest domain, in octets of its A-label form (RFC 5321 §4.5.3.1.2).
const LIMIT: usize = 255;
/// The longest label (RFC 1035 §2.3.4).
const LABEL_LIMIT: usize = 63;

/// A fully written domain name, without a trailing dot.
///
/// ```text
/// Domain = sub-domain *("." sub-domain)          RFC 5321 §4.1.2, RFC 6531 §3.3
/// ```
/// Letters, digits, hyphens, and underscores, which are no host names but are seen in the
/// field; U-labels are mapped by UTS #46, non-transitional. Two domains are equal when their
/// lower-case A-label forms are.
#[derive(Clone)]
pub struct Domain {
    /// Lower-case A-label form.
    ascii: Box<str>,
    /// As given, when that differs.
    given: Option<Box<str>>,
}

/// Why a text is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// Nothing, or nothing between two dots, or a dot at an end.
    #[error("domain has an empty label")]
    EmptyLabel,
    /// Longer than 255 octets, or a label longer than 63.
    #[error("domain is too long")]
    TooLong,
    /// A character that no domain has, or a hyphen at the end of a label.
    #[error("domain has a label that is not allowed")]
    BadLabel,
    /// Only digits and dots: an address that lacks its brackets.
    #[error("domain looks like an IP address")]
    Numeric,
}

impl Domain {
    /// Reads a domain.
    ///
    /// # Errors
    /// [`DomainError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        // 4 octets of UTF-8 per character bound what is worth mapping.
        if text.len() > 4 * LIMIT {
            return Err(DomainError::TooLong);
        }
        let ascii: Box<str> = if text.is_ascii() {
            check_ascii(text)?;
            text.to_ascii_lowercase().into()
        } else {
            if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
                return Err(DomainError::BadLabel);
            }
            let mapped = idna::domain_to_ascii(text).map_err(|_| DomainError::BadLabel)?;
            check_ascii(&mapped)?;
            mapped.into()
        };
        let given = (*ascii != *text).then(|| text.into());
        Ok(Self { ascii, given })
    }

    /// The lower-case A-label form: for look-ups and comparison.
    #[must_use]
    pub fn as_ascii(&self) -> &str {
        &self.ascii
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.given.as_deref().unwrap_or(&self.ascii)
    }

    /// Whether it was given with U-labels, which only SMTPUTF8 can carry.
    #[must_use]
    pub fn is_internationalized(&self) -> bool {
        !self.as_str().is_ascii()
    }

    /// Whether it is `parent`, or below it.
    #[must_use]
    pub fn is_within(&self, parent: &Self) -> bool {
        match self.ascii.strip_suffix(&*parent.ascii) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

fn check_ascii(text: &str) -> Result<(), DomainError> {
    if text.len() > LIMIT {
        return Err(DomainError::TooLong);
    }
    let mut numeric = true;
    for label in text.split('.') {
        if label.is_empty() {
            return Err(DomainError::EmptyLabel);
        }
        if label.len() > LABEL_LIMIT {
            return Err(DomainError::TooLong);
        }
        let bytes = label.as_bytes();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !bytes.iter().copied().all(allowed)
            || bytes.first() == Some(&b'-')
            || bytes.last() == Some(&b'-')
        {
            return Err(DomainError::BadLabel);
        }
        numeric &= bytes.iter().all(u8::is_ascii_digit);
    }
    if numeric { Err(DomainError::Numeric) } else { Ok(()) }
}

impl FromStr for Domain {
    type Err = DomainError;
    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::parse(text)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.as_str())
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.ascii == other.ascii
    }
}
impl Eq for Domain {}
impl PartialOrd for Domain {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Domain {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ascii.cmp(&other.ascii)
    }
}
impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ascii.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_domains_and_says_what_is_wrong() {
        let check = |text: &str, expected: Result<&str, DomainError>| {
            let read = Domain::parse(text);
            assert_eq!(read.as_ref().map(Domain::as_ascii).map_err(|e| *e), expected, "{text:?}");
        };
        check("Example.ORG", Ok("example.org"));
        check("localhost", Ok("localhost"));
        check("_dmarc.example.org", Ok("_dmarc.example.org"));
        check("3com.example", Ok("3com.example"));
        check("bücher.example", Ok("xn--bcher-kva.example"));
        check("faß.example", Ok("xn--fa-hia.example"));
        check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check("", Err(DomainError::EmptyLabel));
        check("a..b", Err(DomainError::EmptyLabel));
        check("a.", Err(DomainError::EmptyLabel));
        check("-a.example", Err(DomainError::BadLabel));
        check("a-.example", Err(DomainError::BadLabel));
        check("a b.example", Err(DomainError::BadLabel));
        check("ü\r\n.example", Err(DomainError::BadLabel));
        check("192.0.2.1", Err(DomainError::Numeric));
        check(&"a".repeat(64), Err(DomainError::TooLong));
        check(&"a.".repeat(200), Err(DomainError::TooLong));
    }

    #[test]
    fn equality_ignores_case_and_form_and_the_given_form_is_kept() {
        let given = Domain::parse("BÜCHER.example").unwrap();
        assert_eq!(given, Domain::parse("xn--bcher-kva.EXAMPLE").unwrap());
        assert_eq!(given.as_str(), "BÜCHER.example");
        assert!(given.is_internationalized());
        let parent = Domain::parse("example").unwrap();
        assert!(given.is_within(&parent) && parent.is_within(&parent));
        assert!(!Domain::parse("notexample").unwrap().is_within(&parent));
    }
}
