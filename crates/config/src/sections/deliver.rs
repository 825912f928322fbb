//! `[deliver]`: how mail goes out.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use merpati_plugin::options::{Found, FromOption, Invalid, Located, Options, Parsed, Reader};
use merpati_types::Domain;

use super::Certificate;
use super::source::one_of_each_family;

/// What hosts must have before they get mail, whatever they and the DNS say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundTls {
    /// `none`: no TLS, never.
    None,
    /// `may`: TLS if it can be had, with whomever; in the clear where it fails (RFC 7435).
    May,
    /// `encrypt`: TLS, with whomever.
    Encrypt,
    /// `dane`: DANE (RFC 7672).
    Dane,
    /// `verify`: a valid certificate for the host's name.
    Verify,
    /// `pinned`: one of certain keys.
    Pinned,
}

impl FromOption for OutboundTls {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("may", Self::May),
            ("encrypt", Self::Encrypt),
            ("dane", Self::Dane),
            ("verify", Self::Verify),
            ("pinned", Self::Pinned),
        ])
    }
}

/// Intervals between attempts: they double from the first to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

/// `[deliver]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// `port`: of mail exchangers; default 25.
    pub port: u16,
    /// `own_names`: names besides `hostname` by which MX records mean this server; default none.
    pub own_names: Vec<Domain>,
    /// `source`: addresses to connect from, at most one of each family; default the system's
    /// choice.
    pub source: Vec<IpAddr>,
    /// `source_pool`: the pool, or the source, that mail is sent from for which nobody has chosen
    /// another; default none, and `source` holds.
    pub source_pool: Option<Located<String>>,
    /// `ignore`: networks whose addresses no mail exchanger has; default those of no other host:
    /// this machine's own, link-local, multicast and unspecified ones (RFC 6890).
    pub ignore: Vec<IpNet>,
    /// `tls = "none" | "may" | "encrypt" | "dane" | "verify"`; by default DANE and MTA-STS
    /// decide, and TLS is used if it can be had where neither says anything.
    pub tls: Option<OutboundTls>,
    /// `ca`: a PEM file of roots that certificates may chain to; default the public ones.
    pub ca: Option<Located<PathBuf>>,
    /// `certificate` and `key`: what is presented to servers that ask for it; default nothing.
    pub identity: Option<Certificate>,
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
    /// `connection_first`, `connection_most`: after trouble with the connection; default as
    /// `retry_*`.
    pub connection: Retry,
    /// `dns_first`, `dns_most`: after trouble with the DNS; default `retry_first` to a quarter of
    /// `retry_most`.
    pub dns: Retry,
    /// `greylisting_first`, `greylisting_most`: after a 4xx of the peer; default two fifths of
    /// `retry_first` to `retry_most`.
    pub greylisting: Retry,
    /// `over_quota_first`, `over_quota_most`: after a mailbox was full; default six times
    /// `retry_first` to `retry_most`.
    pub over_quota: Retry,
    /// `retry_jitter`: by how many per cent intervals differ either way; default 10.
    pub retry_jitter: u32,
    /// `rest`: how long a site that is down is left alone; doubles while it stays so. Default a
    /// minute, or `retry_first` if that is less.
    pub rest: Duration,
    /// `rest_most`: the longest; default 15 minutes.
    pub rest_most: Duration,
    /// `held`: due parcels in memory; default 2000.
    pub held: usize,
    /// `held_per_site`: of one site, at most; default 200.
    pub held_per_site: usize,
    /// `expire`: the age at which a message is given up; default 5 days (RFC 5321 §4.5.4.1).
    pub expire: Duration,
    /// `warn`: the age at which the sender is told of the delay; default 4 hours.
    pub warn: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

impl Default for Deliver {
    fn default() -> Self {
        let retry = Retry { first: 300 * SECOND, most: 4 * HOUR };
        Self {
            port: 25,
            own_names: Vec::new(),
            source: Vec::new(),
            source_pool: None,
            ignore: nowhere(),
            tls: None,
            ca: None,
            identity: None,
            concurrency: 200,
            concurrency_per_site: 20,
            recipients: 100,
            retry_first: retry.first,
            retry_most: retry.most,
            connection: retry,
            dns: retry.dns(),
            greylisting: retry.greylisting(),
            over_quota: retry.over_quota(),
            retry_jitter: 10,
            rest: 60 * SECOND,
            rest_most: 900 * SECOND,
            held: 2_000,
            held_per_site: 200,
            expire: 5 * 24 * HOUR,
            warn: 4 * HOUR,
        }
    }
}

