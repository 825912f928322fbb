//! Replies, and refusals whose parts cannot contradict each other.

use std::fmt;

use crate::status::{Class, EnhancedStatus, Severity, Status};

/// A three-digit reply code, 200 to 599 (RFC 5321 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// A code, if it is one.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code <= 599 { Some(Self(code)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// 2yz: done.
    #[must_use]
    pub fn is_positive(self) -> bool {
        (200..300).contains(&self.0)
    }

    /// 3yz: go on.
    #[must_use]
    pub fn is_intermediate(self) -> bool {
        (300..400).contains(&self.0)
    }

    /// For 4yz and 5yz, whether trying again can help.
    #[must_use]
    pub fn severity(self) -> Option<Severity> {
        match self.0 {
            400..500 => Some(Severity::Transient),
            500..600 => Some(Severity::Permanent),
            _ => None,
        }
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reply: a code, perhaps an enhanced status, and at least one line of text.
///
/// The text has no CR, LF or other control characters: they become spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedStatus>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line.
    #[must_use]
    pub fn new(code: ReplyCode, enhanced: Option<EnhancedStatus>, text: &str) -> Self {
        Self::with_lines(code, enhanced, [text])
    }

    /// A reply of several lines; none given is one empty line.
    #[must_use]
    pub fn with_lines<'a>(
        code: ReplyCode,
        enhanced: Option<EnhancedStatus>,
        lines: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut lines: Vec<String> = lines.into_iter().map(clean).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, enhanced, lines }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status, if it has one.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        self.enhanced
    }

    /// The lines, without codes; at least one.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The refusal it is, if it is one. Where the enhanced status is missing or of another
    /// class than the code, the code counts.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.code.severity()
    }
}

/// Code, enhanced status and text on one line, lines joined by spaces.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code.fmt(f)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in &self.lines {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// The reply codes that refuse (RFC 5321 §4.2.3, RFC 4954 §6, RFC 3207 §4, RFC 7504).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum RejectCode {
            $($(#[$doc])* $name,)*
        }

        impl RejectCode {
            /// The number.
            #[must_use]
            pub const fn as_u16(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The code of this number.
            #[must_use]
            pub const fn from_u16(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reject_codes! {
    /// Service not available, closing.
    C421 = 421;
    /// Mailbox not available now.
    C450 = 450;
    /// Local error in processing.
    C451 = 451;
    /// Insufficient storage, or too many recipients.
    C452 = 452;
    /// Temporary authentication failure, or TLS not available now.
    C454 = 454;
    /// Parameters cannot be accommodated now.
    C455 = 455;
    /// Syntax error, command unrecognised.
    C500 = 500;
    /// Syntax error in parameters.
    C501 = 501;
    /// Command not implemented.
    C502 = 502;
    /// Bad sequence of commands.
    C503 = 503;
    /// Parameter not implemented; for AUTH: mechanism not known.
    C504 = 504;
    /// The server takes no mail.
    C521 = 521;
    /// Authentication or TLS is needed.
    C530 = 530;
    /// The mechanism is too weak.
    C534 = 534;
    /// The credentials are wrong.
    C535 = 535;
    /// The mechanism needs encryption.
    C538 = 538;
    /// Mailbox not available, or policy.
    C550 = 550;
    /// User not local.
    C551 = 551;
    /// Exceeded storage.
    C552 = 552;
    /// Mailbox name not allowed.
    C553 = 553;
    /// Transaction failed.
    C554 = 554;
    /// MAIL or RCPT parameters not recognised.
    C555 = 555;
    /// The domain takes no mail.
    C556 = 556;
}

impl RejectCode {
    /// Whether trying again can help.
    #[must_use]
    pub const fn severity(self) -> Severity {
        if self.as_u16() < 500 { Severity::Transient } else { Severity::Permanent }
    }

    const fn reply_code(self) -> ReplyCode {
        ReplyCode(self.as_u16())
    }
}

/// A refusal: code, enhanced status and text. Both codes take their class from one severity,
/// so they cannot contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    code: RejectCode,
    status: Status,
    lines: Vec<String>,
}

impl Rejection {
    /// 451: try again later.
    #[must_use]
    pub fn transient(status: Status, text: &str) -> Self {
        Self::with(RejectCode::C451, status, text)
    }

    /// 550: do not try again.
    #[must_use]
    pub fn permanent(status: Status, text: &str) -> Self {
        Self::with(RejectCode::C550, status, text)
    }

    /// With another code. Line feeds in `text` separate lines.
    #[must_use]
    pub fn with(code: RejectCode, status: Status, text: &str) -> Self {
        Self { code, status, lines: text.lines().map(clean).collect() }
    }

    /// From a peer's reply, if it refuses. A code we do not know becomes 450 or 550 by its
    /// first digit; a status of another class, or none, becomes X.0.0.
    #[must_use]
    pub fn from_reply(reply: &Reply) -> Option<Self> {
        let severity = reply.severity()?;
        let code = RejectCode::from_u16(reply.code.as_u16()).unwrap_or(match severity {
            Severity::Transient => RejectCode::C450,
            Severity::Permanent => RejectCode::C550,
        });
        let status = match reply.enhanced {
            Some(enhanced) if enhanced.class == Class::from(severity) => enhanced.status,
            _ => Status::UNDEFINED,
        };
        Some(Self { code, status, lines: reply.lines.clone() })
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// The reply code.
    #[must_use]
    pub fn code(&self) -> RejectCode {
        self.code
    }

    /// The condition.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The condition with its class.
    #[must_use]
    pub fn enhanced(&self) -> EnhancedStatus {
        self.status.with(self.severity())
    }

    /// The text, its lines joined by spaces.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// As a reply.
    #[must_use]
    pub fn to_reply(&self) -> Reply {
        let lines = self.lines.iter().map(String::as_str);
        Reply::with_lines(self.code.reply_code(), Some(self.enhanced()), lines)
    }
}

/// `550 5.1.1 no such user`.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code.as_u16(), self.enhanced(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_of_one_severity() {
        let full = Rejection::with(RejectCode::C452, Status::FULL, "try\r\nlater\u{7}");
        assert_eq!(full.to_string(), "452 4.3.1 try later ");
        assert_eq!(full.to_reply().lines(), ["try", "later "]);
        assert_eq!(Rejection::from_reply(&full.to_reply()), Some(full));
    }

    #[test]
    fn a_peers_reply_counts_by_its_code() {
        let reply = |code, enhanced: Option<&str>| {
            let enhanced = enhanced.map(|text| text.parse().unwrap());
            let reply = Reply::new(ReplyCode::new(code).unwrap(), enhanced, "x");
            Rejection::from_reply(&reply).map(|rejection| rejection.to_string())
        };
        assert_eq!(reply(250, None), None);
        assert_eq!(reply(354, None), None);
        assert_eq!(reply(577, Some("5.1.1")).unwrap(), "550 5.1.1 x");
        assert_eq!(reply(450, Some("5.1.1")).unwrap(), "450 4.0.0 x");
        assert_eq!(reply(550, None).unwrap(), "550 5.0.0 x");
    }
}
