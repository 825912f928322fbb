//! `[limits]`: the bounds of sessions and connections.

use std::time::Duration;

use merpati_plugin::options::{Options, Size};

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `line`: the longest command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512 octets
    /// and each extension for some more; default 4096, at least 2048, at most 64 KiB.
    pub line: Size,
    /// `message`: the largest message; default 50 MiB, at least 64 KiB (RFC 5321 §4.5.3.1.7).
    pub message: Size,
    /// `recipients`: of one message. RFC 5321 §4.5.3.1.8 asks for at least 100; default 1000.
    pub recipients: u32,
    /// `transactions`: of one session; default 10000.
    pub transactions: u32,
    /// `errors`: syntax and sequence errors after which a session ends; default 10.
    pub errors: u32,
    /// `refused_recipients`: after which a session ends; default 100.
    pub refused_recipients: u32,
    /// `idle`: the longest silence; default 5 minutes (RFC 5321 §4.5.3.2.7).
    pub idle: Duration,
    /// `body`: the longest time a message may take to arrive; default 1 hour.
    pub body: Duration,
    /// `session`: the longest session; default 6 hours.
    pub session: Duration,
    /// `pipelined`: what may wait while a question is open; default 128 KiB.
    pub pipelined: Size,
    /// `connections`: open at once, in all; default 10000.
    pub connections: usize,
    /// `connections_per_address`: open at once from one IPv4 address or one IPv6 /64;
    /// default 50.
    pub connections_per_address: usize,
    /// `drain`: how long transactions in hand may go on after SIGTERM; default 30 seconds.
    pub drain: Duration,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: Size(4 * KIB),
            message: Size(50 * MIB),
            recipients: 1000,
            transactions: 10_000,
            errors: 10,
            refused_recipients: 100,
            idle: 300 * SECOND,
            body: HOUR,
            session: 6 * HOUR,
            pipelined: Size(128 * KIB),
            connections: 10_000,
            connections_per_address: 50,
            drain: 30 * SECOND,
        }
    }
}

impl Limits {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let sizes = |least, most| Size(least)..=Size(most);
        let day = 24 * HOUR;
        let read = Self {
            line: reader.ranged("line", sizes(2 * KIB, 64 * KIB), default.line),
            message: reader.ranged("message", sizes(64 * KIB, 1 << 40), default.message),
            recipients: reader.ranged("recipients", 100..=1_000_000, default.recipients),
            transactions: reader.ranged("transactions", 1..=u32::MAX, default.transactions),
            errors: reader.ranged("errors", 1..=10_000, default.errors),
            refused_recipients: reader.ranged(
                "refused_recipients",
                1..=1_000_000,
                default.refused_recipients,
            ),
            idle: reader.ranged("idle", SECOND..=day, default.idle),
            body: reader.ranged("body", SECOND..=day, default.body),
            session: reader.ranged("session", SECOND..=30 * day, default.session),
            pipelined: reader.ranged("pipelined", sizes(4 * KIB, 16 * MIB), default.pipelined),
            connections: reader.ranged("connections", 1..=1_000_000, default.connections),
            connections_per_address: reader.ranged(
                "connections_per_address",
                1..=1_000_000,
                default.connections_per_address,
            ),
            drain: reader.ranged("drain", Duration::ZERO..=HOUR, default.drain),
        };
        let _ = reader.finish();
        read
    }
}
