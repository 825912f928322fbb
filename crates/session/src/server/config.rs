//! What a server session offers, and its limits.

use std::time::Duration;

use merpati_wire::{
    AUTH_LINE_MINIMUM, COMMAND_LINE_MINIMUM, Capabilities, Limits as LimitsKeyword, SizeLimit,
};

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO, and a reply for each recipient after the message.
    Lmtp,
}

/// What TLS is to a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTls {
    /// Not offered.
    #[default]
    Absent,
    /// Offered.
    Offered,
    /// Offered, and needed before AUTH and MAIL.
    Required,
}

/// What AUTH is to a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Whoever wants may authenticate, if there are mechanisms.
    #[default]
    Optional,
    /// Needed before MAIL.
    Required,
}

/// The bounds of a session. None of them can be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest command line with its CRLF, in octets. RFC 5321 §4.5.3.1.4 asks for 512 and
    /// each extension for some more; the default is 4,096. AUTH and its responses may have 12,288
    /// (RFC 4954 §4) in any case.
    pub line: usize,
    /// The largest message, in octets. Default 50 MiB. Also offered as SIZE (RFC 1870).
    pub message: u64,
    /// The most recipients of a message. RFC 5321 §4.5.3.1.8 asks for at least 100; the default
    /// is 1,000. Also offered as LIMITS RCPTMAX (RFC 9422).
    pub recipients: u32,
    /// The most transactions of a session. Default 10,000. Also offered as LIMITS MAILMAX.
    pub transactions: u32,
    /// The syntax and sequence errors after which a session ends. Default 10.
    pub errors: u32,
    /// The refused recipients after which a session ends. Default 100.
    pub refused_recipients: u32,
    /// The longest silence between commands, and between pieces of a message. RFC 5321
    /// §4.5.3.2.7 asks for 5 minutes, the default.
    pub idle: Duration,
    /// The longest time one message may take to arrive. Default 1 hour.
    pub body: Duration,
    /// The longest session. Default 6 hours.
    pub session: Duration,
    /// The most octets that may wait while a question is open. Default 128 KiB.
    pub pipelined: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 8 * COMMAND_LINE_MINIMUM,
            message: 50 * 1024 * 1024,
            recipients: 1_000,
            transactions: 10_000,
            errors: 10,
            refused_recipients: 100,
            idle: Duration::from_secs(300),
            body: Duration::from_secs(3_600),
            session: Duration::from_secs(6 * 3_600),
            pipelined: 128 * 1024,
        }
    }
}

/// How a server session behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name, in the greeting and in the reply to hello.
    pub hostname: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Whether STARTTLS is offered. Ignored where the channel is encrypted from the start.
    pub starttls: StartTls,
    /// Whether authentication is needed.
    pub auth: Auth,
    /// The mechanisms offered, in upper case; only ever over an encrypted channel.
    pub mechanisms: Vec<String>,
    /// How long to wait with the greeting, to see who talks too early. Default none.
    pub greet_delay: Duration,
    /// The bounds.
    pub limits: Limits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            protocol: Protocol::default(),
            starttls: StartTls::default(),
            auth: Auth::default(),
            mechanisms: Vec::new(),
            greet_delay: Duration::ZERO,
            limits: Limits::default(),
        }
    }
}

impl ServerConfig {
    /// The longest line that is read: responses of AUTH are longer than commands.
    pub(super) fn longest_line(&self) -> usize {
        let auth = if self.mechanisms.is_empty() { 0 } else { AUTH_LINE_MINIMUM };
        self.limits.line.max(auth)
    }

    /// What is offered over a channel of this kind, to a peer that may or may not be
    /// authenticated already.
    pub(super) fn capabilities(&self, encrypted: bool, authenticated: bool) -> Capabilities {
        let offers_auth = encrypted && !authenticated;
        Capabilities {
            pipelining: true,
            size: Some(SizeLimit::Octets(self.limits.message)),
            eight_bit_mime: true,
            binary_mime: true,
            chunking: true,
            smtputf8: true,
            enhanced_status_codes: true,
            dsn: true,
            starttls: !encrypted && self.starttls != StartTls::Absent,
            limits: Some(LimitsKeyword {
                mail_max: Some(self.limits.transactions),
                rcpt_max: Some(self.limits.recipients),
                rcpt_domain_max: None,
            }),
            auth: if offers_auth { self.mechanisms.clone() } else { Vec::new() },
            ..Capabilities::default()
        }
    }
}
