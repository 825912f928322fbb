//! Reading the machine's part of a report: ours, and those of others.

use merpati_types::{EnhancedStatus, Mailbox};

use crate::action::Action;
use crate::classify::Symptom;
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
    /// Reporting-MTA. There is always one in a part that keeps the rules.
    pub reporting_mta: Option<Typed>,
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
            reporting_mta: Some(message.required("Reporting-MTA", Typed::parse)?),
            received_from: message.optional("Received-From-MTA", Typed::parse)?,
            arrived: message.text("Arrival-Date"),
            recipients,
        })
    }

    /// Reads a part that may break the rules: lines that are no fields are skipped, and so are
    /// recipients without an address, or of whom nothing is said. What can be told from the rest
    /// is filled in: an action from the status, a status from the diagnostic or the action.
    ///
    /// # Errors
    /// [`StatusPartError::TooLarge`], or [`StatusPartError::NoRecipient`] if nothing is left.
    pub fn parse_leniently(part: &[u8]) -> Result<Self, StatusPartError> {
        if part.len() > PART_LIMIT {
            return Err(StatusPartError::TooLarge { limit: PART_LIMIT, of: "octets" });
        }
        let groups = groups_leniently(&String::from_utf8_lossy(part));
        // Some have no group of the message, and some no empty line after it.
        let recipients: Vec<_> = groups.iter().filter_map(RecipientStatus::of_lenient).collect();
        if recipients.is_empty() {
            return Err(StatusPartError::NoRecipient);
        }
        let message = Group::joined(groups);
        let typed = |name| message.text(name).map(|text| Typed::lenient(&text, "dns"));
        Ok(Self {
            envid: message.text("Original-Envelope-Id"),
            reporting_mta: typed("Reporting-MTA"),
            received_from: typed("Received-From-MTA"),
            arrived: message.text("Arrival-Date"),
            recipients,
        })
    }
}

impl RecipientStatus {
    /// What [`crate::Classifier`] looks at.
    #[must_use]
    pub fn symptom(&self) -> Symptom<'_> {
        let diagnostic = self.diagnostic.as_ref().map_or("", |typed| typed.value.as_str());
        let symptom = Symptom::of(diagnostic);
        Symptom { status: symptom.status.or(Some(self.status)), ..symptom }
    }

    /// The address of Final-Recipient, if it is one.
    #[must_use]
    pub fn mailbox(&self) -> Option<Mailbox> {
        Mailbox::parse(self.address.value.trim_matches(['<', '>'])).ok()
    }

    fn of_lenient(group: &Group) -> Option<Self> {
        let typed = |name, kind| group.text(name).map(|text| Typed::lenient(&text, kind));
        let original = typed("Original-Recipient", "rfc822");
        let address = typed("Final-Recipient", "rfc822").or_else(|| original.clone())?;
        let diagnostic = typed("Diagnostic-Code", "x-unknown");
        let action = group.text("Action").and_then(|text| Action::from_name(token(&text)));
        let status = group.text("Status").and_then(|text| token(&text).parse().ok());
        let said = || Symptom::of(&diagnostic.as_ref()?.value).status;
        let (action, status) = match (action, status.or_else(said)) {
            (Some(action), Some(status)) => (action, status),
            (Some(action), None) => (action, action.undefined()),
            (None, Some(status)) => (Action::of(status), status),
            (None, None) => return None,
        };
        Some(Self {
            original,
            address,
            action,
            status,
            remote_mta: typed("Remote-MTA", "dns"),
            diagnostic,
            last_attempt: group.text("Last-Attempt-Date"),
            retry_until: group.text("Will-Retry-Until"),
        })
    }

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
    /// What has no type gets the one that is usual.
    fn lenient(text: &str, usual: &str) -> Self {
        let typed = Self::parse(text).filter(|typed| !typed.kind.contains(char::is_whitespace));
        typed.unwrap_or_else(|| Self { kind: usual.to_owned(), value: text.trim().to_owned() })
    }

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
pub(crate) struct Group(Vec<(String, String)>);

impl Group {
    /// The groups as one, in their order.
    pub(crate) fn joined(groups: Vec<Self>) -> Self {
        Self(groups.into_iter().flat_map(|group| group.0).collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.texts(name).next()
    }

    /// All values of a field that may stand more than once.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = String> {
        let fields = self.0.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.trim().to_owned())
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
    let mut groups = Vec::new();
    collect(text, &mut groups, |line| Err(StatusPartError::NoField { line }))?;
    Ok(groups)
}

/// The groups; lines that are no fields are skipped, and recipients beyond the limit.
pub(crate) fn groups_leniently(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let _ = collect(text, &mut groups, |_| Ok(()));
    groups
}

/// Asks `no_field`, with the number of the line, whether to go on after what is no field.
fn collect(
    text: &str,
    groups: &mut Vec<Group>,
    no_field: impl Fn(usize) -> Result<(), StatusPartError>,
) -> Result<(), StatusPartError> {
    let mut is_open = false;
    // A part that has passed a file system may have lost its CRs.
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            is_open = false;
        } else if line.starts_with([' ', '\t']) {
            match groups.last_mut().filter(|_| is_open).and_then(|group| group.0.last_mut()) {
                Some(open) => open.1.push_str(line),
                None => no_field(number + 1)?,
            }
        } else if let Some((name, value)) = line.split_once(':') {
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
        } else {
            no_field(number + 1)?;
        }
    }
    Ok(())
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
        assert_eq!(read.reporting_mta, Some(typed("dns", "mx.test")));
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
