//! Reading the reports that others send: of delivery (RFC 3464, RFC 6533), and of what their
//! users complain about (RFC 5965).

use std::net::IpAddr;

use bytes::Bytes;
use merpati_types::HeaderSection;

use crate::mime::{ContentType, Entity, parts};
use crate::status::{DeliveryStatus, Group, StatusPartError, groups_leniently};

/// The largest message that is looked into, in octets.
const MESSAGE_LIMIT: usize = 32 * 1024 * 1024;
/// The largest part that tells something, in octets, before its encoding is undone.
const PART_LIMIT: usize = 2 * 1024 * 1024;
/// The most parts that are looked at, at all depths together.
const PARTS_LIMIT: usize = 100;
/// How deep multiparts may lie in each other.
const DEPTH_LIMIT: usize = 5;
/// The most values of a field that may stand more than once.
const VALUES_LIMIT: usize = 100;

/// A report that has come in.
///
/// All of it is what its writer claims. Who acts on it should know the message it speaks of by an
/// address or an envelope id that only the host that got the message can know ([`crate::Srs`],
/// [`crate::Verp`], [`crate::Batv`]).
#[derive(Clone, Debug)]
pub enum ReceivedReport {
    /// What became of a message.
    Delivery(DeliveryReport),
    /// What somebody thinks of a message.
    Feedback(FeedbackReport),
}

/// A delivery report.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// Its machine's part.
    pub status: DeliveryStatus,
    /// The message it is about, or its header section.
    pub returned: Option<Returned>,
}

/// A feedback report, in the "Abuse Reporting Format" (RFC 5965).
#[derive(Clone, Debug)]
pub struct FeedbackReport {
    /// Feedback-Type.
    pub kind: FeedbackKind,
    /// User-Agent.
    pub user_agent: Option<String>,
    /// Original-Envelope-Id.
    pub envid: Option<String>,
    /// Original-Mail-From, without brackets.
    pub mail_from: Option<String>,
    /// Original-Rcpt-To, without brackets; many leave it out.
    pub recipients: Vec<String>,
    /// Arrival-Date or Received-Date, as written.
    pub arrived: Option<String>,
    /// Source-IP: who handed the message over.
    pub source: Option<IpAddr>,
    /// Reporting-MTA, with the type in front.
    pub reporting_mta: Option<String>,
    /// Incidents: how many complaints this stands for. At least 1.
    pub incidents: u32,
    /// Reported-Domain.
    pub domains: Vec<String>,
    /// Reported-URI.
    pub uris: Vec<String>,
    /// Authentication-Results.
    pub authentication: Vec<String>,
    /// Auth-Failure (RFC 6591), for [`FeedbackKind::AuthFailure`].
    pub auth_failure: Option<String>,
    /// The message it is about, or its header section.
    pub returned: Option<Returned>,
}

/// What a feedback report is about (RFC 5965 §7.3, RFC 6430, RFC 6591).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FeedbackKind {
    /// Unwanted mail.
    Abuse,
    /// SPF, DKIM or DMARC has failed.
    AuthFailure,
    /// Phishing and the like.
    Fraud,
    /// What was taken for spam is none.
    NotSpam,
    /// A virus.
    Virus,
    /// Anything else.
    Other,
}

/// The message that a report gives back, as far as it does.
#[derive(Clone, Debug)]
pub struct Returned {
    /// Its header section.
    pub headers: HeaderSection,
}

/// Why a message is not read as a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadReportError {
    /// It has no part that a machine could read: mail as any other.
    #[error("not a report")]
    NotAReport,
    /// It says it is one, and is beyond what is looked into.
    #[error("report exceeds its limit of {limit} {of}")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Of what.
        of: &'static str,
    },
    /// Its delivery status says nothing.
    #[error(transparent)]
    Status(#[from] StatusPartError),
    /// Its feedback lacks the field that must be there.
    #[error("feedback report lacks Feedback-Type")]
    NoFeedbackType,
}

impl ReceivedReport {
    /// Reads a message, or as much of one as there is: what ends early is read up to there.
    /// Reports that break the rules are read as far as they make sense.
    ///
    /// # Errors
    /// [`ReadReportError`]; nobody needs to be told.
    pub fn read(message: &Bytes) -> Result<Self, ReadReportError> {
        if message.len() > MESSAGE_LIMIT {
            return Err(ReadReportError::TooLarge { limit: MESSAGE_LIMIT, of: "octets" });
        }
        let entity = Entity::read(message).map_err(|_| ReadReportError::NotAReport)?;
        let kind = entity.content_type();
        let mut found = Found::default();
        found.look(entity, &kind, 0)?;
        let returned = found.returned.as_ref().and_then(Returned::read);
        if let Some(part) = found.feedback {
            return FeedbackReport::of(&part, returned).map(Self::Feedback);
        }
        let part = found.status.ok_or(ReadReportError::NotAReport)?;
        let status = DeliveryStatus::parse_leniently(&part)?;
        Ok(Self::Delivery(DeliveryReport { status, returned }))
    }
}

