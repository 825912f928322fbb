//! Enhanced status codes (RFC 3463): class, subject, detail.

use std::fmt;
use std::str::FromStr;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// 4: it can.
    Transient,
    /// 5: it cannot.
    Permanent,
}

/// The first digit of an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 2.
    Success,
    /// 4.
    Transient,
    /// 5.
    Permanent,
}

impl Class {
    fn digit(self) -> char {
        match self {
            Self::Success => '2',
            Self::Transient => '4',
            Self::Permanent => '5',
        }
    }
}

impl From<Severity> for Class {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Transient => Self::Transient,
            Severity::Permanent => Self::Permanent,
        }
    }
}

/// Subject and detail of an enhanced status code, without its class: a condition that can be
/// transient or permanent. Each is at most 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status {
    subject: u16,
    detail: u16,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $subject:literal . $detail:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self { subject: $subject, detail: $detail };)*
        }
    };
}

statuses! {
    /// X.0.0: nothing more is known.
    UNDEFINED = 0 . 0;
    /// X.1.0: something about an address.
    ADDRESS = 1 . 0;
    /// X.1.1: no such mailbox.
    NO_MAILBOX = 1 . 1;
    /// X.1.2: no such domain.
    NO_DOMAIN = 1 . 2;
    /// X.1.3: the recipient's address is malformed.
    BAD_RECIPIENT_SYNTAX = 1 . 3;
    /// X.1.5: the recipient's address is fine.
    RECIPIENT_OK = 1 . 5;
    /// X.1.7: the sender's address is malformed.
    BAD_SENDER_SYNTAX = 1 . 7;
    /// X.1.8: the sender's domain is unusable.
    BAD_SENDER_DOMAIN = 1 . 8;
    /// X.1.10: the domain takes no mail (null MX, RFC 7505).
    NULL_MX = 1 . 10;
    /// X.2.0: something about a mailbox.
    MAILBOX = 2 . 0;
    /// X.2.1: the mailbox takes no mail.
    MAILBOX_DISABLED = 2 . 1;
    /// X.2.2: the mailbox is full.
    MAILBOX_FULL = 2 . 2;
    /// X.2.3: longer than the mailbox allows.
    MAILBOX_MESSAGE_TOO_BIG = 2 . 3;
    /// X.3.0: something about the mail system.
    SYSTEM = 3 . 0;
    /// X.3.1: the mail system is full.
    FULL = 3 . 1;
    /// X.3.2: the system does not accept network messages now.
    NOT_ACCEPTING = 3 . 2;
    /// X.3.3: the system cannot do what was asked for.
    NOT_CAPABLE = 3 . 3;
    /// X.3.4: the message is too big for the system.
    MESSAGE_TOO_BIG = 3 . 4;
    /// X.3.5: the system is configured wrongly.
    MISCONFIGURED = 3 . 5;
    /// X.4.0: something about network or routing.
    NETWORK = 4 . 0;
    /// X.4.1: the host does not answer.
    NO_ANSWER = 4 . 1;
    /// X.4.2: the connection broke, or took too long.
    BAD_CONNECTION = 4 . 2;
    /// X.4.3: a directory, such as the DNS, failed.
    DIRECTORY = 4 . 3;
    /// X.4.4: no route.
    NO_ROUTE = 4 . 4;
    /// X.4.5: congestion.
    CONGESTION = 4 . 5;
    /// X.4.6: a loop.
    LOOP = 4 . 6;
    /// X.4.7: the delivery time expired.
    EXPIRED = 4 . 7;
    /// X.5.0: something about the protocol.
    PROTOCOL = 5 . 0;
    /// X.5.1: a command that is unknown or out of sequence.
    BAD_COMMAND = 5 . 1;
    /// X.5.2: a syntax error.
    SYNTAX = 5 . 2;
    /// X.5.3: too many recipients.
    TOO_MANY_RECIPIENTS = 5 . 3;
    /// X.5.4: bad arguments.
    BAD_ARGUMENTS = 5 . 4;
    /// X.5.6: an authentication exchange line is too long (RFC 4954).
    AUTH_LINE_TOO_LONG = 5 . 6;
    /// X.6.0: something about the content.
    CONTENT = 6 . 0;
    /// X.6.1: the content's type is not supported.
    MEDIA = 6 . 1;
    /// X.6.3: conversion is needed and not supported.
    CONVERSION = 6 . 3;
    /// X.6.7: a UTF-8 address where none is possible (RFC 6531).
    UTF8_ADDRESS = 6 . 7;
    /// X.6.9: a UTF-8 header where none is possible (RFC 6531).
    UTF8_HEADER = 6 . 9;
    /// X.7.0: security, not said more precisely.
    SECURITY = 7 . 0;
    /// X.7.1: delivery is not authorised.
    POLICY = 7 . 1;
    /// X.7.4: a security feature that is needed is not there.
    NO_SECURITY_FEATURE = 7 . 4;
    /// X.7.5: a cryptographic failure, such as a certificate that does not hold.
    CRYPTOGRAPHIC_FAILURE = 7 . 5;
    /// X.7.8: the credentials are wrong (RFC 4954).
    AUTH_FAILED = 7 . 8;
    /// X.7.9: the mechanism is too weak (RFC 4954).
    AUTH_TOO_WEAK = 7 . 9;
    /// X.7.10: the message needs TLS, and cannot have it (RFC 8689 §4.2.1).
    TLS_NEEDED = 7 . 10;
    /// X.7.11: encryption is needed for the mechanism (RFC 4954).
    ENCRYPTION_NEEDED = 7 . 11;
    /// X.7.30: the message needs REQUIRETLS, and cannot have it (RFC 8689 §4.2.1).
    REQUIRETLS = 7 . 30;
}

