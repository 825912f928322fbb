//! MTA-STS policies: looked up, fetched, kept.

mod fetch;
mod kept;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use merpati_http::Client;
use merpati_ledger::LedgerError;
use merpati_plugin::{ResolveError, Resolver, StsPolicies, async_trait};
use merpati_route::NoRecord;
use merpati_route::mta_sts::{Memory, PolicyId, Step, Sts, TxtAnswer, find_id, record_name};
use merpati_types::{Domain, Timestamp};
use tokio::sync::{Semaphore, watch};

use kept::Kept;

/// The most domains that are remembered.
const DOMAINS: usize = 10_000;
/// The most fetches at once.
const FETCHES: usize = 8;

/// How policies are fetched.
#[derive(Clone, Debug)]
pub struct StsSettings {
    /// The port of policy hosts: 443 but for tests.
    pub port: u16,
    /// The time of day.
    pub now: fn() -> Timestamp,
}

impl Default for StsSettings {
    fn default() -> Self {
        Self { port: 443, now: time_of_day }
    }
}

/// Why policies cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StsError {
    /// The directory cannot be used.
    #[error("{directory}: {reason}")]
    Directory {
        /// Which.
        directory: String,
        /// What is wrong with it.
        reason: LedgerError,
    },
    /// The directory is not there, or not ours.
    #[error("{directory}: {reason}")]
    Io {
        /// Which.
        directory: String,
        /// What the system says.
        reason: std::io::Error,
    },
}

/// Knows the MTA-STS policies of domains.
#[derive(Clone)]
pub struct StsStore(Arc<Inner>);

struct Inner {
    resolver: Arc<dyn Resolver>,
    client: Client,
    port: u16,
    now: fn() -> Timestamp,
    kept: Arc<Kept>,
    known: Mutex<HashMap<Domain, Known>>,
    fetches: Semaphore,
}

/// What is known of a domain.
#[derive(Default)]
struct Known {
    memory: Memory,
    /// Ends when the fetch that is under way does.
    fetching: Option<watch::Receiver<()>>,
}

impl StsStore {
    /// Opens the policies kept in `directory`, which is made if need be. Records are looked up by
    /// `resolver`, policies fetched by `client`.
    ///
    /// # Errors
    /// [`StsError`].
    pub fn open(
        directory: &Path,
        resolver: Arc<dyn Resolver>,
        client: Client,
        settings: &StsSettings,
    ) -> Result<Self, StsError> {
        let (kept, policies) = Kept::open(directory)?;
        let known = policies.into_iter().map(|(domain, cached)| {
            (domain, Known { memory: Memory::restored(cached), fetching: None })
        });
        Ok(Self(Arc::new(Inner {
            resolver,
            client,
            port: settings.port,
            now: settings.now,
            kept: Arc::new(kept),
            known: Mutex::new(known.take(DOMAINS).collect()),
            fetches: Semaphore::new(FETCHES),
        })))
    }
}

/// A place for a store that is opened later: until then no domain has a policy. Clones share it.
#[derive(Clone, Default)]
pub struct StsSlot(Arc<OnceLock<StsStore>>);

impl StsSlot {
    /// Puts a store in its place; a second one is not looked at.
    pub fn connect(&self, store: StsStore) {
        let _ = self.0.set(store);
    }
}

#[async_trait]
impl StsPolicies for StsSlot {
    async fn policy(&self, domain: &Domain) -> Memory {
        match self.0.get() {
            Some(store) => store.policy(domain).await,
            None => Memory::default(),
        }
    }
}

#[async_trait]
impl StsPolicies for StsStore {
    async fn policy(&self, domain: &Domain) -> Memory {
        let inner = &self.0;
        let answer = inner.record(domain).await;
        let now = (inner.now)();
        let (memory, fetching) = {
            let mut known = inner.known();
            let Some(entry) = entry(&mut known, domain, &answer, now) else {
                return Memory::default();
            };
            if let Step::Fetch(id) = entry.memory.handle_record(&answer, now)
                && entry.fetching.is_none()
            {
                entry.fetching = Some(inner.begin(domain.clone(), id));
            }
            (entry.memory.clone(), entry.fetching.clone())
        };
        // A policy that counts is renewed beside.
        let Some(mut fetching) = fetching.filter(|_| !counts(&memory, now)) else { return memory };
        // It ends by being dropped, within the time of a fetch.
        while fetching.changed().await.is_ok() {}
        inner.known().get(domain).map_or(memory, |entry| entry.memory.clone())
    }
}

/// What is known of a domain; nothing is begun for one without a policy, or where there is no room.
fn entry<'a>(
    known: &'a mut HashMap<Domain, Known>,
    domain: &Domain,
    answer: &TxtAnswer,
    now: Timestamp,
) -> Option<&'a mut Known> {
    if !known.contains_key(domain) {
        if !matches!(answer, TxtAnswer::Id(_)) {
            return None;
        }
        if known.len() >= DOMAINS {
            known.retain(|_, other| other.fetching.is_some() || counts(&other.memory, now));
        }
        if known.len() >= DOMAINS {
            tracing::warn!(%domain, "no room for another MTA-STS policy");
            return None;
        }
    }
    Some(known.entry(domain.clone()).or_default())
}

fn counts(memory: &Memory, now: Timestamp) -> bool {
    matches!(memory.state(now), Sts::Policy(_))
}

impl Inner {
    async fn record(&self, domain: &Domain) -> TxtAnswer {
        let Some(name) = record_name(domain) else {
            return TxtAnswer::NoRecord(NoRecord::Absent);
        };
        match self.resolver.txt(&name).await {
            Ok(answer) => find_id(answer.records.iter().map(Vec::as_slice)).into(),
            Err(ResolveError::NoData(_) | ResolveError::NxDomain(_)) => {
                TxtAnswer::NoRecord(NoRecord::Absent)
            }
            Err(_) => TxtAnswer::Unknown,
        }
    }

    /// Begins a fetch; what is answered ends with it.
    fn begin(self: &Arc<Self>, domain: Domain, id: PolicyId) -> watch::Receiver<()> {
        let (under_way, ended) = watch::channel(());
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            inner.fetch(&domain, id).await;
            if let Some(entry) = inner.known().get_mut(&domain) {
                entry.fetching = None;
            }
            // Who waits may close the store next.
            drop(inner);
            drop(under_way);
        });
        ended
    }

    async fn fetch(&self, domain: &Domain, id: PolicyId) {
        let fetched = {
            let _permit = self.fetches.acquire().await;
            fetch::policy(&self.client, domain, self.port).await
        };
        let now = (self.now)();
        let cached = {
            let mut known = self.known();
            let Some(entry) = known.get_mut(domain) else { return };
            match fetched {
                Ok(policy) => {
                    let mode = policy.mode.as_str();
                    tracing::info!(%domain, id = id.as_str(), mode, "MTA-STS policy fetched");
                    entry.memory.handle_policy(id, policy, now);
                }
                Err((fault, why)) => {
                    tracing::info!(%domain, id = id.as_str(), %fault, why, "no MTA-STS policy");
                    entry.memory.handle_failure(id, fault, now);
                    if let Some(fault) = entry.memory.renewal_fails(now) {
                        tracing::warn!(%domain, %fault, "an MTA-STS policy cannot be renewed");
                    }
                    return;
                }
            }
            entry.memory.cached().cloned()
        };
        if let Some(cached) = cached {
            self.kept.keep(domain, &cached).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Domain, Known>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time_of_day() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
