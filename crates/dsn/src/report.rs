//! The bytes of a report.

use merpati_types::{
    BodyType, EnhancedStatus, Envelope, Envid, Mailbox, MessageId, Notify, Orcpt, Recipient, Ret,
    ReversePath, Timestamp,
};

use crate::action::{Action, returned};
use crate::classify::BounceClass;
use crate::encode::{is_seven_bit, lines, phrase, quoted_printable, unstructured};
use crate::text::{
    Charset, address, clean, field, host_name, other_host, paragraph, typed_address,
};
use crate::wording::{News, Slot, Values, Wording};

/// The largest message that comes back whole, in octets; of a larger one only the header
/// section does.
const RETURN_LIMIT: usize = 128 * 1024;
/// The longest line, without its end (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;

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
    /// Whether the message came with SMTPUTF8, so that the report may need it, too (RFC 6533).
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
    /// What kind of trouble it is, for the words to its sender ([`crate::Classifier`]); of what
    /// went well it says nothing.
    pub class: BounceClass,
    /// The host that said so; what is no host name or address is left out.
    pub remote_mta: Option<String>,
    /// Its words. With the host, and a reply code in front, they are quoted as SMTP; otherwise as
    /// ours.
    pub diagnostic: String,
    /// For [`Action::Delayed`]: until when we try.
    pub retry_until: Option<Timestamp>,
}

impl ReportedRecipient {
    /// Whether the diagnostic is an SMTP reply of the remote host.
    fn is_reply(&self) -> bool {
        let code = self.diagnostic.as_bytes();
        self.remote_mta.is_some()
            && matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', ..])
            && code.get(3).is_none_or(|byte| matches!(byte, b' ' | b'-'))
    }
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
///
/// Its lines end with CRLF and have at most 998 octets. It is ASCII, so that every host can take
/// it, unless [`Self::utf8`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether it has octets above 127.
    pub eight_bit: bool,
    /// Whether it has UTF-8 in its headers or in the forms of RFC 6533, and needs SMTPUTF8.
    pub utf8: bool,
}

impl Report {
    /// Writes a report about `recipients`, of which there is at least one, in English. The first
    /// one's action decides what the report as a whole is about.
    #[must_use]
    pub fn write(
        about: &About,
        recipients: &[ReportedRecipient],
        original: OriginalMessage<'_>,
    ) -> Self {
        Self::write_in(Wording::english(), about, recipients, original)
    }

    /// Writes a report as [`Self::write`] does, in the words given.
    #[must_use]
    pub fn write_in(
        wording: &Wording,
        about: &About,
        recipients: &[ReportedRecipient],
        original: OriginalMessage<'_>,
    ) -> Self {
        let writer = Writer {
            wording,
            about,
            recipients,
            action: recipients.first().map_or(Action::Failed, |recipient| recipient.action),
            host: host_name(&about.reporting_mta),
            sender: address(&about.to, Charset::Utf8),
            arrived: about.arrived.to_rfc5322(),
            id: about.message.to_string(),
            charset: charset(about, recipients, original),
        };
        let boundary = writer.boundary(original);
        let mut out = String::with_capacity(4_096);
        writer.head(&mut out, &boundary);
        out.push_str(&format!("--{boundary}\r\n"));
        writer.human(&mut out);
        out.push_str(&format!("\r\n--{boundary}\r\n"));
        writer.machine(&mut out);
        out.push_str(&format!("\r\n--{boundary}\r\n"));
        let mut bytes = out.into_bytes();
        writer.give_back(&mut bytes, original);
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let eight_bit = !bytes.is_ascii();
        Self { bytes, eight_bit, utf8: writer.charset == Charset::Utf8 }
    }

    /// The envelope that it is sent in: from the null reverse path, so that nobody is told what
    /// becomes of it (RFC 5321 §4.5.5), and with NOTIFY=NEVER, the only one that a report may have (RFC
    /// 3461 §6.1).
    #[must_use]
    pub fn envelope(&self, to: Mailbox) -> Envelope {
        let body = if self.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
        let recipient = Recipient { notify: Notify::Never, ..Recipient::new(to) };
        Envelope {
            recipients: vec![recipient],
            body,
            smtputf8: self.utf8,
            ..Envelope::new(ReversePath::Null)
        }
    }
}

/// Whom a report about a message goes to: nobody, if it came from the null reverse path. So a
/// report about a report is never written.
#[must_use]
pub fn told(envelope: &Envelope) -> Option<&Mailbox> {
    envelope.sender.mailbox()
}

/// UTF-8 where the sender's address leaves no choice, or where the message came with SMTPUTF8 and
/// made use of it. A report that asks for less than it might arrives where more cannot.
fn charset(
    about: &About,
    recipients: &[ReportedRecipient],
    original: OriginalMessage<'_>,
) -> Charset {
    let beyond = |recipient: &ReportedRecipient| {
        recipient.address.is_internationalized()
            || recipient.orcpt.as_ref().is_some_and(|orcpt| !orcpt.address().is_ascii())
    };
    let is_used = || {
        about.to.is_internationalized()
            || recipients.iter().any(beyond)
            || !original.headers.is_ascii()
    };
    if about.to.to_ascii().is_none() || (about.utf8 && is_used()) {
        Charset::Utf8
    } else {
        Charset::Ascii
    }
}

