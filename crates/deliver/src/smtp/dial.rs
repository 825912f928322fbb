//! Connections: reached, secured as the host's policy wants it, and allowed.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use merpati_plugin::{Job, RemoteHost, SessionPolicy, TLS_REPORT_TAG, TlsResults, TlsSession};
use merpati_route::mta_sts::Sts;
use merpati_route::security::{Handshake, Need, Outcome as Judgement, Security, Verdict};
use merpati_route::tls_rpt::{Fault, PolicyType, ResultType};
use merpati_types::{Host, Timestamp};

use super::connection::{Connection, Dial, DialError, Insecure};
use super::egress::{ConnectError, connect};
use super::outcome::{Tally, unsettled};
use super::pool::Key;
use super::reach::{Memory, race};
use super::source::{ANYWHERE, Source, Via};
use super::stream::{Endpoint, Stream};
use super::survey::Survey;
use super::{Inner, Target, time_of_day, tls};

/// How long a failed handshake is remembered, and mail to that address sent in the clear.
const BROKEN_TLS_MEMORY: Duration = Duration::from_secs(3_600);

/// How long a source rests whose address is not there, or whose proxy fails, in milliseconds.
const SOURCE_REST_MS: i64 = 60_000;

/// One attempt, and what is known of where it leads.
#[derive(Clone, Copy)]
pub(super) struct Trip<'a> {
    pub(super) job: &'a Job,
    pub(super) survey: Option<&'a Survey>,
}

