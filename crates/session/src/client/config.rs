//! How a client session behaves.

use std::time::Duration;

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// What the client wants of STARTTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not used: not wanted, or the channel is encrypted already.
    Never,
    /// Used where it is offered.
    #[default]
    IfOffered,
    /// Where it is not offered, no mail is sent.
    Required,
}

/// How long to wait for the server (RFC 5321 §4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The greeting: 5 minutes.
    pub greeting: Duration,
    /// Replies to EHLO, STARTTLS and AUTH, for which the RFC names nothing: 5 minutes.
    pub hello: Duration,
    /// The reply to MAIL: 5 minutes.
    pub mail: Duration,
    /// Each reply to RCPT: 5 minutes.
    pub rcpt: Duration,
    /// The reply to DATA: 2 minutes.
    pub data: Duration,
    /// Each piece of the message: 3 minutes. The driver writes, so the driver keeps it.
    pub piece: Duration,
    /// The reply to the message: 10 minutes.
    pub message: Duration,
    /// The reply to RSET and QUIT: 10 seconds; nothing is lost without it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(300),
            hello: Duration::from_secs(300),
            mail: Duration::from_secs(300),
            rcpt: Duration::from_secs(300),
            data: Duration::from_secs(120),
            piece: Duration::from_secs(180),
            message: Duration::from_secs(600),
            quit: Duration::from_secs(10),
        }
    }
}

/// How a client session behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The protocol.
    pub protocol: Protocol,
    /// The name we give: our host name, or an address literal.
    pub hello: String,
    /// What we want of STARTTLS.
    pub tls: Tls,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Commands sent ahead of their replies, at most. Default 100.
    pub window: usize,
    /// Messages up to this size are sent ahead of the replies to their recipients, where the
    /// server takes BDAT: one round trip instead of two. Default 64 KiB.
    pub ahead: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            hello: "localhost".to_owned(),
            tls: Tls::default(),
            timeouts: Timeouts::default(),
            window: 100,
            ahead: 64 * 1024,
        }
    }
}