struct Writer<'a> {
    wording: &'a Wording,
    about: &'a About,
    recipients: &'a [ReportedRecipient],
    action: Action,
    /// Our name.
    host: String,
    sender: String,
    arrived: String,
    id: String,
    charset: Charset,
}

impl Writer<'_> {
    /// A boundary that the returned message does not have (RFC 2046 §5.1.1).
    fn boundary(&self, original: OriginalMessage<'_>) -> String {
        let mut boundary = format!("=_merpati_{}_{:016x}", self.about.message, self.about.seed);
        let has = |bytes: &[u8], boundary: &str| {
            bytes.windows(boundary.len()).any(|window| window == boundary.as_bytes())
        };
        while has(original.headers, &boundary)
            || original.whole.is_some_and(|whole| has(whole, &boundary))
        {
            boundary.push('_');
        }
        boundary
    }

    fn head(&self, out: &mut String, boundary: &str) {
        let Self { about, host, .. } = self;
        let news = News::of(self.action);
        let line = |slot| clean(&self.wording.line(slot, &self.values()), Charset::Utf8);
        let from = phrase(&line(Slot::From), self.charset);
        let subject = unstructured(&line(Slot::Subject(news)), self.charset);
        field(out, "Date", &about.now.to_rfc5322());
        field(out, "From", format!("{from} <MAILER-DAEMON@{host}>").trim_start());
        field(out, "To", &address(&about.to, self.charset));
        field(out, "Subject", &subject);
        field(out, "Message-ID", &format!("<{}.{:016x}@{host}>", about.message, about.seed));
        // RFC 3834 §5: nobody's autoresponder should answer this.
        field(out, "Auto-Submitted", "auto-replied");
        field(out, "MIME-Version", "1.0");
        if self.charset == Charset::Utf8 {
            // RFC 2045 §6.4: a whole claims no less than its parts.
            field(out, "Content-Transfer-Encoding", "8bit");
        }
        out.push_str("Content-Type: multipart/report; report-type=delivery-status;\r\n");
        out.push_str(&format!(" boundary=\"{boundary}\"\r\n\r\n"));
        out.push_str("This is a delivery report in MIME format.\r\n\r\n");
    }

    /// What can be filled in everywhere.
    fn values(&self) -> Values<'_> {
        Values {
            host: &self.host,
            sender: &self.sender,
            arrived: &self.arrived,
            id: &self.id,
            ..Values::default()
        }
    }

    /// The words for people: greeting, opening, the recipients one by one, closing.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut say = |slot| {
            for words in self.wording.paragraphs(slot, &self.values()) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                paragraph(&mut text, "", &words);
            }
        };
        let news = News::of(self.action);
        say(Slot::Greeting);
        say(Slot::Opening(news));
        for recipient in self.recipients {
            self.about_one(&mut text, recipient);
        }
        for words in self.wording.paragraphs(Slot::Closing(news), &self.values()) {
            text.push_str("\r\n");
            paragraph(&mut text, "", &words);
        }
        text
    }

    fn about_one(&self, text: &mut String, recipient: &ReportedRecipient) {
        const INDENT: &str = "    ";
        let address = address(&recipient.address, Charset::Utf8);
        text.push_str(&format!("\r\n<{address}>\r\n"));
        let remote = recipient.remote_mta.as_deref().and_then(other_host);
        let until = recipient.retry_until.map(Timestamp::to_rfc5322);
        let values = Values {
            recipient: &address,
            status: &recipient.status.to_string(),
            remote: remote.as_deref().unwrap_or_default(),
            date: until.as_deref().unwrap_or_default(),
            ..self.values()
        };
        let mut say = |slot| {
            for words in self.wording.paragraphs(slot, &values) {
                paragraph(text, INDENT, &words);
            }
        };
        Slot::of_recipient(recipient.action, recipient.class).into_iter().for_each(&mut say);
        if until.is_some() {
            say(Slot::TriedUntil);
        }
        let words = clean(&recipient.diagnostic, Charset::Utf8);
        match &remote {
            Some(_) if recipient.is_reply() => {
                say(Slot::Said);
                paragraph(text, INDENT, &words);
            }
            Some(remote) => paragraph(text, INDENT, &format!("{remote}: {words}")),
            None => paragraph(text, INDENT, &words),
        }
    }

    /// The first part. Words beyond ASCII can be quoted here whatever the report is.
    fn human(&self, out: &mut String) {
        let text = self.text();
        let (charset, encoding) = match (text.is_ascii(), self.charset) {
            (true, _) => ("us-ascii", "7bit"),
            (false, Charset::Utf8) => ("utf-8", "8bit"),
            (false, Charset::Ascii) => ("utf-8", "quoted-printable"),
        };
        field(out, "Content-Type", &format!("text/plain; charset={charset}"));
        field(out, "Content-Transfer-Encoding", encoding);
        if !self.wording.language().is_empty() {
            field(out, "Content-Language", self.wording.language());
        }
        out.push_str("\r\n");
        if encoding == "quoted-printable" {
            let mut quoted = Vec::new();
            quoted_printable(&mut quoted, text.as_bytes());
            out.push_str(&String::from_utf8_lossy(&quoted));
        } else {
            out.push_str(&text);
        }
    }

    /// The second part (RFC 3464 §2).
    fn machine(&self, out: &mut String) {
        let Self { about, charset, .. } = *self;
        // RFC 6533 §4: the form that may hold UTF-8.
        if charset == Charset::Utf8 {
            field(out, "Content-Type", "message/global-delivery-status");
            field(out, "Content-Transfer-Encoding", "8bit");
        } else {
            field(out, "Content-Type", "message/delivery-status");
        }
        out.push_str("\r\n");
        if let Some(envid) = &about.envid {
            field(out, "Original-Envelope-Id", &clean(envid.as_str(), charset));
        }
        field(out, "Reporting-MTA", &format!("dns; {}", self.host));
        if let Some(from) = &about.received_from {
            field(out, "Received-From-MTA", &format!("dns; {}", clean(from, charset)));
        }
        field(out, "Arrival-Date", &about.arrived.to_rfc5322());
        for recipient in self.recipients {
            out.push_str("\r\n");
            self.recipient(out, recipient);
        }
    }

    fn recipient(&self, out: &mut String, recipient: &ReportedRecipient) {
        let charset = self.charset;
        if let Some(orcpt) = &recipient.orcpt {
            let value = typed_address(orcpt.kind(), orcpt.address(), charset);
            field(out, "Original-Recipient", &value);
        }
        let address = address(&recipient.address, charset);
        field(out, "Final-Recipient", &typed_address("rfc822", &address, charset));
        field(out, "Action", recipient.action.name());
        field(out, "Status", &recipient.status.to_string());
        if let Some(remote) = recipient.remote_mta.as_deref().and_then(other_host) {
            field(out, "Remote-MTA", &format!("dns; {remote}"));
        }
        let words = clean(&recipient.diagnostic, charset);
        if !words.is_empty() {
            // RFC 3464 §2.3.6: `smtp` is for replies only.
            let kind = if recipient.is_reply() { "smtp" } else { "X-Merpati" };
            field(out, "Diagnostic-Code", &format!("{kind}; {words}"));
        }
        field(out, "Last-Attempt-Date", &self.about.now.to_rfc5322());
        if let Some(until) = recipient.retry_until {
            field(out, "Will-Retry-Until", &until.to_rfc5322());
        }
    }

    /// The third part: the message, or its header section.
    fn give_back(&self, out: &mut Vec<u8>, original: OriginalMessage<'_>) {
        let utf8 = self.charset == Charset::Utf8;
        // A message cannot be encoded (RFC 2046 §5.2.1); a report that needs 8BITMIME for it may
        // never arrive.
        let fits = |bytes: &[u8]| if utf8 { !bytes.contains(&0) } else { is_seven_bit(bytes) };
        let whole = match (returned(self.about.ret, self.action), original.whole) {
            (Ret::Full, Some(whole)) if whole.len() <= RETURN_LIMIT && fits(whole) => Some(whole),
            _ => None,
        };
        let (kind, bytes) = match (whole, utf8) {
            (Some(whole), false) => ("message/rfc822", whole),
            (Some(whole), true) => ("message/global", whole),
            (None, false) => ("text/rfc822-headers", original.headers),
            (None, true) => ("message/global-headers", original.headers),
        };
        let encoding = match whole {
            None if !fits(bytes) || !is_plain(bytes) => "quoted-printable",
            _ if bytes.is_ascii() => "7bit",
            _ => "8bit",
        };
        let head = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        if encoding == "quoted-printable" {
            quoted_printable(out, bytes);
        } else {
            push_lines(out, bytes);
        }
    }
}

/// Whether a header section can be shown without an encoding.
fn is_plain(headers: &[u8]) -> bool {
    std::str::from_utf8(headers).is_ok() && lines(headers).all(|line| line.len() <= LINE_LIMIT)
}

/// Copies with CRLF line ends only: what comes back must not smuggle.
fn push_lines(out: &mut Vec<u8>, bytes: &[u8]) {
    for mut line in lines(bytes) {
        // What is longer than a line may be is cut, between characters if it is UTF-8.
        while line.len() > LINE_LIMIT {
            let starts = |&place: &usize| line[place] & 0xC0 != 0x80;
            let end = (LINE_LIMIT - 3..=LINE_LIMIT).rev().find(starts).unwrap_or(LINE_LIMIT);
            out.extend_from_slice(&line[..end]);
            out.extend_from_slice(b"\r\n");
            line = &line[end..];
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
