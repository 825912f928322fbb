//! Delivery over SMTP and LMTP: by MX, or to one configured host.

mod barred;
mod connection;
mod credentials;
mod dial;
mod ease;
mod egress;
mod explain;
mod login;
mod oauth;
mod outcome;
mod plan;
mod pool;
mod reach;
mod relay;
mod socks;
mod source;
mod stream;
mod survey;
mod tls;
mod transact;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use merpati_plugin::deliver::{DeferClass, DeliveryOutcome};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{
    Deliverer, ExplainHow, Finding, Job, Resolver, StsPolicies, TlsResults, async_trait,
};
use merpati_route::OwnNames;
use merpati_session::client::{ClientConfig, Protocol, Tls as Wanted};
use merpati_types::{Domain, Timestamp};
use tokio::sync::Semaphore;

pub use barred::Barred;
pub use credentials::{Account, Login};
pub use merpati_sasl::Mechanism;
pub use merpati_sasl::client::{Credentials, CredentialsError, InClear};
pub use oauth::{OAuth, OAuthConfig, TokenError};
pub use relay::{RelayHost, RelayHostError};
pub use source::{Socks5, SocksUser, Source, SourcePool, Sources, Via};
pub use tls::{Identity, Pin, PinError, Roots, TlsError, TlsSettings};

use barred::Bars;
use credentials::{Refusals, User};
use dial::Trip;
use outcome::{Tally, unsettled};
use plan::Rounds;
use pool::{Key, Pool};
use reach::Memory;
use source::{Choice, NoSource};
use stream::Endpoint;
use tls::Tls;
use transact::Round;

/// How often idle connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The most look-ups that run at once for one transport.
const LOOKUPS: usize = 64;
/// The most servers that are asked to take a message in one attempt, those aside that end the
/// session before they have heard of it: what two have deferred a third will hardly take.
const SESSIONS: u32 = 2;

/// Where a transport leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the mail exchangers of the recipient's domain.
    Mx,
    /// To these hosts, whatever the domain: the first that can be had.
    Hosts(Vec<RelayHost>),
    /// To the mail exchangers of this domain, whatever the recipient's.
    MxOf(Domain),
    /// To this Unix socket.
    Unix(PathBuf),
}

/// A transport's configuration.
#[derive(Clone)]
pub struct SmtpConfig {
    /// The transport's name.
    pub name: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: Target,
    /// The port, where a host does not have its own.
    pub port: u16,
    /// The name we give in hello.
    pub hello: String,
    /// What is wanted of TLS.
    pub tls: TlsSettings,
    /// Who knows of MTA-STS policies; without it there are none.
    pub sts: Option<Arc<dyn StsPolicies>>,
    /// Who hears how sessions with mail exchangers went.
    pub tls_results: Option<Arc<dyn TlsResults>>,
    /// Who we are to the server; nobody by default.
    pub login: Option<Login>,
    /// Names by which an MX host is ourselves: in the record, or in its reply to hello.
    pub own_names: Vec<Domain>,
    /// Addresses that no MX host has.
    pub barred: Barred,
    /// Where mail is sent from.
    pub sources: Arc<Sources>,
    /// The most recipients of one transaction, unless the server names fewer (RFC 9422). RFC
    /// 5321 §4.5.3.1.8 promises 100.
    pub recipients: usize,
}

/// Delivers over SMTP or LMTP.
#[derive(Clone)]
pub struct Smtp(Arc<Inner>);

struct Inner {
    config: SmtpConfig,
    own: OwnNames,
    bars: Bars,
    resolver: Arc<dyn Resolver>,
    tls: Tls,
    /// By the name that we give in hello.
    sessions: BTreeMap<String, Sessions>,
    pool: Pool,
    memory: Memory,
    refusals: Refusals,
    broken_tls: Mutex<HashMap<IpAddr, Instant>>,
    lookups: Semaphore,
    /// Whether a task sees to the pool.
    sweeping: AtomicBool,
}

/// Conversations by what STARTTLS is to them.
struct Sessions {
    never: Arc<ClientConfig>,
    if_offered: Arc<ClientConfig>,
    required: Arc<ClientConfig>,
}

