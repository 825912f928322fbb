//! What the resolver is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use merpati_plugin::options::{Found, FromOption, Invalid, Options};

/// Whom to ask, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers, asked over UDP and TCP. None: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one attempt may take. By default 5 s, as resolv.conf(5) has it.
    pub timeout: Duration,
    /// How often a server that does not answer is asked, at least once. By default 2.
    pub attempts: usize,
    /// How long a look-up may take, all attempts and aliases included. By default 30 s.
    pub limit: Duration,
    /// How many answers are kept. By default 8,192, a few MiB.
    pub cache: u64,
    /// How long an answer is kept at most. By default a day.
    pub max_ttl: Duration,
    /// How long it is kept at most that there is no answer. By default 5 min: a domain that has
    /// just been set up should not wait for hours (RFC 2308 §5 allows up to three).
    pub max_negative_ttl: Duration,
    /// Whether answers are validated. By default they are.
    pub dnssec: Validation,
    /// A file of DNSKEY records that are trusted (RFC 4035 §4.4), in place of the root's, which
    /// are built in. The zone of the first one is that by which is found whether the servers
    /// hand signatures on.
    pub trust_anchor: Option<PathBuf>,
}

/// Whether answers are validated (DNSSEC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// No: every answer is insecure.
    Off,
    /// Yes, if the servers hand signatures on.
    #[default]
    Validate,
}

impl FromOption for Validation {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("validate", Self::Validate), ("off", Self::Off)])
    }
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            limit: Duration::from_secs(30),
            cache: 8_192,
            max_ttl: Duration::from_secs(24 * 60 * 60),
            max_negative_ttl: Duration::from_secs(5 * 60),
            dnssec: Validation::Validate,
            trust_anchor: None,
        }
    }
}

impl DnsConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        const MINUTE: Duration = Duration::from_secs(60);
        const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
        let standard = Self::default();
        let mut reader = options.reader();
        let config = Self {
            servers: reader.or("servers", standard.servers),
            timeout: reader.ranged("timeout", MILLISECOND..=MINUTE, standard.timeout),
            attempts: reader.ranged("attempts", 1..=10, standard.attempts),
            limit: reader.ranged("limit", MILLISECOND..=5 * MINUTE, standard.limit),
            cache: reader.ranged("cache", 0..=10_000_000, standard.cache),
            max_ttl: reader.ranged("max_ttl", Duration::ZERO..=WEEK, standard.max_ttl),
            max_negative_ttl: reader.ranged(
                "max_negative_ttl",
                Duration::ZERO..=WEEK,
                standard.max_negative_ttl,
            ),
            dnssec: reader.or("dnssec", standard.dnssec),
            trust_anchor: reader.optional("trust_anchor"),
        };
        reader.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use merpati_plugin::options::Value;

    use super::*;

    #[test]
    fn options_are_read_and_mistakes_told() {
        let read = |entries: &[(&str, Value)]| {
            let options = Options::new(entries.iter().cloned());
            DnsConfig::from_options(&options).map_err(|Invalid| {
                let told = options.errors().sorted();
                told.iter().map(ToString::to_string).collect::<Vec<_>>()
            })
        };
        assert_eq!(read(&[]), Ok(DnsConfig::default()));
        let config = read(&[
            ("servers", ["127.0.0.1:5353", "[::1]:53"].into()),
            ("timeout", "100ms".into()),
            ("attempts", 3.into()),
            ("max_negative_ttl", "0s".into()),
        ]);
        let config = config.unwrap();
        assert_eq!(config.servers[0], "127.0.0.1:5353".parse().unwrap());
        assert_eq!((config.servers.len(), config.attempts), (2, 3));
        assert_eq!(config.max_negative_ttl, Duration::ZERO);
        let mistakes = read(&[
            ("servers", ["127.0.0.1"].into()),
            ("attempts", 0.into()),
            ("ttl", "1s".into()),
        ]);
        assert_eq!(mistakes.unwrap_err().len(), 3);
    }
}
