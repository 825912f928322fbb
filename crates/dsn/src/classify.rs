//! What kind of trouble a reply tells of.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use merpati_types::EnhancedStatus;

mod rule;

pub use rule::{ClassRules, RuleError, RuleFault};

use rule::Words;

/// The table that comes with the crate.
static TABLE: LazyLock<ClassRules> = LazyLock::new(|| {
    ClassRules::parse(include_str!("classify/table.txt")).expect("a test reads the table")
});

/// Why mail was not taken, as far as the reply tells: for statistics, for what to do next, and
/// for the words to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BounceClass {
    /// The mailbox has no room.
    MailboxFull,
    /// There is no such mailbox.
    UnknownUser,
    /// There is no such domain, or it takes no mail.
    BadDomain,
    /// A rule of the receiver, none of the others.
    Policy,
    /// The sending host, network or domain is listed, or badly thought of.
    Reputation,
    /// The message looks like spam.
    Spam,
    /// Too much, too fast, or to too many.
    Rate,
    /// Not at the first attempt.
    Greylisted,
    /// A name could not be resolved, or an address has none.
    Dns,
    /// TLS is wanted, or has failed.
    Tls,
    /// Credentials, or SPF, DKIM or DMARC.
    Auth,
    /// The message is too large.
    Size,
    /// What is in the message: a virus, an attachment, its form.
    Content,
    /// The host does not take mail for that domain from us.
    Relaying,
    /// The mailbox is there, and takes no mail.
    InactiveMailbox,
    /// The message goes round in circles.
    Loop,
    /// A command was not understood, or not in its place.
    Protocol,
    /// The host could not be reached, or went away.
    Connection,
    /// The other system is in trouble.
    System,
    /// Nothing is known.
    Other,
}

impl BounceClass {
    /// Every class.
    pub const ALL: [Self; 20] = [
        Self::MailboxFull,
        Self::UnknownUser,
        Self::BadDomain,
        Self::Policy,
        Self::Reputation,
        Self::Spam,
        Self::Rate,
        Self::Greylisted,
        Self::Dns,
        Self::Tls,
        Self::Auth,
        Self::Size,
        Self::Content,
        Self::Relaying,
        Self::InactiveMailbox,
        Self::Loop,
        Self::Protocol,
        Self::Connection,
        Self::System,
        Self::Other,
    ];

    /// The name, which does not change: for logs, metrics and rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MailboxFull => "mailbox-full",
            Self::UnknownUser => "unknown-user",
            Self::BadDomain => "bad-domain",
            Self::Policy => "policy",
            Self::Reputation => "reputation",
            Self::Spam => "spam",
            Self::Rate => "rate",
            Self::Greylisted => "greylisted",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Size => "size",
            Self::Content => "content",
            Self::Relaying => "relaying",
            Self::InactiveMailbox => "inactive-mailbox",
            Self::Loop => "loop",
            Self::Protocol => "protocol",
            Self::Connection => "connection",
            Self::System => "system",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for BounceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a class of bounces")]
pub struct BounceClassError;

impl FromStr for BounceClass {
    type Err = BounceClassError;

    fn from_str(text: &str) -> Result<Self, BounceClassError> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(BounceClassError)
    }
}

/// What is classed: a reply, or words of our own about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symptom<'a> {
    /// The reply's code.
    pub code: Option<u16>,
    /// The enhanced status: the reply's, or of a report.
    pub status: Option<EnhancedStatus>,
    /// The text; its first 2,000 octets count.
    pub text: &'a str,
}

impl<'a> Symptom<'a> {
    /// Reads `550 5.1.1 no such user`, as far as it is one: code and status are left out where
    /// the text does not begin with them.
    #[must_use]
    pub fn of(diagnostic: &'a str) -> Self {
        let text = diagnostic.trim_start();
        let begins = |text: &'a str| {
            let end = text.find([' ', '-', '\r', '\n']).unwrap_or(text.len());
            (&text[..end], text[end..].trim_start_matches([' ', '-']))
        };
        let (code, rest) = match begins(text) {
            (code, rest) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()) => {
                (code.parse().ok(), rest)
            }
            _ => (None, text),
        };
        let (word, after) = begins(rest);
        // Some write `#5.1.1`.
        match word.trim_matches(['#', '(', ')']).parse() {
            Ok(status) => Self { code, status: Some(status), text: after },
            Err(_) => Self { code, status: None, text: rest },
        }
    }
}

/// Tells the class of replies: by the operator's rules, then by the table of this crate.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    own: ClassRules,
}

impl Classifier {
    /// Asks `own` before the table.
    #[must_use]
    pub fn new(own: ClassRules) -> Self {
        Self { own }
    }

    /// The class of a reply.
    #[must_use]
    pub fn class(&self, symptom: &Symptom<'_>) -> BounceClass {
        let words = Words::of(symptom);
        self.own
            .class(symptom, &words)
            .or_else(|| TABLE.class(symptom, &words))
            .unwrap_or(BounceClass::Other)
    }
}

#[cfg(test)]
mod tests;
