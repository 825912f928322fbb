//! Reading the machine's part of a report: ours, and those of others.

use merpati_types::EnhancedStatus;

use crate::action::Action;
use crate::text::unescape;

/// The largest part that is read, in octets.
const PART_LIMIT: usize = 1024 * 1024;
/// The most recipients that are read.
const RECIPIENT_LIMIT: usize = 10_000;

/// What a `message/delivery-status` or `message/global-delivery-status` part says (RFC 3464 §2,
/// RFC 6533 §4), its transfer encoding undone.
///
/// Unknown fields are skipped, and of a field that stands twice the first counts. Texts are
/// unfolded; they are the writer's, so treat them as foreign. Dates are kept as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// Original-Envelope-Id.
    pub envid: Option<String>,
    /// Reporting-MTA.
    pub reporting_mta: Typed,
    /// Received-From-MTA.
    pub received_from: Option<Typed>,
    /// Arrival-Date.
    pub arrived: Option<String>,
    /// At least one.
    pub recipients: Vec<RecipientStatus>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientStatus {
    /// Original-Recipient.
    pub original: Option<Typed>,
    /// Final-Recipient.
    pub address: Typed,
    /// Action.
    pub action: Action,
    /// Status.
    pub status: EnhancedStatus,
    /// Remote-MTA.
    pub remote_mta: Option<Typed>,
    /// Diagnostic-Code.
    pub diagnostic: Option<Typed>,
    /// Last-Attempt-Date.
    pub last_attempt: Option<String>,
    /// Will-Retry-Until.
    pub retry_until: Option<String>,
}

/// A value with the type that stands before its semicolon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// `dns`, `rfc822`, `smtp` and the like, in lower case.
    pub kind: String,
    /// The value; of kind `utf-8`, with the escapes of its ASCII form undone.
    pub value: String,
}

/// Why a part cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusPartError {
    /// More than 1 MiB, or more than 10,000 recipients.
    #[error("delivery status exceeds its limit of {limit} {of}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
    /// It is not UTF-8.
    #[error("delivery status is not text")]
    NotText,
    /// A line is neither a field nor continues one.
    #[error("line {line} of the delivery status is no field")]
    NoField {
        /// Counted from 1.
        line: usize,
    },
    /// A field that must be there is not.
    #[error("delivery status lacks {field}")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("delivery status has a malformed {field}")]
    Malformed {
        /// Its name.
        field: &'static str,
    },
    /// It speaks of no recipient.
    #[error("delivery status names no recipient")]
    NoRecipient,
}

impl DeliveryStatus {
    /// Reads a part.
    ///
    /// # Errors
    /// [`StatusPartError`] says what is wrong with it.
    pub fn parse(part: &[u8]) -> Result<Self, StatusPartError> {
        if part.len() > PART_LIMIT {
            return Err(StatusPartError::TooLarge { limit: PART_LIMIT, of: "octets" });
        }
        let text = std::str::from_utf8(part).map_err(|_| StatusPartError::NotText)?;
        let mut groups = groups(text)?.into_iter();
        let message = groups.next().ok_or(StatusPartError::Missing { field: "Reporting-MTA" })?;
        let recipients = groups.map(|group| RecipientStatus::of(&group));
        let recipients = recipients.collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(StatusPartError::NoRecipient);
        }
        Ok(Self {
            envid: message.text("Original-Envelope-Id"),
            reporting_mta: message.required("Reporting-MTA", Typed::parse)?,
            received_from: message.optional("Received-From-MTA", Typed::parse)?,
            arrived: message.text("Arrival-Date"),
            recipients,
        })
    }
}

impl RecipientStatus {
    fn of(group: &Group) -> Result<Self, StatusPartError> {
        Ok(Self {
            original: group.optional("Original-Recipient", Typed::parse)?,
            address: group.required("Final-Recipient", Typed::parse)?,
            action: group.required("Action", |text| Action::from_name(token(text)))?,
            status: group.required("Status", |text| token(text).parse().ok())?,
            remote_mta: group.optional("Remote-MTA", Typed::parse)?,
            diagnostic: group.optional("Diagnostic-Code", Typed::parse)?,
            last_attempt: group.text("Last-Attempt-Date"),
            retry_until: group.text("Will-Retry-Until"),
        })
    }
}

impl Typed {
    fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(';')?;
        let kind = kind.trim().to_ascii_lowercase();
        let value = value.trim();
        if kind.is_empty() {
            return None;
        }
        // Only the ASCII form has escapes; in the other one a backslash is a backslash.
        let is_escaped = kind == "utf-8" && value.is_ascii();
        let value = if is_escaped { unescape(value) } else { value.to_owned() };
        Some(Self { kind, value })
    }
}

/// The first word, without the comment that some write behind it.
fn token(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default()
}

/// Fields up to an empty line, unfolded.
#[derive(Default)]
struct Group(Vec<(String, String)>);

impl Group {
    fn text(&self, name: &str) -> Option<String> {
        let field = self.0.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(field.1.trim().to_owned())
    }