impl Status {
    /// Subject and detail.
    ///
    /// # Errors
    /// [`StatusError`], when one of them exceeds 999.
    pub fn new(subject: u16, detail: u16) -> Result<Self, StatusError> {
        if subject > 999 || detail > 999 {
            return Err(StatusError);
        }
        Ok(Self { subject, detail })
    }

    /// The second number.
    #[must_use]
    pub fn subject(self) -> u16 {
        self.subject
    }

    /// The third number.
    #[must_use]
    pub fn detail(self) -> u16 {
        self.detail
    }

    /// This condition as a success.
    #[must_use]
    pub fn success(self) -> EnhancedStatus {
        EnhancedStatus { class: Class::Success, status: self }
    }

    /// This condition with a severity.
    #[must_use]
    pub fn with(self, severity: Severity) -> EnhancedStatus {
        EnhancedStatus { class: severity.into(), status: self }
    }
}

/// An enhanced status code, such as `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedStatus {
    /// The first number.
    pub class: Class,
    /// The other two.
    pub status: Status,
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.status.subject, self.status.detail)
    }
}

/// The text is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct StatusError;

impl FromStr for EnhancedStatus {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => Class::Success,
            Some("4") => Class::Transient,
            Some("5") => Class::Permanent,
            _ => return Err(StatusError),
        };
        let mut number = || {
            let digits = parts.next().ok_or(StatusError)?;
            if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit())
            {
                return Err(StatusError);
            }
            digits.parse::<u16>().map_err(|_| StatusError)
        };
        let status = Status::new(number()?, number()?)?;
        if parts.next().is_some() {
            return Err(StatusError);
        }
        Ok(Self { class, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let code = Status::NO_MAILBOX.with(Severity::Permanent);
        assert_eq!(code.to_string(), "5.1.1");
        assert_eq!("5.1.1".parse(), Ok(code));
        for wrong in ["", "5", "5.1", "5.1.", "3.1.1", "5.1.1.1", "5.1000.1", "5.-1.1", "5. 1.1"] {
            assert_eq!(wrong.parse::<EnhancedStatus>(), Err(StatusError), "{wrong}");
        }
    }
}
