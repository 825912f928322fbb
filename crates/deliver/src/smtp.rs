//! Delivery over SMTP and LMTP: by MX, or to one configured host.

mod connection;
mod outcome;
mod plan;
mod pool;
mod reach;
mod stream;
mod tls;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use merpati_plugin::deliver::{
    AttemptNotes, DeferClass, DeliveryOutcome, DeliveryResult, Handover,
};
use merpati_plugin::spool::{DeliverBy, NewMessage, Parcel};
use merpati_plugin::{Deliverer, Job, RemoteHost, Resolver, async_trait};
use merpati_route::OwnNames;
use merpati_session::client::{ClientConfig, Outgoing, Protocol, Tls};
use merpati_types::{Domain, Host, Recipient, Severity, Status, Timestamp};
use merpati_wire::{By, Priority};
use tokio::sync::Semaphore;

pub use connection::Credentials;
pub use tls::{Roots, RootsError, TlsPolicy};

use connection::{Connection, Dial, DialError, Sent};
use outcome::{Tally, unsettled};
use pool::{Key, Pool};
use reach::{Memory, race};
use stream::{Endpoint, Stream};

/// How long a failed handshake is remembered, and mail to that address sent in the clear.
const BROKEN_TLS_MEMORY: Duration = Duration::from_secs(3_600);
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
    /// To this host, whatever the domain.
    Host(Host),
    /// To this Unix socket.
    Unix(PathBuf),
}

/// A transport's configuration.
#[derive(Clone, Debug)]
pub struct SmtpConfig {
    /// The transport's name.
    pub name: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: Target,
    /// The port.
    pub port: u16,
    /// The name we give in hello.
    pub hello: String,
    /// What is wanted of TLS.
    pub tls: TlsPolicy,
    /// Who we are to the server.
    pub credentials: Option<Credentials>,
    /// Names by which an MX host is ourselves.
    pub own_names: Vec<Domain>,
    /// Addresses to connect from, at most one of each family; none leaves it to the system.
    pub source: Vec<IpAddr>,
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
    resolver: Arc<dyn Resolver>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// With STARTTLS as the policy wants it, and without.
    session: Arc<ClientConfig>,
    clear_session: Arc<ClientConfig>,
    pool: Pool,
    memory: Memory,
    broken_tls: Mutex<HashMap<IpAddr, Instant>>,
    lookups: Semaphore,
    /// Whether a task sees to the pool.
    sweeping: AtomicBool,
}

impl Smtp {
    /// A transport with this configuration.
    ///
    /// # Errors
    /// [`RootsError`], when the configured roots cannot be used.
    pub fn new(config: SmtpConfig, resolver: Arc<dyn Resolver>) -> Result<Self, RootsError> {
        let tls = config.tls.client_config()?;
        let session = |tls| {
            let hello = config.hello.clone();
            let protocol = config.protocol;
            Arc::new(ClientConfig { protocol, hello, tls, ..ClientConfig::default() })
        };
        let wanted = match &config.tls {
            TlsPolicy::Never | TlsPolicy::Implicit(_) => Tls::Never,
            TlsPolicy::Opportunistic => Tls::IfOffered,
            TlsPolicy::Encrypt | TlsPolicy::Verify(_) => Tls::Required,
        };
        Ok(Self(Arc::new(Inner {
            own: OwnNames::new(config.own_names.iter().cloned()),
            resolver,
            tls,
            session: session(wanted),
            clear_session: session(Tls::Never),
            pool: Pool::default(),
            memory: Memory::default(),
            broken_tls: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
            sweeping: AtomicBool::new(false),
            config,
        })))
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

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let inner = &self.0;
        let mut tally = Tally::new(job.parcel.recipients().map(|(_, r)| r.clone()).collect());
        match inner.rounds(&job.parcel).await {
            Ok(rounds) => {
                let mut sessions = 0;
                for round in rounds {
                    inner.round(round, &job, &mut tally, &mut sessions).await;
                }
                inner.see_to_the_pool();
            }
            Err(no_route) => {
                tracing::info!(id = %job.parcel.id, %no_route, "no route");
                let class = DeferClass::Dns;
                let outcome = DeliveryOutcome::refused(&no_route.to_rejection(), class);
                tally.settle_all(&outcome);
            }
        }
        tally.finish()
    }
}

