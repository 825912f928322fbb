//! The bytes of a report.

use merpati_types::{EnhancedStatus, Envid, Mailbox, MessageId, Orcpt, Ret, Timestamp};

use crate::action::{Action, returned};
use crate::text::{clean, field, paragraph};

/// The largest message that comes back whole, in octets; of a larger one only the header
/// section does.
const RETURN_LIMIT: usize = 128 * 1024;

/// What a report is about: one message, for one sender.
#[derive(Clone, Debug)]
pub struct About {
    /// Our name.
    pub reporting_mta: String,
    /// The id of the message.
    pub message: MessageId,
    /// The id of the report; it makes Message-ID and boundary unique.
    pub seed: u64,
    /// Where the report goes.
    pub to: Mailbox,
    /// ENVID= of the message.
    pub envid: Option<Envid>,
    /// RET= of the message.
    pub ret: Option<Ret>,
    /// When the message came.
    pub arrived: Timestamp,
    /// The name of the host it came from, if it came from one.
    pub received_from: Option<String>,
    /// Whether message and report may hold UTF-8 in headers and addresses (RFC 6533).
    pub utf8: bool,
    /// Now.
    pub now: Timestamp,
}

/// One recipient of a report.
#[derive(Clone, Debug)]
pub struct ReportedRecipient {
    /// Where the message was to go.
    pub address: Mailbox,
    /// Who it was first addressed to.
    pub orcpt: Option<Orcpt>,
    /// What became of it.
    pub action: Action,
    /// Why.
    pub status: EnhancedStatus,
    /// The host that said so.
    pub remote_mta: Option<String>,
    /// Its words.
    pub diagnostic: String,
    /// For [`Action::Delayed`]: until when we try.
    pub retry_until: Option<Timestamp>,
}

/// The message that a report returns, as far as the caller has read it.
#[derive(Clone, Copy, Debug)]
pub struct OriginalMessage<'a> {
    /// The header section, without the empty line after it.
    pub headers: &'a [u8],
    /// The whole message, if it was read.
    pub whole: Option<&'a [u8]>,
}

/// A report, ready to be sent from the null reverse path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The bytes, CRLF line ends.
    pub bytes: Vec<u8>,
    /// Whether it has octets above 127.
    pub eight_bit: bool,
}

impl Report {
    /// Writes a report about `recipients`, of which there is at least one. The first one's
    /// action decides what the report as a whole is about.
    #[must_use]
    pub fn write(
        about: &About,
        recipients: &[ReportedRecipient],
        original: OriginalMessage<'_>,
    ) -> Self {
        let action = recipients.first().map_or(Action::Failed, |recipient| recipient.action);
        let boundary = format!("=_merpati_{}_{:016x}", about.message, about.seed);
        let mut out = String::with_capacity(4_096);
        head(&mut out, about, action, &boundary);
        out.push_str(&format!("--{boundary}\r\n"));
        human(&mut out, about, action, recipients);
        out.push_str(&format!("\r\n--{boundary}\r\n"));
        machine(&mut out, about, recipients);
        out.push_str(&format!("\r\n--{boundary}\r\n"));
        let mut bytes = out.into_bytes();
        give_back(&mut bytes, about, action, original);
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let eight_bit = !bytes.is_ascii();
        Self { bytes, eight_bit }
    }
}

fn head(out: &mut String, about: &About, action: Action, boundary: &str) {
    let mta = &about.reporting_mta;
    let subject = match action {
        Action::Failed => "Undelivered mail returned to sender",
        Action::Delayed => "Delayed mail (still being retried)",
        Action::Delivered | Action::Relayed | Action::Expanded => "Successful mail delivery report",
    };
    field(out, "Date", &about.now.to_rfc5322());
    field(out, "From", &format!("Mail Delivery System <MAILER-DAEMON@{mta}>"));
    field(out, "To", &address(about, &about.to));
    field(out, "Subject", subject);
    field(out, "Message-ID", &format!("<{}.{:016x}@{mta}>", about.message, about.seed));
    // RFC 3834 §5: nobody's autoresponder should answer this.
    field(out, "Auto-Submitted", "auto-replied");
    field(out, "MIME-Version", "1.0");
    out.push_str("Content-Type: multipart/report; report-type=delivery-status;\r\n");
    out.push_str(&format!(" boundary=\"{boundary}\"\r\n\r\n"));
    out.push_str("This is a delivery report in MIME format.\r\n\r\n");
}