impl Retry {
    fn dns(self) -> Self {
        Self { most: (self.most / 4).max(self.first), ..self }
    }

    fn greylisting(self) -> Self {
        Self { first: self.first / 5 * 2, ..self }
    }

    fn over_quota(self) -> Self {
        Self { first: self.first.saturating_mul(6).min(self.most), ..self }
    }

    /// Reads `NAME_first` and `NAME_most`.
    fn read(reader: &mut Reader<'_>, [first, most]: [&str; 2], default: Self) -> Self {
        let least = SECOND.min(default.first);
        let read = Self {
            first: reader.ranged(first, least..=MONTH, default.first),
            most: reader.ranged(most, least..=MONTH, default.most),
        };
        if read.first > read.most {
            let message = format_args!("the first interval is longer than `{most}`");
            reader.reject(first, message);
        }
        // One mistake is told once, and not for all that follows from it.
        Self { most: read.most.max(read.first), ..read }
    }
}

/// Networks of no other host (RFC 6890).
fn nowhere() -> Vec<IpNet> {
    const NETWORKS: [&str; 9] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fe80::/10",
        "ff00::/8",
    ];
    NETWORKS.iter().filter_map(|network| network.parse().ok()).collect()
}

fn identity(reader: &mut Reader<'_>) -> Option<Certificate> {
    match (reader.optional("certificate"), reader.optional("key")) {
        (Some(cert), Some(key)) => Some(Certificate { cert, key }),
        (None, None) => None,
        _ => {
            reader.reject("key", "a certificate and its `key` go together");
            None
        }
    }
}

impl Deliver {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let keys = ["retry_first", "retry_most"];
        let retry = Retry { first: default.retry_first, most: default.retry_most };
        let retry = Retry::read(&mut reader, keys, retry);
        let mut cause = |keys, default| Retry::read(&mut reader, keys, default);
        let connection = cause(["connection_first", "connection_most"], retry);
        let dns = cause(["dns_first", "dns_most"], retry.dns());
        let greylisting = cause(["greylisting_first", "greylisting_most"], retry.greylisting());
        let over_quota = cause(["over_quota_first", "over_quota_most"], retry.over_quota());
        let tls = reader.optional("tls");
        if tls == Some(OutboundTls::Pinned) {
            reader.reject("tls", "keys are those of a [[destination]], or of a transport");
        }
        let ignore = reader.optional::<Vec<Parsed<IpNet>>>("ignore");
        let ignore = ignore.map(|networks| networks.into_iter().map(|net| net.0).collect());
        let read = Self {
            port: reader.ranged("port", 1..=u16::MAX, default.port),
            ignore: ignore.unwrap_or(default.ignore),
            own_names: reader.or("own_names", Vec::new()),
            source: reader.or("source", default.source),
            source_pool: reader.optional("source_pool"),
            tls,
            ca: reader.optional("ca"),
            identity: identity(&mut reader),
            concurrency: reader.ranged("concurrency", 1..=100_000, default.concurrency),
            concurrency_per_site: reader.ranged(
                "concurrency_per_site",
                1..=10_000,
                default.concurrency_per_site,
            ),
            recipients: reader.ranged("recipients", 1..=10_000, default.recipients),
            retry_first: retry.first,
            retry_most: retry.most,
            connection,
            dns,
            greylisting,
            over_quota,
            retry_jitter: reader.ranged("retry_jitter", 0..=100, default.retry_jitter),
            rest: reader.ranged("rest", SECOND..=MONTH, default.rest.min(retry.first)),
            rest_most: reader.ranged("rest_most", SECOND..=MONTH, default.rest_most),
            held: reader.ranged("held", 1..=1_000_000, default.held),
            held_per_site: reader.ranged("held_per_site", 1..=1_000_000, default.held_per_site),
            expire: reader.ranged("expire", SECOND..=2 * MONTH, default.expire),
            warn: reader.ranged("warn", SECOND..=2 * MONTH, default.warn),
        };
        one_of_each_family(&mut reader, "source", &read.source);
        if read.source_pool.is_some() && !read.source.is_empty() {
            reader.reject("source_pool", "either `source` or `source_pool`");
        }
        let _ = reader.finish();
        read
    }
}
