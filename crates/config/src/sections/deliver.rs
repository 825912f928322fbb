//! `[deliver]`: how mail goes out.

use std::net::IpAddr;
use std::time::Duration;

use merpati_plugin::options::{Found, FromOption, Invalid, Located, Options};
use std::path::PathBuf;

/// What TLS is to outbound connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTls {
    /// `none`: never.
    None,
    /// `opportunistic`: if the peer offers it, whatever its certificate; in clear where it
    /// fails (RFC 7435).
    #[default]
    Opportunistic,
    /// `required`: no mail without it, whatever the certificate.
    Required,
    /// `verified`: no mail without it, and the certificate must be the host's.
    Verified,
}

impl FromOption for OutboundTls {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("opportunistic", Self::Opportunistic),
            ("required", Self::Required),
            ("verified", Self::Verified),
        ])
    }
}

/// `[deliver]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// `port`: of mail exchangers; default 25.
    pub port: u16,
    /// `source`: addresses to connect from, at most one of each family; default the system's
    /// choice.
    pub source: Vec<IpAddr>,
    /// `tls = "none" | "opportunistic" | "required" | "verified"`, default opportunistic.
    pub tls: OutboundTls,
    /// `ca`: a PEM file of roots that certificates may chain to; default the public ones.
    pub ca: Option<Located<PathBuf>>,
    /// `concurrency`: attempts at once, in all; default 200.
    pub concurrency: u32,
    /// `concurrency_per_site`: attempts at once at one site, at most; default 20.
    pub concurrency_per_site: u32,
    /// `recipients`: of one transaction, at most; default 100 (RFC 5321 §4.5.3.1.8: what every
    /// server takes).
    pub recipients: u32,
    /// `retry_first`: the interval after the first failure; intervals double. Default 5 minutes.
    pub retry_first: Duration,
    /// `retry_most`: the longest interval; default 4 hours. RFC 5321 §4.5.4.1 asks for 30
    /// minutes at least.
    pub retry_most: Duration,
    /// `expire`: the age at which a message is given up; default 5 days (RFC 5321 §4.5.4.1).
    pub expire: Duration,
    /// `warn`: the age at which the sender is told of the delay; default 4 hours.
    pub warn: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

impl Default for Deliver {
    fn default() -> Self {
        Self {
            port: 25,
            source: Vec::new(),
            tls: OutboundTls::default(),
            ca: None,
            concurrency: 200,
            concurrency_per_site: 20,
            recipients: 100,
            retry_first: 300 * SECOND,
            retry_most: 4 * HOUR,
            expire: 5 * 24 * HOUR,
            warn: 4 * HOUR,
        }
    }
}

impl Deliver {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let month = 30 * 24 * HOUR;
        let read = Self {
            port: reader.ranged("port", 1..=u16::MAX, default.port),
            source: reader.or("source", default.source),
            tls: reader.or("tls", default.tls),
            ca: reader.optional("ca"),
            concurrency: reader.ranged("concurrency", 1..=100_000, default.concurrency),
            concurrency_per_site: reader.ranged(
                "concurrency_per_site",
                1..=10_000,
                default.concurrency_per_site,
            ),
            recipients: reader.ranged("recipients", 1..=10_000, default.recipients),
            retry_first: reader.ranged("retry_first", SECOND..=month, default.retry_first),
            retry_most: reader.ranged("retry_most", SECOND..=month, default.retry_most),
            expire: reader.ranged("expire", SECOND..=2 * month, default.expire),
            warn: reader.ranged("warn", SECOND..=2 * month, default.warn),
        };
        if read.retry_first > read.retry_most {
            reader.reject("retry_first", "the first interval is longer than `retry_most`");
        }
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            if read.source.iter().filter(|address| family(address)).count() > 1 {
                reader.reject("source", "more than one address of a family");
            }
        }
        let _ = reader.finish();
        read
    }
}