fn human(out: &mut String, about: &About, action: Action, recipients: &[ReportedRecipient]) {
    let charset = if about.utf8 { "utf-8" } else { "us-ascii" };
    out.push_str(&format!("Content-Type: text/plain; charset={charset}\r\n\r\n"));
    let opening = match action {
        Action::Failed => {
            "Your message could not be delivered to the recipients below. It will not be tried \
             again."
        }
        Action::Delayed => {
            "Your message has not been delivered to the recipients below yet. You need do \
             nothing: it will be tried again."
        }
        Action::Delivered | Action::Relayed | Action::Expanded => {
            "You asked to be told of this: your message has been delivered to the recipients \
             below, or handed to a system that will not report on it."
        }
    };
    paragraph(out, "", &format!("This is the mail system at {}.", about.reporting_mta));
    out.push_str("\r\n");
    paragraph(out, "", opening);
    for recipient in recipients {
        out.push_str(&format!("\r\n<{}>\r\n", address(about, &recipient.address)));
        if let Some(remote) = &recipient.remote_mta {
            paragraph(out, "    ", &format!("{} said:", clean(remote, about.utf8)));
        }
        paragraph(out, "    ", &clean(&recipient.diagnostic, about.utf8));
        if let Some(until) = recipient.retry_until {
            paragraph(out, "    ", &format!("It will be tried until {}.", until.to_rfc5322()));
        }
    }
}

fn machine(out: &mut String, about: &About, recipients: &[ReportedRecipient]) {
    // RFC 6533 §3: the form that may hold UTF-8.
    let kind = if about.utf8 { "global-delivery-status" } else { "delivery-status" };
    out.push_str(&format!("Content-Type: message/{kind}\r\n"));
    if about.utf8 {
        out.push_str("Content-Transfer-Encoding: 8bit\r\n");
    }
    out.push_str("\r\n");
    if let Some(envid) = &about.envid {
        field(out, "Original-Envelope-Id", &clean(envid.as_str(), about.utf8));
    }
    field(out, "Reporting-MTA", &format!("dns; {}", about.reporting_mta));
    if let Some(from) = &about.received_from {
        field(out, "Received-From-MTA", &format!("dns; {}", clean(from, about.utf8)));
    }
    field(out, "Arrival-Date", &about.arrived.to_rfc5322());
    for recipient in recipients {
        out.push_str("\r\n");
        if let Some(orcpt) = &recipient.orcpt {
            let value = format!("{}; {}", orcpt.kind(), orcpt.address());
            field(out, "Original-Recipient", &clean(&value, about.utf8));
        }
        let kind = if about.utf8 { "utf-8" } else { "rfc822" };
        field(out, "Final-Recipient", &format!("{kind}; {}", address(about, &recipient.address)));
        field(out, "Action", recipient.action.name());
        field(out, "Status", &recipient.status.to_string());
        if let Some(remote) = &recipient.remote_mta {
            field(out, "Remote-MTA", &format!("dns; {}", clean(remote, about.utf8)));
        }
        if recipient.remote_mta.is_some() && !recipient.diagnostic.is_empty() {
            let words = clean(&recipient.diagnostic, about.utf8);
            field(out, "Diagnostic-Code", &format!("smtp; {words}"));
        }
        field(out, "Last-Attempt-Date", &about.now.to_rfc5322());
        if let Some(until) = recipient.retry_until {
            field(out, "Will-Retry-Until", &until.to_rfc5322());
        }
    }
}

fn give_back(out: &mut Vec<u8>, about: &About, action: Action, original: OriginalMessage<'_>) {
    let whole = match (returned(about.ret, action), original.whole) {
        (Ret::Full, Some(whole)) if whole.len() <= RETURN_LIMIT => Some(whole),
        _ => None,
    };
    let (kind, bytes) = match (whole, about.utf8) {
        (Some(whole), false) => ("message/rfc822", whole),
        (Some(whole), true) => ("message/global", whole),
        (None, false) => ("text/rfc822-headers", original.headers),
        (None, true) => ("message/global-headers", original.headers),
    };
    out.extend_from_slice(format!("Content-Type: {kind}\r\n").as_bytes());
    if !bytes.is_ascii() {
        out.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
    }
    out.extend_from_slice(b"\r\n");
    push_lines(out, bytes);
}

