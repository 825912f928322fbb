//! A report as a message (RFC 8460 §5.3).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use merpati_types::{Domain, Mailbox, Timestamp};

/// Characters of a line of base64 (RFC 2045 §6.8).
const LINE: usize = 76;

/// What a message about a domain says.
pub(super) struct Letter<'a> {
    pub(super) from: &'a Mailbox,
    pub(super) to: &'a Mailbox,
    pub(super) domain: &'a Domain,
    pub(super) submitter: &'a Domain,
    pub(super) report_id: &'a str,
    /// Of the attachment.
    pub(super) filename: &'a str,
    pub(super) gzip: &'a [u8],
    pub(super) now: Timestamp,
}

impl Letter<'_> {
    pub(super) fn write(&self) -> Bytes {
        let Self { from, to, report_id, filename, .. } = self;
        let (domain, submitter) = (self.domain.as_ascii(), self.submitter.as_ascii());
        let date = self.now.to_rfc5322();
        // Neither base64 nor the text below has an underscore after an equals sign.
        let boundary = "=_tls_report_=";
        // RFC 8460 §3: reports are sent even where policies fail, since they tell of just that.
        let mut text = format!(
            "From: <{from}>\r\n\
             To: <{to}>\r\n\
             Date: {date}\r\n\
             Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n \
             Report-ID: <{report_id}>\r\n\
             Message-ID: <{report_id}>\r\n\
             TLS-Report-Domain: {domain}\r\n\
             TLS-Report-Submitter: {submitter}\r\n\
             TLS-Required: No\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"{boundary}\"\r\n\
             Content-Language: en\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             \r\n\
             This is an aggregate TLS report\r\n\
             about {domain}\r\n\
             from {submitter}.\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n filename=\"{filename}\"\r\n\
             \r\n"
        );
        let encoded = STANDARD.encode(self.gzip);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(LINE.min(rest.len()));
            text.push_str(line);
            text.push_str("\r\n");
            rest = after;
        }
        write!(text, "\r\n--{boundary}--\r\n").expect("a string takes everything");
        Bytes::from(text)
    }
}