impl Smtp {
    /// A transport with this configuration.
    ///
    /// # Errors
    /// [`TlsError`], when a file of roots or of our identity cannot be used.
    pub fn new(config: SmtpConfig, resolver: Arc<dyn Resolver>) -> Result<Self, TlsError> {
        let hellos = config.sources.hellos().map(|hello| hello.as_ascii().to_owned());
        let sessions = hellos
            .chain([config.hello.clone()])
            .map(|hello| (hello.clone(), Sessions::new(config.protocol, &hello)))
            .collect();
        Ok(Self(Arc::new(Inner {
            own: OwnNames::new(config.own_names.iter().cloned()),
            bars: Bars::new(config.barred.clone()),
            resolver,
            tls: Tls::new(&config.tls)?,
            sessions,
            pool: Pool::default(),
            memory: Memory::default(),
            refusals: Refusals::default(),
            broken_tls: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
            sweeping: AtomicBool::new(false),
            config,
        })))
    }
}

impl Sessions {
    fn new(protocol: Protocol, hello: &str) -> Self {
        let session = |tls| {
            let hello = hello.to_owned();
            Arc::new(ClientConfig { protocol, hello, tls, ..ClientConfig::default() })
        };
        Self {
            never: session(Wanted::Never),
            if_offered: session(Wanted::IfOffered),
            required: session(Wanted::Required),
        }
    }
}

#[async_trait]
impl Deliverer for Smtp {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    async fn site(&self, parcel: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        Ok(self.0.site(parcel).await)
    }

    async fn explain(&self, parcel: &Parcel, how: ExplainHow) -> Vec<Finding> {
        self.0.explain(parcel, how).await
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let inner = &self.0;
        let mut tally = Tally::new(job.parcel.recipients().map(|(_, r)| r.clone()).collect());
        let user = match inner.user(&job.parcel).await {
            Ok(user) => user,
            Err(unknown) => {
                tally.settle_all(&unknown);
                return tally.finish(None);
            }
        };
        let mut sent_from = None;
        match inner.rounds(&job).await {
            Ok(mut rounds) => {
                rounds.send_as(user.as_ref());
                match inner.source(&job.parcel, || rounds.addresses()).await {
                    Ok(source) => {
                        rounds.send_from(&source);
                        inner.attempt(rounds, &job, &mut tally).await;
                        sent_from.clone_from(&source.name);
                    }
                    Err(error) => {
                        match error.is_mistake() {
                            true => tracing::error!(id = %job.parcel.id, %error, "no source"),
                            false => tracing::info!(id = %job.parcel.id, %error, "no source"),
                        }
                        tally.settle_all(&error.to_outcome());
                    }
                }
            }
            Err(unroutable) => {
                if unroutable.bogus {
                    inner.report_bogus(&job);
                }
                let no_route = unroutable.why;
                tracing::info!(id = %job.parcel.id, %no_route, "no route");
                let class = DeferClass::Dns;
                let outcome = DeliveryOutcome::refused(&no_route.to_rejection(), class);
                tally.settle_all(&outcome);
            }
        }
        tally.finish(sent_from.as_ref())
    }
}

impl Inner {
    /// Who a parcel's mail is sent as.
    async fn user(&self, parcel: &Parcel) -> Result<Option<User>, DeliveryOutcome> {
        let Some(login) = &self.config.login else { return Ok(None) };
        login.user(parcel).await.map_err(|error| {
            tracing::error!(id = %parcel.id, %error, "no account to send as");
            error.to_outcome()
        })
    }

    /// What a parcel's mail is sent from. What is handed over by LMTP stays in the operator's own
    /// network, where pools have no meaning.
    async fn source(
        &self,
        parcel: &Parcel,
        addresses: impl FnOnce() -> Vec<IpAddr>,
    ) -> Result<Arc<Source>, NoSource> {
        let sources = &self.config.sources;
        let pool = parcel.info.message.attributes.source_pool.as_deref();
        if self.config.protocol == Protocol::Lmtp || sources.pool(pool)?.is_none() {
            return Ok(sources.unnamed_source());
        }
        let site = self.resting_site(parcel).await;
        let seed = parcel.id.message.as_u64();
        let choice = Choice { pool, site: &site, addresses: &addresses(), seed };
        sources.choose(&choice, time_of_day())
    }

    /// The name under which sources rest at a parcel's site: that of its limits.
    async fn resting_site(&self, parcel: &Parcel) -> String {
        format!("{}:{}", self.config.name, self.site(parcel).await)
    }

