//! Reverse and forward paths: what stands between angle brackets.

use std::fmt;

use crate::mailbox::{Mailbox, MailboxError};

/// The longest path with its brackets (RFC 5321 §4.5.3.1.3), counted on what is kept of it:
/// a dropped source route may be longer, within the bounds of a command line.
const LIMIT: usize = 256;

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// There are no angle brackets around it.
    #[error("path is not in angle brackets")]
    Brackets,
    /// The source route is malformed.
    #[error("source route is malformed")]
    Route,
    /// Longer than 256 octets.
    #[error("path is longer than 256 octets")]
    TooLong,
    /// The mailbox is malformed.
    #[error("{0}")]
    Mailbox(#[from] MailboxError),
    /// `<>` where a recipient must stand.
    #[error("a recipient cannot be empty")]
    Null,
}

/// Where reports about a message go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReversePath {
    /// `<>`: nowhere. The message is a report itself, or wants none.
    Null,
    /// To this mailbox.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Reads `<>` or `<mailbox>`; a source route is read and dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    /// [`PathError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = unbracket(text)?;
        if inner.is_empty() {
            return Ok(Self::Null);
        }
        Ok(Self::Mailbox(read_mailbox(inner)?))
    }

    /// The mailbox, if there is one.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// A recipient as RCPT names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>`, without a domain, in any letter case (RFC 5321 §4.5.1).
    Postmaster,
    /// A mailbox.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// Reads `<mailbox>` or `<Postmaster>`; a source route is read and dropped.
    ///
    /// # Errors
    /// [`PathError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = unbracket(text)?;
        if inner.is_empty() {
            return Err(PathError::Null);
        }
        if inner.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        Ok(Self::Mailbox(read_mailbox(inner)?))
    }

    /// The mailbox, if it names one.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<Postmaster>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

fn unbracket(text: &str) -> Result<&str, PathError> {
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).ok_or(PathError::Brackets)
}

fn read_mailbox(text: &str) -> Result<Mailbox, PathError> {
    let kept = match text.strip_prefix('@') {
        None => text,
        Some(_) => {
            let (route, mailbox) = text.split_once(':').ok_or(PathError::Route)?;
            for hop in route.split(',') {
                let domain = hop.strip_prefix('@').ok_or(PathError::Route)?;
                crate::mailbox::Host::parse(domain).map_err(|_| PathError::Route)?;
            }
            mailbox
        }
    };
    if kept.len() + 2 > LIMIT {
        return Err(PathError::TooLong);
    }
    Ok(Mailbox::parse(kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_reverse_paths() {
        let check = |text: &str, expected: Result<&str, PathError>| {
            let read = ReversePath::parse(text).map(|path| path.to_string());
            assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text:?}");
        };
        check("<>", Ok("<>"));
        check("<bob@example.org>", Ok("<bob@example.org>"));
        check("<\"<>\"@example.org>", Ok("<\"<>\"@example.org>"));
        check("<@a.example,@b.example:bob@example.org>", Ok("<bob@example.org>"));
        check("<@a.example:>", Err(PathError::Mailbox(MailboxError::NoAt)));
        check("<@a.example,b.example:bob@example.org>", Err(PathError::Route));
        check("<@:bob@example.org>", Err(PathError::Route));
        check("bob@example.org", Err(PathError::Brackets));
        check("<bob@example.org", Err(PathError::Brackets));
        check("", Err(PathError::Brackets));
        let long = format!("<a@{}example.org>", "abcdefg.".repeat(31));
        check(&long, Err(PathError::TooLong));
    }

    #[test]
    fn reads_forward_paths() {
        assert_eq!(ForwardPath::parse("<postMASTER>"), Ok(ForwardPath::Postmaster));
        assert_eq!(ForwardPath::parse("<>"), Err(PathError::Null));
        let path = ForwardPath::parse("<@a.example:bob@example.org>").unwrap();
        assert_eq!(path.to_string(), "<bob@example.org>");
    }
}