    fn optional<T>(
        &self,
        field: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StatusPartError> {
        let Some(text) = self.text(field) else { return Ok(None) };
        read(&text).map(Some).ok_or(StatusPartError::Malformed { field })
    }

    fn required<T>(
        &self,
        field: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StatusPartError> {
        self.optional(field, read)?.ok_or(StatusPartError::Missing { field })
    }
}

fn groups(text: &str) -> Result<Vec<Group>, StatusPartError> {
    let mut groups: Vec<Group> = Vec::new();
    let mut is_open = false;
    // A part that has passed a file system may have lost its CRs.
    for (number, line) in text.lines().enumerate() {
        let no_field = StatusPartError::NoField { line: number + 1 };
        if line.trim().is_empty() {
            is_open = false;
        } else if line.starts_with([' ', '\t']) {
            let open = groups.last_mut().filter(|_| is_open).and_then(|group| group.0.last_mut());
            open.ok_or(no_field)?.1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').ok_or(no_field)?;
            if !is_open {
                // The first group is the message's.
                if groups.len() > RECIPIENT_LIMIT {
                    let limit = RECIPIENT_LIMIT;
                    return Err(StatusPartError::TooLarge { limit, of: "recipients" });
                }
                groups.push(Group::default());
                is_open = true;
            }
            if let Some(group) = groups.last_mut() {
                group.0.push((name.trim_end().to_owned(), value.to_owned()));
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use merpati_types::{Severity, Status};

    fn error(text: &str) -> StatusPartError {
        DeliveryStatus::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn reads_what_others_write() {
        let part = "reporting-mta: DNS; mx.test\nX-Odd: field\n\n\n\
            Original-Recipient : utf-8;b\\x{F3}b@test\n\
            Final-Recipient: rfc822; \"a\n  b\"@test\n\
            Action: Failed (unknown user)\nStatus: 5.1.1 (bad address)\n\
            Diagnostic-Code: smtp; 550-5.1.1 no\n\tsuch user\n\
            Will-Retry-Until: Mon, 23 Nov 2026 08:00:00 +0000\n";
        let read = DeliveryStatus::parse(part.as_bytes()).unwrap();
        let typed = |kind: &str, value: &str| Typed { kind: kind.into(), value: value.into() };
        assert_eq!(read.reporting_mta, typed("dns", "mx.test"));
        assert_eq!((&read.envid, &read.received_from, &read.arrived), (&None, &None, &None));
        let [recipient] = read.recipients.as_slice() else { panic!("{read:?}") };
        assert_eq!(recipient.original, Some(typed("utf-8", "bób@test")));
        assert_eq!(recipient.address, typed("rfc822", "\"a  b\"@test"));
        assert_eq!(recipient.action, Action::Failed);
        assert_eq!(recipient.status, Status::NO_MAILBOX.with(Severity::Permanent));
        assert_eq!(recipient.diagnostic, Some(typed("smtp", "550-5.1.1 no\tsuch user")));
        assert_eq!(recipient.retry_until.as_deref(), Some("Mon, 23 Nov 2026 08:00:00 +0000"));
        // Nobody else has to finish a line that a group has begun.
        assert_eq!(DeliveryStatus::parse(part.replace('\n', "\r\n").as_bytes()), Ok(read));
    }

    #[test]
    fn refuses_what_is_no_status() {
        let message = "Reporting-MTA: dns; mx.test\r\n";
        let recipient =
            "\r\nFinal-Recipient: rfc822; b@test\r\nAction: failed\r\nStatus: 5.1.1\r\n";
        let whole = format!("{message}{recipient}");
        assert!(DeliveryStatus::parse(whole.as_bytes()).is_ok());
        assert_eq!(error(""), StatusPartError::Missing { field: "Reporting-MTA" });
        assert_eq!(error(message), StatusPartError::NoRecipient);
        assert_eq!(error(&format!(" x\r\n{whole}")), StatusPartError::NoField { line: 1 });
        assert_eq!(error(&format!("{message}\r\n  y\r\n")), StatusPartError::NoField { line: 3 });
        assert_eq!(error(&format!("{message}word\r\n")), StatusPartError::NoField { line: 2 });
        assert_eq!(DeliveryStatus::parse(b"\xFF"), Err(StatusPartError::NotText));
        for (field, value) in [
            ("Reporting-MTA", "dns"),
            ("Final-Recipient", "; b"),
            ("Action", "bounced"),
            ("Status", "511"),
        ] {
            let malformed: String = whole
                .split_inclusive("\r\n")
                .map(|line| match line.starts_with(field) {
                    true => format!("{field}: {value}\r\n"),
                    false => line.to_owned(),
                })
                .collect();
            assert_eq!(error(&malformed), StatusPartError::Malformed { field });
            let without = whole.split_inclusive("\r\n").filter(|line| !line.starts_with(field));
            let without = format!("X: y\r\n{}", without.collect::<String>());
            assert_eq!(error(&without), StatusPartError::Missing { field });
        }
        let long = format!("{message}{}", recipient.repeat(RECIPIENT_LIMIT + 1));
        assert!(matches!(error(&long), StatusPartError::TooLarge { of: "recipients", .. }));
        assert!(matches!(error(&" ".repeat(PART_LIMIT + 1)), StatusPartError::TooLarge { .. }));
    }
}
