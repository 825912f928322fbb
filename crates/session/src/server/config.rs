//! What a server session offers, and its limits.

use std::time::Duration;

use merpati_types::Timestamp;
use merpati_wire::{
    AUTH_LINE_MINIMUM, COMMAND_LINE_MINIMUM, Capabilities, FutureRelease, Limits as LimitsKeyword,
    SizeLimit,
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

/// To whom an extension is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// To nobody.
    #[default]
    Nobody,
    /// To whoever has authenticated. EHLO tells of it where AUTH is offered too, since clients do
    /// not ask again after it.
    Authenticated,
    /// To anybody.
    Anybody,
}

/// The extensions by which a client asks something of the queue. By default none is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// FUTURERELEASE (RFC 4865), for whoever has authenticated: the longest hold. At least a
    /// second, or it is not offered; what is beyond nine digits of seconds is cut off.
    pub future_release: Option<Duration>,
    /// DELIVERBY (RFC 2852), without a least time.
    pub deliver_by: Offer,
    /// MT-PRIORITY (RFC 6710), without a profile: all of -9 to 9 are told apart.
    pub mt_priority: Offer,
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
    /// What may be asked of the queue.
    pub extensions: Extensions,
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
            extensions: Extensions::default(),
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

    /// The longest hold in seconds, as FUTURERELEASE tells it: at most nine digits.
    pub(super) fn longest_hold(&self) -> Option<u32> {
        let seconds = self.extensions.future_release?.as_secs().min(999_999_999);
        u32::try_from(seconds).ok().filter(|&seconds| seconds > 0)
    }

    /// What is offered at `now` over a channel of this kind, to a peer that may or may not be
    /// authenticated already.
    pub(super) fn capabilities(
        &self,
        encrypted: bool,
        authenticated: bool,
        now: Timestamp,
    ) -> Capabilities {
        let offers_auth = encrypted && !authenticated;
        let known = authenticated || offers_auth && !self.mechanisms.is_empty();
        let offered = |offer: Offer| match offer {
            Offer::Nobody => false,
            Offer::Authenticated => known,
            Offer::Anybody => true,
        };
        Capabilities {
            pipelining: true,
            size: Some(SizeLimit::Octets(self.limits.message)),
            eight_bit_mime: true,
            binary_mime: true,
            chunking: true,
            smtputf8: true,
            enhanced_status_codes: true,
            dsn: true,
            // RFC 8689 §4.1: never in the clear. What LMTP brings is there, and goes no further.
            requiretls: encrypted && self.protocol == Protocol::Smtp,
            starttls: !encrypted && self.starttls != StartTls::Absent,
            limits: Some(LimitsKeyword {
                mail_max: Some(self.limits.transactions),
                rcpt_max: Some(self.limits.recipients),
                rcpt_domain_max: None,
            }),
            future_release: self.longest_hold().filter(|_| known).map(|longest| FutureRelease {
                longest,
                latest: whole_seconds(now).after(Duration::from_secs(longest.into())),
            }),
            deliver_by: offered(self.extensions.deliver_by).then_some(0),
            mt_priority: offered(self.extensions.mt_priority).then(String::new),
            auth: if offers_auth { self.mechanisms.clone() } else { Vec::new() },
            ..Capabilities::default()
        }
    }
}

/// Without a fraction, which RFC 4865 has no use for.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_millis(moment.as_millis().div_euclid(1_000).saturating_mul(1_000))
}
