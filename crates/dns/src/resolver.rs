//! The resolver.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use merpati_plugin::{Lookup, MxRecord, ResolveError, Resolver, async_trait};
use merpati_types::Domain;

use crate::answer;
use crate::config::DnsConfig;

/// How long the addresses of one family wait for those of the other.
const FAMILY_WAIT: Duration = Duration::from_secs(1);

/// The resolver cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The system's configuration cannot be read or has no servers.
    #[error("cannot read the system's DNS configuration: {0}")]
    System(String),
    /// The resolver refuses its configuration.
    #[error("cannot set up the resolver: {0}")]
    SetUp(String),
}

/// Asks the configured servers and remembers their answers.
#[derive(Clone)]
pub struct HickoryResolver {
    resolver: TokioResolver,
    limit: Duration,
    pub(crate) family_wait: Duration,
}

impl HickoryResolver {
    /// Sets it up. Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsError`].
    pub fn new(config: &DnsConfig) -> Result<Self, DnsError> {
        let mut builder = if config.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| DnsError::System(error.to_string()))?
        } else {
            let servers = config.servers.iter().map(name_server).collect();
            let servers = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
        };
        set_options(builder.options_mut(), config);
        let resolver = builder.build().map_err(|error| DnsError::SetUp(error.to_string()))?;
        Ok(Self { resolver, limit: config.limit, family_wait: FAMILY_WAIT })
    }

    async fn ask(&self, name: Name, kind: RecordType) -> answer::Raw {
        let lookup = self.resolver.lookup(name, kind);
        tokio::time::timeout(self.limit, lookup).await.unwrap_or(Err(NetError::Timeout))
    }

    async fn ask_domain(&self, domain: &Domain, kind: RecordType) -> answer::Raw {
        self.ask(absolute(domain)?, kind).await
    }
}

#[async_trait]
impl Resolver for HickoryResolver {
    async fn mx(&self, domain: &Domain) -> Lookup<MxRecord> {
        answer::exchangers(self.ask_domain(domain, RecordType::MX).await)
    }

    async fn addresses(&self, host: &Domain) -> Lookup<IpAddr> {
        let v4 = async { answer::addresses(self.ask_domain(host, RecordType::A).await) };
        let v6 = async { answer::addresses(self.ask_domain(host, RecordType::AAAA).await) };
        let (mut v4, mut v6) = (pin!(v4), pin!(v6));
        tokio::select! {
            first = &mut v4 => {
                let second = other(&first, v6, self.family_wait).await;
                answer::join(first, second)
            }
            first = &mut v6 => {
                let second = other(&first, v4, self.family_wait).await;
                answer::join(second, first)
            }
        }
    }

    async fn names(&self, address: IpAddr) -> Lookup<Domain> {
        answer::names(self.ask(Name::from(address), RecordType::PTR).await)
    }

    async fn txt(&self, name: &Domain) -> Lookup<Vec<u8>> {
        answer::texts(self.ask_domain(name, RecordType::TXT).await)
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn set_options(options: &mut ResolverOpts, config: &DnsConfig) {
    options.timeout = config.timeout;
    // Theirs counts the repetitions only.
    options.attempts = config.attempts.saturating_sub(1);
    options.cache_size = config.cache;
    options.positive_max_ttl = Some(config.max_ttl);
    options.negative_max_ttl = Some(config.max_negative_ttl);
    // An entry of the hosts file has no MX, no TTL, and no place in deciding where mail goes.
    options.use_hosts_file = ResolveHosts::Never;
    options.edns0 = true;
    options.try_tcp_on_error = true;
}

fn absolute(domain: &Domain) -> Result<Name, NetError> {
    let mut name = Name::from_ascii(domain.as_ascii())?;
    // Without this the search list of resolv.conf would be tried.
    name.set_fqdn(true);
    Ok(name)
}

/// What the other family answers. It is waited for no longer than `wait` if this one has answered.
async fn other<T>(
    answered: &Lookup<T>,
    other: impl Future<Output = Lookup<T>>,
    wait: Duration,
) -> Lookup<T> {
    if answered.is_err() {
        return other.await;
    }
    let late = |_| Err(ResolveError::Temporary("no answer in time".to_owned()));
    tokio::time::timeout(wait, other).await.unwrap_or_else(late)
}
