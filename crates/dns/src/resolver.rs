//! The resolver.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError as NetDnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{NameServerPool, TokioResolver};
use merpati_plugin::{Dnssec, Lookup, MxRecord, ResolveError, Resolver, TlsaRecord, async_trait};
use merpati_types::Domain;
use tokio::sync::OnceCell;

use crate::answer;
use crate::config::{DnsConfig, Validation};
use crate::probe::{Anchor, DnssecState, Probe};
use crate::proof::{ALIASES, Checked, Followed, Proven, Silence, expansion, judge};
use crate::silences::Silences;

/// How long the addresses of one family wait for those of the other.
const FAMILY_WAIT: Duration = Duration::from_secs(1);

/// The resolver cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The system's configuration cannot be read or has no servers.
    #[error("cannot read the system's DNS configuration: {0}")]
    System(String),
    /// The file of trusted keys cannot be read or used.
    #[error("cannot use the trust anchor {}: {why}", path.display())]
    TrustAnchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The resolver refuses its configuration.
    #[error("cannot set up the resolver: {0}")]
    SetUp(String),
}

/// Asks the configured servers and remembers their answers. Clones share all they know.
#[derive(Clone)]
pub struct HickoryResolver {
    asker: Arc<Asker>,
    pub(crate) family_wait: Duration,
}

struct Asker {
    plain: TokioResolver,
    /// Unless answers are not to be validated.
    validating: Option<Validating>,
    limit: Duration,
}

struct Validating {
    resolver: TokioResolver,
    /// The same without its memory: it shows what it refuses.
    handle: DnssecDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    probe: Probe,
    /// Set once the servers have been looked at: until then nobody can tell what an answer
    /// without signatures means.
    probed: OnceCell<()>,
    silences: Silences,
}

impl HickoryResolver {
    /// Sets it up. Nothing is asked yet; the trust anchor is read.
    ///
    /// # Errors
    /// [`DnsError`].
    pub fn new(config: &DnsConfig) -> Result<Self, DnsError> {
        let (servers, mut options) = if config.servers.is_empty() {
            read_system_conf().map_err(|error| DnsError::System(error.to_string()))?
        } else {
            let servers = config.servers.iter().map(name_server).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        set_options(&mut options, config);
        let build = |anchor: Option<&Anchor>| {
            let provider = TokioRuntimeProvider::default();
            let builder = TokioResolver::builder_with_config(servers.clone(), provider);
            let mut builder = builder.with_options(options.clone());
            if let Some(anchor) = anchor {
                builder.options_mut().validate = true;
                builder = builder.with_trust_anchor(Arc::clone(&anchor.keys));
            }
            builder.build().map_err(|error| DnsError::SetUp(error.to_string()))
        };
        let validating = match config.dnssec {
            Validation::Off => None,
            Validation::Validate => {
                let anchor = Anchor::read(config.trust_anchor.as_deref())?;
                let most = usize::try_from(config.cache).unwrap_or(usize::MAX);
                let resolver = build(Some(&anchor))?;
                let probe = Probe::new(servers.clone(), &options, anchor.zone)?;
                let pool = probe.pool.clone();
                Some(Validating {
                    resolver,
                    handle: DnssecDnsHandle::with_trust_anchor(pool, anchor.keys),
                    probe,
                    probed: OnceCell::new(),
                    silences: Silences::new(most, config.max_negative_ttl),
                })
            }
        };
        let asker = Asker { plain: build(None)?, validating, limit: config.limit };
        Ok(Self { asker: Arc::new(asker), family_wait: FAMILY_WAIT })
    }

    /// Whether answers are validated, as far as is known.
    #[must_use]
    pub fn dnssec_state(&self) -> DnssecState {
        self.asker.state()
    }

    /// Asks the servers for the keys of the root (or of the trust anchor's zone) and for
    /// something it does not have, and from then on validates if signatures and proofs come
    /// through. The first look-up does so by itself.
    pub async fn probe_dnssec(&self) -> DnssecState {
        self.asker.probe().await;
        self.asker.state()
    }

    /// Probes now, and again every 10 minutes while signatures do not come through or do not hold
    /// (every 30 seconds while nobody answers). Ends when they do, or when the last clone of the
    /// resolver is gone.
    pub fn watch_dnssec(&self) -> impl Future<Output = ()> + Send + use<> {
        let asker = Arc::downgrade(&self.asker);
        async move {
            while let Some(wait) = look(&asker).await {
                tokio::time::sleep(wait).await;
            }
        }
    }

    async fn ask(&self, name: Name, kind: RecordType) -> answer::Raw {
        let asker = &self.asker;
        let late = |_| Err(ResolveError::Temporary(NetError::Timeout.to_string()));
        tokio::time::timeout(asker.limit, asker.ask(&name, kind)).await.unwrap_or_else(late)
    }

    async fn ask_domain(&self, domain: &Domain, kind: RecordType) -> answer::Raw {
        let name = absolute(domain).map_err(|error| ResolveError::Temporary(error.to_string()))?;
        self.ask(name, kind).await
    }
}

/// Probes, and says when to do so again; `None` when there is no more use in it.
async fn look(asker: &Weak<Asker>) -> Option<Duration> {
    let asker = asker.upgrade()?;
    asker.probe().await;
    asker.state().again()
}

impl Asker {
    fn state(&self) -> DnssecState {
        self.validating.as_ref().map_or(DnssecState::Off, |validating| validating.probe.state())
    }