impl Inner {
    /// Tries hosts that are as good as each other, until nothing is left to try.
    async fn round(&self, mut keys: Vec<Key>, job: &Job, tally: &mut Tally, sessions: &mut u32) {
        let is_bad = |key: &Key| match key.endpoint {
            Endpoint::Tcp(address) => self.memory.is_bad(address.ip()),
            Endpoint::Unix(_) => false,
        };
        keys.sort_by_cached_key(is_bad);
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
                Err(stream) => self.greet(&keys[place], stream, job.notes.as_ref()).await,
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

    /// Connects to one of them.
    async fn reach(&self, keys: &[Key], job: &Job, tally: &mut Tally) -> Option<(usize, Stream)> {
        let dial = |place: usize| self.dial(&keys[place], job);
        let race = race(keys.len(), dial).await;
        for (place, error) in race.failed {
            let Key { endpoint, host } = &keys[place];
            tracing::info!(id = %job.parcel.id, host, %endpoint, %error, "no connection");
            tally.note(unsettled(host, &error));
            if matches!(error, DialError::Io(_)) {
                self.remember(endpoint, Memory::failed);
            }
        }
        for place in race.late {
            self.remember(&keys[place].endpoint, Memory::failed);
        }
        if let Some((place, _)) = &race.won {
            self.remember(&keys[*place].endpoint, Memory::answered);
        }
        race.won
    }

    async fn dial(&self, key: &Key, job: &Job) -> Result<Stream, DialError> {
        let address = key.endpoint.to_string();
        let host = RemoteHost { name: &key.host, address: &address };
        job.outbound.dial(&job.parcel, host).await.map_err(DialError::Stopped)?;
        job.notes.connecting();
        Ok(Stream::connect(&key.endpoint, &self.config.source).await?)
    }

    /// Asks whether mail may go over a connection.
    async fn allowed(
        &self,
        key: &Key,
        connection: Connection,
        job: &Job,
    ) -> Result<Connection, DialError> {
        let address = key.endpoint.to_string();
        let host = RemoteHost { name: &key.host, address: &address };
        let facts = connection.tls().map(|tls| tls::facts(tls, &self.config.tls));
        match job.outbound.tls(&job.parcel, host, facts.as_ref()).await {
            Ok(()) => Ok(connection),
            Err(why) => {
                tokio::spawn(connection.quit());
                Err(DialError::Stopped(why))
            }
        }
    }

    fn remember(&self, endpoint: &Endpoint, what: impl Fn(&Memory, IpAddr)) {
        if let Endpoint::Tcp(address) = endpoint {
            what(&self.memory, address.ip());
        }
    }

    /// Sends the message over one connection, in as many transactions as the server's limit on
    /// recipients asks for.
    async fn transactions(
        &self,
        connection: &mut Connection,
        job: &Job,
        tally: &mut Tally,
    ) -> Round {
        let offered = connection.offered().limits.and_then(|limits| limits.rcpt_max);
        let own = self.config.recipients;
        let limit = offered.map_or(own, |max| own.min(max as usize));
        let handover = match (self.config.protocol, connection.offered().dsn) {
            (Protocol::Lmtp, _) => Handover::Final,
            (Protocol::Smtp, true) => Handover::PassedOn,
            (Protocol::Smtp, false) => Handover::Relayed,
        };
        let peer = connection.peer.clone();
        // Every recipient once over this connection; those deferred may have another host's turn.
        let open = tally.open();
        for batch in open.chunks(limit.max(1)) {
            let outgoing = outgoing(job, tally.recipients(batch));
            match connection.send(outgoing, job.message.as_ref(), job.notes.as_ref()).await {
                Sent::Finished(outcomes) => {
                    for (&place, outcome) in batch.iter().zip(outcomes) {
                        tally.hear(place, &outcome, &peer, handover);
                    }
                }
                Sent::Mismatch(mismatch) => {
                    let (status, severity) = outcome::of_mismatch(mismatch);
                    let outcome = DeliveryOutcome {
                        result: DeliveryResult::Failed { status: status.with(severity) },
                        // Our own finding: no server said it (RFC 3464 §2.3.6).
                        remote: None,
                        diagnostic: format!("{mismatch}: {peer}"),
                    };
                    tally.settle(batch, &outcome);
                }
                Sent::Unreadable(error) => {
                    tracing::error!(id = %job.parcel.id, %error, "cannot read the message");
                    let status = Status::SYSTEM.with(Severity::Transient);
                    tally.note(DeliveryOutcome {
                        result: DeliveryResult::Deferred { status, class: DeferClass::Local },
                        remote: None,
                        diagnostic: "the message cannot be read now".to_owned(),
                    });
                    tally.stop();
                    return Round::Lost { anything_said: true };
                }
                Sent::Lost { why, known, in_doubt } => {
                    let mut anything_said = in_doubt;
                    for (&place, outcome) in batch.iter().zip(&known) {
                        if let Some(outcome) = outcome {
                            anything_said = true;
                            tally.hear(place, outcome, &peer, handover);
                        }
                    }
                    tracing::info!(id = %job.parcel.id, %peer, %why, in_doubt, "session lost");
                    tally.note(outcome::lost(&peer, why, in_doubt));
                    if in_doubt {
                        // Another host must not get a second copy of what this one may have.
                        tally.stop();
                    }
                    return Round::Lost { anything_said };
                }
            }
        }
        Round::Done
    }

    /// Makes a connection ready for mail.
    async fn greet(
        &self,
        key: &Key,
        stream: Stream,
        notes: &dyn AttemptNotes,
    ) -> Result<Connection, DialError> {
        let implicit = matches!(self.config.tls, TlsPolicy::Implicit(_));
        let opportunistic = self.config.tls == TlsPolicy::Opportunistic;
        let clear = opportunistic && self.tls_is_broken(&key.endpoint);
        let dial = |clear: bool| Dial {
            endpoint: &key.endpoint,
            host: &key.host,
            session: Arc::clone(if clear { &self.clear_session } else { &self.session }),
            tls: self.tls.clone().filter(|_| !clear),
            implicit,
            credentials: self.config.credentials.as_ref(),
        };
        match Connection::open(dial(clear), stream).await {
            Err(DialError::Tls(error)) if opportunistic => {
                tracing::info!(host = %key.host, %error, "TLS failed; trying in the clear");
                self.remember_broken_tls(&key.endpoint);
                notes.connecting();
                let stream = Stream::connect(&key.endpoint, &self.config.source).await?;
                Connection::open(dial(true), stream).await
            }
            other => other,
        }
    }

    fn tls_is_broken(&self, endpoint: &Endpoint) -> bool {
        let Endpoint::Tcp(address) = endpoint else { return true };
        let broken = self.broken_tls.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get(&address.ip()).is_some_and(|since| since.elapsed() < BROKEN_TLS_MEMORY)
    }

    fn remember_broken_tls(&self, endpoint: &Endpoint) {
        let Endpoint::Tcp(address) = endpoint else { return };
        let mut broken = self.broken_tls.lock().unwrap_or_else(PoisonError::into_inner);
        broken.retain(|_, since| since.elapsed() < BROKEN_TLS_MEMORY);
        broken.insert(address.ip(), Instant::now());
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

/// How a round over one connection ended.
enum Round {
    /// The connection can be used again.
    Done,
    /// The connection is gone.
    Lost {
        /// Whether the server has said anything about the message, or may have it.
        anything_said: bool,
    },
}

fn outgoing(job: &Job, recipients: Vec<Recipient>) -> Outgoing {
    let NewMessage { envelope, attributes, .. } = &job.parcel.info.message;
    let time_left = |by: &DeliverBy| {
        let left = by.at.as_millis().saturating_sub(time_of_day().as_millis());
        By::new(left.div_euclid(1_000), by.mode, by.trace)
    };
    Outgoing {
        sender: envelope.sender.clone(),
        recipients,
        body: envelope.body,
        smtputf8: envelope.smtputf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        by: attributes.deliver_by.as_ref().map(time_left),
        requiretls: envelope.requiretls,
        priority: Priority::new(attributes.priority).unwrap_or_default(),
        size: job.message.size(),
    }
}

fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