/// The parts that matter; of each kind the first.
#[derive(Default)]
struct Found {
    status: Option<Bytes>,
    feedback: Option<Bytes>,
    returned: Option<Bytes>,
    seen: usize,
}

impl Found {
    /// Looks at an entity and what is in it. A message within a message is not looked into: who
    /// forwards a report has not sent one.
    fn look(
        &mut self,
        entity: Entity,
        kind: &ContentType,
        depth: usize,
    ) -> Result<(), ReadReportError> {
        if let Some(boundary) = kind.boundary() {
            if depth >= DEPTH_LIMIT {
                return Ok(());
            }
            let left = PARTS_LIMIT - self.seen;
            for part in parts(&entity.body, boundary, left) {
                self.seen += 1;
                let Ok(part) = Entity::read(&part) else { continue };
                let kind = part.content_type();
                self.look(part, &kind, depth + 1)?;
            }
            return Ok(());
        }
        let slot = match kind.kind.as_str() {
            "message/delivery-status" | "message/global-delivery-status" => &mut self.status,
            "message/feedback-report" => &mut self.feedback,
            "message/rfc822"
            | "message/global"
            | "text/rfc822-headers"
            | "message/rfc822-headers"
            | "message/global-headers" => {
                if self.returned.is_none() {
                    // Only its header section is wanted.
                    let most = (2 * HeaderSection::OCTET_LIMIT).min(entity.body.len());
                    let body = entity.body.slice(..most);
                    self.returned = Some(Entity { body, ..entity }.decoded());
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if entity.body.len() > PART_LIMIT {
            return Err(ReadReportError::TooLarge { limit: PART_LIMIT, of: "octets in a part" });
        }
        if slot.is_none() {
            *slot = Some(entity.decoded());
        }
        Ok(())
    }
}

impl FeedbackReport {
    fn of(part: &[u8], returned: Option<Returned>) -> Result<Self, ReadReportError> {
        let groups = groups_leniently(&String::from_utf8_lossy(part));
        // It is one group; empty lines in it are a mistake that changes nothing.
        let fields = Group::joined(groups);
        let kind = fields.text("Feedback-Type").ok_or(ReadReportError::NoFeedbackType)?;
        let all = |name| -> Vec<String> { fields.texts(name).take(VALUES_LIMIT).collect() };
        let address = |text: String| text.trim_matches(['<', '>']).to_owned();
        let incidents = fields.text("Incidents").and_then(|text| text.parse().ok());
        let source = fields.text("Source-IP");
        let source = source.as_deref().map(|text| text.trim_matches(['[', ']']));
        Ok(Self {
            kind: FeedbackKind::of(&kind),
            user_agent: fields.text("User-Agent"),
            envid: fields.text("Original-Envelope-Id"),
            mail_from: fields.text("Original-Mail-From").map(address),
            recipients: all("Original-Rcpt-To").into_iter().map(address).collect(),
            arrived: fields.text("Arrival-Date").or_else(|| fields.text("Received-Date")),
            source: source.and_then(|text| text.parse().ok()),
            reporting_mta: fields.text("Reporting-MTA"),
            incidents: incidents.unwrap_or(1).max(1),
            domains: all("Reported-Domain"),
            uris: all("Reported-URI"),
            authentication: all("Authentication-Results"),
            auth_failure: fields.text("Auth-Failure"),
            returned,
        })
    }
}

impl FeedbackKind {
    fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "abuse" => Self::Abuse,
            "auth-failure" => Self::AuthFailure,
            "fraud" => Self::Fraud,
            "not-spam" => Self::NotSpam,
            "virus" => Self::Virus,
            _ => Self::Other,
        }
    }

    /// The name, as Feedback-Type has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::AuthFailure => "auth-failure",
            Self::Fraud => "fraud",
            Self::NotSpam => "not-spam",
            Self::Virus => "virus",
            Self::Other => "other",
        }
    }
}

impl Returned {
    fn read(bytes: &Bytes) -> Option<Self> {
        let headers = HeaderSection::read(bytes).ok()?;
        let is_empty = headers.fields().len() == 0;
        (!is_empty).then_some(Self { headers })
    }

    /// Its Message-ID, without brackets.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        let id = self.headers.find("Message-ID")?.unfolded();
        let id = id.trim_start_matches('<').split('>').next().unwrap_or_default().trim();
        (!id.is_empty()).then(|| id.to_owned())
    }
}

#[cfg(test)]
mod tests;