    /// The conversations of a source.
    fn sessions(&self, source: &Source) -> &Sessions {
        let hello = source.hello.as_ref().map_or(self.config.hello.as_str(), Domain::as_ascii);
        self.sessions.get(hello).expect("there is one for every source's name")
    }

    /// Tries one round after the other, until nothing is left to try.
    async fn attempt(self: &Arc<Self>, rounds: Rounds, job: &Job, tally: &mut Tally) {
        let trip = Trip { job, survey: rounds.survey.as_ref() };
        for (host, security) in &rounds.skipped {
            tracing::info!(id = %job.parcel.id, host, %security, "host is skipped");
            self.report(trip, security, (host, None), None, &security.faults);
        }
        if let Some(failure) = &rounds.otherwise {
            tally.note(DeliveryOutcome::refused(&failure.to_rejection(), DeferClass::Security));
        }
        let mut sessions = 0;
        let mut rounds = rounds.rounds;
        if matches!(self.config.target, Target::Hosts(_)) {
            // One that stands in for another need not wait for each message until that has been
            // silent for long enough.
            rounds.sort_by_cached_key(|round| round.iter().all(|key| self.is_bad(key)));
        }
        for round in rounds {
            if round.first().is_some_and(|key| self.cannot_send(&key.source.0)) {
                break;
            }
            self.round(round, trip, tally, &mut sessions).await;
        }
        self.see_to_the_pool();
    }

    /// Tries hosts that are as good as each other, until nothing is left to try.
    async fn round(
        &self,
        mut keys: Vec<Key>,
        trip: Trip<'_>,
        tally: &mut Tally,
        sessions: &mut u32,
    ) {
        let job = trip.job;
        keys.sort_by_cached_key(|key| self.is_bad(key));
        keys.retain(|key| {
            let rests = self.refusals.rests(key);
            if rests {
                tally.note(credentials::resting(&key.host));
            }
            !rests
        });
        while !keys.is_empty() && !tally.is_settled() && *sessions < SESSIONS {
            // Who talks to us already comes first.
            let (place, kept) = match self.pool.take(&keys) {
                Some((place, connection)) => (place, Ok(connection)),
                None => match self.reach(&keys, job, tally).await {
                    Some((place, stream)) => (place, Err(stream)),
                    None => return,
                },
            };
            let reused = kept.is_ok();
            let opened = match kept {
                Ok(connection) => Ok(connection),
                Err(stream) => {
                    let key = &keys[place];
                    let opened = self.greet(trip, key, stream).await;
                    self.refusals.heard(key, &opened);
                    opened
                }
            };
            let opened = match opened {
                Ok(connection) => self.allowed(&keys[place], connection, job).await,
                Err(error) => Err(error),
            };
            let mut connection = match opened {
                Ok(connection) => connection,
                Err(error) => {
                    let host = &keys[place].host;
                    tracing::info!(id = %job.parcel.id, %host, %error, "no session");
                    tally.note(unsettled(host, &error));
                    keys.remove(place);
                    continue;
                }
            };
            match self.transactions(&mut connection, job, tally).await {
                // A connection that waited may have been closed by the other side meanwhile.
                Round::Lost { anything_said: false } if reused => continue,
                Round::Lost { .. } => {}
                Round::Done => {
                    if let Some(spent) = self.pool.put(keys[place].clone(), connection) {
                        tokio::spawn(spent.quit());
                    }
                }
            }
            *sessions += 1;
            // Another address of the same host would say the same.
            let host = keys[place].host.clone();
            keys.retain(|key| key.host != host);
        }
    }

    /// Whether it did not answer lately.
    fn is_bad(&self, key: &Key) -> bool {
        match key.endpoint {
            Endpoint::Tcp(address) => self.memory.is_bad(address.ip()),
            Endpoint::Unix(_) => false,
        }
    }

    /// Sees to it that connections do not wait longer than they may, as long as there are any.
    fn see_to_the_pool(self: &Arc<Self>) {
        if self.pool.is_empty() || self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            while !inner.pool.is_empty() {
                tokio::time::sleep(SWEEP_EVERY).await;
                for connection in inner.pool.expired(Instant::now()) {
                    tokio::spawn(connection.quit());
                }
            }
            inner.sweeping.store(false, Ordering::Release);
            // A connection that came in between found a sweeper that had looked already.
            inner.see_to_the_pool();
        });
    }
}

fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
pub(crate) mod tests;