/// Copies with CRLF line ends only: what comes back must not smuggle.
fn push_lines(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        // RFC 5322 §2.1.1: what is longer than a line may be is cut.
        for piece in rest[..end].chunks(998) {
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        if end == 0 {
            out.extend_from_slice(b"\r\n");
        }
        rest = rest.get(end..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
    }
}

/// An address as the report may hold it.
fn address(about: &About, mailbox: &Mailbox) -> String {
    match mailbox.to_ascii() {
        Some(ascii) if !about.utf8 => ascii,
        _ => mailbox.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders};
    use merpati_types::{Severity, Status};

    fn about() -> About {
        About {
            reporting_mta: "relay.test".to_owned(),
            message: MessageId::from_u64(7),
            seed: 9,
            to: Mailbox::parse("alice@sender.test").unwrap(),
            envid: Some(Envid::from_xtext("QQ+2B1").unwrap()),
            ret: None,
            arrived: Timestamp::from_millis(0),
            received_from: Some("client.test".to_owned()),
            utf8: false,
            now: Timestamp::from_millis(60_000),
        }
    }

    fn failed() -> ReportedRecipient {
        ReportedRecipient {
            address: Mailbox::parse("bob@receiver.test").unwrap(),
            orcpt: Some(Orcpt::from_parameter("rfc822;Bob@old.test").unwrap()),
            action: Action::Failed,
            status: Status::NO_MAILBOX.with(Severity::Permanent),
            remote_mta: Some("mx.receiver.test".to_owned()),
            diagnostic: "550 5.1.1 no such user\r\nX-Evil: yes".to_owned(),
            retry_until: None,
        }
    }

    const ORIGINAL: &[u8] = b"Subject: hi\r\n\r\nbody\nbare\r\n";

    fn original() -> OriginalMessage<'static> {
        OriginalMessage { headers: b"Subject: hi\r\n", whole: Some(ORIGINAL) }
    }

    #[test]
    fn another_reader_finds_the_parts() {
        let full = About { ret: Some(Ret::Full), ..about() };
        let report = Report::write(&full, &[failed()], original());
        let message = MessageParser::default().parse(&report.bytes).unwrap();
        assert_eq!(message.to().unwrap().first().unwrap().address(), Some("alice@sender.test"));
        let kind = message.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
        assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
        assert_eq!(message.parts.len(), 4);
        let status = String::from_utf8_lossy(message.parts[2].contents()).into_owned();
        for line in [
            "Original-Envelope-Id: QQ+1\r\n",
            "Reporting-MTA: dns; relay.test\r\n",
            "Received-From-MTA: dns; client.test\r\n",
            "Original-Recipient: rfc822; Bob@old.test\r\n",
            "Final-Recipient: rfc822; bob@receiver.test\r\n",
            "Action: failed\r\n",
            "Status: 5.1.1\r\n",
            "Remote-MTA: dns; mx.receiver.test\r\n",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user X-Evil: yes\r\n",
        ] {
            assert!(status.contains(line), "{line:?} is not in {status}");
        }
        let returned = message.parts[3].message().unwrap();
        assert_eq!(returned.subject(), Some("hi"));
        assert!(!report.eight_bit);
    }

    #[test]
    fn no_bare_line_end_and_no_foreign_field_gets_in() {
        let full = About { ret: Some(Ret::Full), ..about() };
        let text = String::from_utf8(Report::write(&full, &[failed()], original()).bytes).unwrap();
        let without = text.replace("\r\n", "");
        assert!(!without.contains(['\r', '\n']), "a bare CR or LF is in {text}");
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.starts_with("X-Evil")));
    }

    #[test]
    fn only_failures_return_the_body_and_only_if_asked() {
        let body = |about: &About, recipient| {
            let report = Report::write(about, &[recipient], original());
            String::from_utf8(report.bytes).unwrap().contains("bare")
        };
        let full = About { ret: Some(Ret::Full), ..about() };
        let delayed = ReportedRecipient { action: Action::Delayed, ..failed() };
        assert!(body(&full, failed()));
        assert!(!body(&full, delayed));
        assert!(!body(&about(), failed()));
    }

    #[test]
    fn utf8_has_its_own_forms() {
        let utf8 =
            About { utf8: true, to: Mailbox::parse("álice@sender.test").unwrap(), ..about() };
        let report = Report::write(&utf8, &[failed()], original());
        let text = String::from_utf8(report.bytes).unwrap();
        for part in ["message/global-delivery-status", "message/global-headers", "To: álice@"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(report.eight_bit);
    }
}