    async fn probe(&self) {
        let Some(validating) = &self.validating else { return };
        let mut first = false;
        let look = || {
            first = true;
            validating.probe(self.limit)
        };
        validating.probed.get_or_init(look).await;
        if !first {
            validating.probe(self.limit).await;
        }
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> answer::Raw {
        let Some(validating) = &self.validating else { return self.ask_plainly(name, kind).await };
        validating.probed.get_or_init(|| validating.probe(self.limit)).await;
        match validating.probe.state() {
            DnssecState::Stripped(_) => self.ask_plainly(name, kind).await,
            _ => validating.ask(name, kind).await,
        }
    }

    async fn ask_plainly(&self, name: &Name, kind: RecordType) -> answer::Raw {
        let source = Source { resolver: &self.plain, validating: None };
        source.ask(name, kind).await.map_err(|silence| silence.error)
    }
}

/// Whose answers are taken.
struct Source<'a> {
    resolver: &'a TokioResolver,
    /// If they are validated.
    validating: Option<&'a Validating>,
}

impl Source<'_> {
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Proven, Silence> {
        match self.ask_once(name, kind).await {
            Err(silence) if silence.by_steps => {
                self.ask_by_steps(name, kind).await.unwrap_or(Err(silence))
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, name: &Name, kind: RecordType) -> Result<Proven, Silence> {
        let raw = self.resolver.lookup(name.clone(), kind).await;
        let Some(validating) = self.validating else {
            return judge(name, kind, raw, Checked::No);
        };
        if matches!(raw, Err(NetError::Dns(NetDnsError::DnssecBogus)))
            && let Some(proven) = validating.ask_for_expansion(name, kind).await
        {
            return Ok(proven);
        }
        judge(name, kind, raw, Checked::Yes)
    }

    /// Follows aliases by asking for each alone; `None` if the name is none.
    async fn ask_by_steps(&self, name: &Name, kind: RecordType) -> Option<Result<Proven, Silence>> {
        let mut owner = name.clone();
        let mut weakest = Dnssec::Secure;
        let mut first = None;
        for _ in 0..ALIASES {
            let alias = match self.ask_once(&owner, RecordType::CNAME).await {
                Ok(alias) => alias,
                Err(Silence {
                    error: ResolveError::NoData(_) | ResolveError::NxDomain(_), ..
                }) => {
                    break;
                }
                Err(silence) => return Some(Err(silence)),
            };
            first.get_or_insert(alias.dnssec);
            weakest = weakest.min(alias.dnssec);
            let Some(RData::CNAME(CNAME(target))) = alias.data.into_iter().next() else { break };
            owner = target;
        }
        let first = first?;
        Some(match self.ask_once(&owner, kind).await {
            Ok(proven) if proven.alias.is_none() => Ok(Proven {
                dnssec: weakest.min(proven.dnssec),
                alias: Some(Followed { canonical: owner, first }),
                data: proven.data,
            }),
            Ok(_) => {
                let why = format!("{name}: more than {ALIASES} aliases in a row");
                Err(ResolveError::Temporary(why).into())
            }
            Err(mut silence) => {
                if let ResolveError::NoData(state) | ResolveError::NxDomain(state) =
                    &mut silence.error
                {
                    *state = weakest.min(*state);
                }
                Err(silence)
            }
        })
    }
}

impl Validating {
    fn source(&self) -> Source<'_> {
        Source { resolver: &self.resolver, validating: Some(self) }
    }

    async fn ask_for_expansion(&self, name: &Name, kind: RecordType) -> Option<Proven> {
        let query = Query::query(name.clone(), kind);
        match self.handle.lookup(query, self.probe.options).first_answer().await {
            Err(NetError::Dns(NetDnsError::Nsec { response, .. })) => {
                expansion(name, kind, &response)
            }
            _ => None,
        }
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> answer::Raw {
        let now = Instant::now();
        if let Some(error) = self.silences.find(name, kind, now) {
            return Err(error);
        }
        let silence = match self.source().ask(name, kind).await {
            Ok(proven) => return Ok(proven),
            Err(silence) => silence,
        };
        if let Some(ttl) = silence.ttl {
            let ttl = Duration::from_secs(ttl.into());
            self.silences.keep(name, kind, &silence.error, ttl, now);
        }
        Err(silence.error)
    }

    async fn probe(&self, limit: Duration) {
        let before = self.probe.state();
        // A look-up that waits for this has some of its own time left.
        let state = tokio::time::timeout(limit / 2, self.look()).await;
        let state = state.unwrap_or_else(|_| DnssecState::Unknown("no answer in time".to_owned()));
        if state != before {
            match &state {
                DnssecState::Stripped(why) => {
                    tracing::warn!(why, "DNSSEC is not validated, and there is no DANE");
                }
                DnssecState::Untrusted(why) => {
                    tracing::error!(why, "no DNSSEC signature holds: every signed domain waits");
                }
                state => tracing::info!(state = state.name(), why = state.reason(), "DNSSEC"),
            }
        }
        self.probe.set(state);
    }

    async fn look(&self) -> DnssecState {
        if let Err(state) = self.probe.obstacle().await {
            return state;
        }
        let zone = &self.probe.zone;
        let untrusted = |why: &str| DnssecState::Untrusted(format!("the keys of {zone}: {why}"));
        match self.source().ask_once(zone, RecordType::DNSKEY).await {
            Ok(Proven { dnssec: Dnssec::Secure, .. }) => DnssecState::Validating,
            Ok(_) => untrusted("they are not those of the trust anchor"),
            Err(Silence { error: ResolveError::Temporary(why), .. }) => DnssecState::Unknown(why),
            Err(Silence { error, .. }) => untrusted(&error.to_string()),
        }
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

    async fn tlsa(&self, name: &Domain) -> Lookup<TlsaRecord> {
        answer::associations(self.ask_domain(name, RecordType::TLSA).await)
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
    // Aliases are part of the proof.
    options.preserve_intermediates = true;
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
