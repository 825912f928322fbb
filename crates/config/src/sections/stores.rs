//! `[spool]` and `[dns]`: what the engines stand on.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use merpati_plugin::options::{Found, FromOption, Invalid, Located, Options, Size};

/// `[spool]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// `path`: the spool's directory; default `spool` in the state directory.
    pub path: PathBuf,
    /// `min_free`: what is left free on its disk; less is answered with 452. Default 100 MB.
    pub min_free: Size,
    /// `memory`: octets of small messages held in memory in all; default 8 MiB.
    pub memory: Size,
    /// `index_cache`: octets of the index held in memory; default 8 MiB.
    pub index_cache: Size,
    /// `repeat_window`: how long a transaction is known again that a client repeats because it
    /// never saw our 250; none is, if it is zero. Default two hours, zero for mx.
    pub repeat_window: Option<Duration>,
}

impl Spool {
    pub(crate) fn read(options: Option<Options>, state_dir: &Path) -> Self {
        let default = Self {
            path: state_dir.join("spool"),
            min_free: Size(100_000_000),
            memory: Size(8 << 20),
            index_cache: Size(8 << 20),
            repeat_window: None,
        };
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let bounds = Size(1 << 20)..=Size(64 << 30);
        let read = Self {
            path: reader.or("path", default.path),
            min_free: reader.or("min_free", default.min_free),
            memory: reader.ranged("memory", bounds.clone(), default.memory),
            index_cache: reader.ranged("index_cache", bounds, default.index_cache),
            repeat_window: reader.optional("repeat_window"),
        };
        let _ = reader.finish();
        read
    }
}

/// `[dns]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `servers`: addresses, with a port if it is not 53; default those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// `timeout`: how long one attempt may take; default 5 seconds (resolv.conf(5)).
    pub timeout: Duration,
    /// `attempts`: how often a silent server is asked; default 2.
    pub attempts: usize,
    /// `limit`: how long a look-up may take in all; default 30 seconds.
    pub limit: Duration,
    /// `cache`: how many answers are kept; default 8192.
    pub cache: u64,
    /// `dnssec`: whether answers are validated; default `validate`.
    pub dnssec: Dnssec,
    /// `trust_anchor`: a file of DNSKEY records that are trusted; default the root's.
    pub trust_anchor: Option<Located<PathBuf>>,
}

/// Whether answers are validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// `validate`: if the servers hand signatures on.
    #[default]
    Validate,
    /// `off`: never; there is no DANE then.
    Off,
}

impl FromOption for Dnssec {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("validate", Self::Validate), ("off", Self::Off)])
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: 5 * SECOND,
            attempts: 2,
            limit: 30 * SECOND,
            cache: 8192,
            dnssec: Dnssec::Validate,
            trust_anchor: None,
        }
    }
}

impl Dns {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let servers = reader.or("servers", Vec::<Server>::new());
        let read = Self {
            servers: servers.into_iter().map(|server| server.0).collect(),
            timeout: reader.ranged("timeout", SECOND / 10..=60 * SECOND, default.timeout),
            attempts: reader.ranged("attempts", 1..=10, default.attempts),
            limit: reader.ranged("limit", SECOND..=300 * SECOND, default.limit),
            cache: reader.ranged("cache", 0..=10_000_000, default.cache),
            dnssec: reader.or("dnssec", default.dnssec),
            trust_anchor: reader.optional("trust_anchor"),
        };
        let _ = reader.finish();
        read
    }
}

/// An address, with a port or without.
struct Server(SocketAddr);

impl FromOption for Server {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        const PORT: u16 = 53;
        match found.text()?.parse::<IpAddr>() {
            Ok(address) => Ok(Self(SocketAddr::new(address, PORT))),
            Err(_) => SocketAddr::from_option(found).map(Self),
        }
    }
}