impl Inner {
    /// Connects to one of them.
    pub(super) async fn reach(
        &self,
        keys: &[Key],
        job: &Job,
        tally: &mut Tally,
    ) -> Option<(usize, Stream)> {
        let dial = |place: usize| self.dial(&keys[place], job);
        let race = race(keys.len(), dial).await;
        for (place, error) in race.failed {
            let Key { endpoint, host, .. } = &keys[place];
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
        self.connect_from(key).await
    }

    /// Whether a source has been found not to send to anybody for now.
    pub(super) fn cannot_send(&self, source: &Source) -> bool {
        let rests = self.config.sources.rests();
        let name = source.name.as_deref();
        name.is_some_and(|name| rests.is_resting(ANYWHERE, name, time_of_day()))
    }

    /// Connects from the source that the key names. One that cannot send to anybody rests.
    pub(super) async fn connect_from(&self, key: &Key) -> Result<Stream, DialError> {
        let source = &*key.source.0;
        let error = match connect(&key.endpoint, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if let (ConnectError::Source(ours), Some(name)) = (&error, &source.name) {
            if !ours.is_of_every_host(source) {
                tracing::warn!(source = %name, error = %ours, "cannot send to this host");
            } else if !self.cannot_send(source) {
                tracing::error!(source = %name, error = %ours, "source cannot send, and rests");
                let until = time_of_day().as_millis().saturating_add(SOURCE_REST_MS);
                let until = Timestamp::from_millis(until);
                self.config.sources.rests().rest(ANYWHERE, name, until);
            }
        }
        Err(error.into())
    }

    /// Asks whether mail may go over a connection.
    pub(super) async fn allowed(
        &self,
        key: &Key,
        connection: Connection,
        job: &Job,
    ) -> Result<Connection, DialError> {
        let address = key.endpoint.to_string();
        let host = RemoteHost { name: &key.host, address: &address };
        let facts = connection.tls().map(|tls| tls::facts(tls, &key.policy.0.need));
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

    /// Makes a connection ready for mail: with the TLS that its policy wants, or not at all.
    pub(super) async fn greet(
        &self,
        trip: Trip<'_>,
        key: &Key,
        stream: Stream,
    ) -> Result<Connection, DialError> {
        let security = &*key.policy.0;
        let source = sent_from(key, &stream);
        if security.need == Need::Opportunistic && self.tls_is_broken(&key.endpoint) {
            return Connection::open(self.way(key, None), stream).await;
        }
        let mut opened = Connection::open(self.way(key, Some(security)), stream).await;
        if let Err(DialError::Insecure(insecure)) = &opened
            && insecure.resumed
        {
            // The certificate is of an earlier session, and may have been renewed since.
            self.tls.forget(&security.need, key.source.0.name.as_deref());
            let stream = self.again(trip, key).await?;
            opened = Connection::open(self.way(key, Some(security)), stream).await;
        }
        match opened {
            Ok(connection) => {
                self.report(
                    trip,
                    security,
                    (&key.host, Some(&key.endpoint)),
                    source,
                    &connection.faults,
                );
                Ok(connection)
            }
            Err(DialError::Insecure(insecure)) => {
                self.report(
                    trip,
                    security,
                    (&key.host, Some(&key.endpoint)),
                    source,
                    &insecure.faults,
                );
                Err(DialError::Insecure(insecure))
            }
            Err(DialError::Tls(error)) => {
                let Verdict { outcome, reports } = security.judge(&Handshake::Failed);
                self.report(trip, security, (&key.host, Some(&key.endpoint)), source, &reports);
                match outcome {
                    Judgement::ReconnectInClear => {
                        let host = &key.host;
                        tracing::info!(host, %error, "TLS failed; trying in the clear");
                        self.remember_broken_tls(&key.endpoint);
                        let stream = self.again(trip, key).await?;
                        Connection::open(self.way(key, None), stream).await
                    }
                    Judgement::NextHost(failure) if is_disagreement(&error) => {
                        let insecure = Insecure { failure, faults: reports, resumed: false };
                        Err(DialError::Insecure(Box::new(insecure)))
                    }
                    _ => Err(DialError::Tls(error)),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// How to open a connection: as securely as `security` says, or in the clear.
    pub(super) fn way<'a>(&'a self, key: &'a Key, security: Option<&'a Security>) -> Dial<'a> {
        let sessions = self.sessions(&key.source.0);
        let session = match security.map(|security| &security.need) {
            _ if self.config.tls.implicit => &sessions.never,
            None | Some(Need::Clear) => &sessions.never,
            Some(Need::Opportunistic) => &sessions.if_offered,
            Some(_) => &sessions.required,
        };
        Dial {
            endpoint: &key.endpoint,
            host: &key.host,
            session: Arc::clone(session),
            tls: &self.tls,
            source: key.source.0.name.as_deref(),
            security,
            implicit: self.config.tls.implicit,
            user: key.user.as_ref(),
            // Hosts that are configured may be called as we are: roles of one machine.
            own_names: match self.config.target {
                Target::Mx | Target::MxOf(_) => &self.config.own_names,
                Target::Hosts(_) | Target::Unix(_) => &[],
            },
        }
    }

    /// Connects a second time.
    async fn again(&self, trip: Trip<'_>, key: &Key) -> Result<Stream, DialError> {
        trip.job.notes.connecting();
        self.connect_from(key).await
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

    /// Tells how a session went, for the domain's reports.
    pub(super) fn report(
        &self,
        trip: Trip<'_>,
        security: &Security,
        (host, endpoint): (&str, Option<&Endpoint>),
        source: Option<IpAddr>,
        faults: &[Fault],
    ) {
        let (Some(results), Some(survey)) = (self.results(trip.job), trip.survey) else { return };
        let (Target::Mx, Host::Domain(domain)) = (&self.config.target, &survey.domain) else {
            return;
        };
        let mut kinds = security.policies();
        let more = faults.iter().map(|fault| fault.policy);
        more.for_each(|kind| {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        });
        let address = match endpoint {
            Some(Endpoint::Tcp(address)) => Some(address.ip()),
            _ => None,
        };
        results.tried(TlsSession {
            domain: domain.clone(),
            policies: kinds.into_iter().map(|kind| policy(kind, security, survey)).collect(),
            host: host.to_owned(),
            address,
            source,
            hello: None,
            faults: faults.to_vec(),
        });
    }

    /// Who hears of the sessions of a job, if anybody does.
    fn results(&self, job: &Job) -> Option<&dyn TlsResults> {
        let tags = &job.parcel.info.message.attributes.tags;
        self.config.tls_results.as_deref().filter(|_| !tags.contains_key(TLS_REPORT_TAG))
    }

    /// Tells that nobody could be found out to connect to, since signatures do not hold.
    pub(super) fn report_bogus(&self, job: &Job) {
        let (Some(results), Target::Mx) = (self.results(job), &self.config.target) else {
            return;
        };
        let next_hop = job.parcel.next_hop.as_str();
        let Ok(Host::Domain(domain)) = Host::parse(next_hop) else { return };
        let kind = PolicyType::Tlsa;
        results.tried(TlsSession {
            host: domain.as_ascii().to_owned(),
            domain,
            policies: vec![SessionPolicy { kind, text: Vec::new(), hosts: Vec::new() }],
            address: None,
            source: None,
            hello: None,
            faults: vec![Fault { policy: kind, result: ResultType::DnssecInvalid }],
        });
    }
}

/// The address that the host sees, as far as that is known.
fn sent_from(key: &Key, stream: &Stream) -> Option<IpAddr> {
    match (&key.source.0.via, &key.endpoint) {
        (Via::Direct, _) | (_, Endpoint::Unix(_)) => stream.local_ip(),
        (_, Endpoint::Tcp(to)) => key.source.0.address_for(to.ip()),
    }
}

/// Whether the two could not agree, rather than that the connection broke.
fn is_disagreement(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn policy(kind: PolicyType, security: &Security, survey: &Survey) -> SessionPolicy {
    let (mut text, mut hosts) = (Vec::new(), Vec::new());
    match (kind, &security.need) {
        (PolicyType::Tlsa, Need::Dane { records, .. }) => {
            text = records.iter().map(ToString::to_string).collect();
        }
        (PolicyType::Sts, _) => {
            if let Sts::Policy(policy) = survey.sts(time_of_day()) {
                text = policy.to_string().lines().map(str::to_owned).collect();
                hosts = policy.mx.iter().map(ToString::to_string).collect();
            }
        }
        _ => {}
    }
    SessionPolicy { kind, text, hosts }
}
