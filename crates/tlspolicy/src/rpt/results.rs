//! Counts of sessions, by day and domain, that survive a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use merpati_journal::OsDisk;
use merpati_ledger::{Change, Ledger, LedgerError, Limits};
use merpati_plugin::{TlsResults, TlsSession};
use merpati_types::{Domain, Timestamp};
use serde::{Deserialize, Serialize};

use super::report::{PolicyEntry, count};
use super::{DAY_MS, ResultsError};

/// The most domains, each day for itself, that are counted.
const ENTRIES: usize = 20_000;
/// Octets of counts that are kept.
const LIMITS: Limits = Limits { facts: 64 << 20, segment: 1 << 20 };
/// How many entries one commit writes.
const BATCH: usize = 32;
/// The key of what tells this place from others of the same name.
const TOKEN: &[u8] = b"token";
/// What keys of counts begin with.
const PREFIX: &[u8] = b"day/";

/// Counts sessions. Clones share the counts.
#[derive(Clone)]
pub struct Results(Arc<Inner>);

struct Inner {
    now: fn() -> Timestamp,
    token: String,
    counts: Mutex<Counts>,
    ledger: Arc<Mutex<Ledger>>,
    /// Held from reading the counts to having them written, so that what is older is not written
    /// over what is newer.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Counts {
    entries: BTreeMap<Key, Entry>,
    /// What the ledger has not heard of.
    unwritten: BTreeSet<Key>,
    /// The last day on which there was no room.
    full: Option<i64>,
}

/// Whose counts, of which day since 1970.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) day: i64,
    pub(super) domain: Domain,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) policies: Vec<PolicyEntry>,
    /// Where the report has been sent already.
    #[serde(default)]
    pub(super) sent: Vec<String>,
    /// No attempt before.
    #[serde(skip)]
    pub(super) retry: Option<Timestamp>,
}

impl Key {
    fn to_bytes(&self) -> Bytes {
        Bytes::from(format!("day/{}/{}", self.day, self.domain.as_ascii()))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.strip_prefix(PREFIX)?).ok()?;
        let (day, domain) = text.split_once('/')?;
        Some(Self { day: day.parse().ok()?, domain: Domain::parse(domain).ok()? })
    }
}

impl Results {
    /// Opens the counts kept in `directory`, which is made if need be. Blocks on the disk.
    ///
    /// # Errors
    /// [`ResultsError`].
    pub fn open(directory: &Path, now: fn() -> Timestamp) -> Result<Self, ResultsError> {
        let place = || directory.display().to_string();
        let io = |reason| ResultsError::Io { directory: place(), reason };
        let unusable = |reason| ResultsError::Directory { directory: place(), reason };
        std::fs::create_dir_all(directory).map_err(io)?;
        let disk = Arc::new(OsDisk::open(directory).map_err(io)?);
        let (mut ledger, recovery) = Ledger::open(disk, LIMITS).map_err(unusable)?;
        for damage in &recovery.damage {
            tracing::warn!(directory = place(), ?damage, "counts of TLS sessions are lost");
        }
        let mut counts = Counts::default();
        for (key, value) in ledger.with_prefix(PREFIX) {
            match (Key::from_bytes(key), serde_json::from_slice(value)) {
                (Some(key), Ok(entry)) => drop(counts.entries.insert(key, entry)),
                _ => tracing::warn!(directory = place(), "counts of TLS sessions make no sense"),
            }
        }
        let kept = ledger.get(TOKEN).and_then(|token| String::from_utf8(token.to_vec()).ok());
        let token = match kept {
            Some(token) => token,
            None => {
                let token = format!("{:016x}", RandomState::new().build_hasher().finish());
                ledger.commit(&[Change::put(TOKEN, token.clone())]).map_err(unusable)?;
                token
            }
        };
        Ok(Self(Arc::new(Inner {
            now,
            token,
            counts: Mutex::new(counts),
            ledger: Arc::new(Mutex::new(ledger)),
            writing: tokio::sync::Mutex::default(),
        })))
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.0.now)()
    }

    /// Tells this place from others of the same name.
    pub(super) fn token(&self) -> &str {
        &self.0.token
    }

    /// Those counts of days before this one that are wanted.
    pub(super) fn before(
        &self,
        day: i64,
        wanted: impl Fn(&Key, &Entry) -> bool,
    ) -> Vec<(Key, Entry)> {
        let counts = self.counts();
        let ended = counts.entries.iter().take_while(|(key, _)| key.day < day);
        let wanted = ended.filter(|(key, entry)| wanted(key, entry));
        wanted.map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    /// Changes an entry, if it is still there; durable with the next [`Self::write`].
    pub(super) fn change(&self, key: &Key, change: impl FnOnce(&mut Entry)) {
        let mut counts = self.counts();
        if let Some(entry) = counts.entries.get_mut(key) {
            change(entry);
            counts.unwritten.insert(key.clone());
        }
    }

    /// Forgets an entry; durable with the next [`Self::write`].
    pub(super) fn remove(&self, key: &Key) {
        let mut counts = self.counts();
        if counts.entries.remove(key).is_some() {
            counts.unwritten.insert(key.clone());
        }
    }

    /// Makes durable what has changed since the last time. What the disk does not take is tried
    /// again by the next call.
    pub async fn write(&self) {
        let _turn = self.0.writing.lock().await;
        loop {
            let batch: Vec<(Key, Change)> = {
                let mut counts = self.counts();
                let keys: Vec<_> = counts.unwritten.iter().take(BATCH).cloned().collect();
                let changes = keys.into_iter().map(|key| {
                    counts.unwritten.remove(&key);
                    let change = counts.change(&key);
                    (key, change)
                });
                changes.collect()
            };
            if batch.is_empty() {
                return;
            }
            let (keys, changes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let ledger = Arc::clone(&self.0.ledger);
            let commit = move || {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.commit(&changes)
            };
            match tokio::task::spawn_blocking(commit).await {
                Ok(Ok(())) => {}
                Ok(Err(error @ LedgerError::Unavailable(_))) => {
                    tracing::warn!(%error, "counts of TLS sessions cannot be written now");
                    self.counts().unwritten.extend(keys);
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "counts of TLS sessions are not kept"),
                Err(error) => tracing::error!(%error, "counts of TLS sessions are not kept"),
            }
        }
    }

    /// Counts a session of this moment.
    pub(super) fn count(&self, session: &TlsSession, now: Timestamp) {
        let day = now.as_millis().div_euclid(DAY_MS);
        let key = Key { day, domain: session.domain.clone() };
        let mut counts = self.counts();
        if counts.entries.len() >= ENTRIES && !counts.entries.contains_key(&key) {
            if counts.full.replace(day) != Some(day) {
                tracing::warn!(domain = %key.domain, "no room to count more TLS sessions");
            }
            return;
        }
        let entry = counts.entries.entry(key.clone()).or_default();
        if !count(&mut entry.policies, session) {
            tracing::debug!(domain = %key.domain, "a TLS session under too many policies");
        }
        counts.unwritten.insert(key);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The maps are whole between statements, so a panic elsewhere leaves them usable.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn change(&self, key: &Key) -> Change {
        match self.entries.get(key) {
            Some(entry) => {
                let value = serde_json::to_vec(entry).expect("strings and numbers can be written");
                Change::put(key.to_bytes(), value)
            }
            None => Change::remove(key.to_bytes()),
        }
    }
}

impl TlsResults for Results {
    fn tried(&self, session: TlsSession) {
        self.count(&session, self.now());
    }
}

/// A place for counts that are opened later: until then nothing is counted. Clones share it.
#[derive(Clone, Default)]
pub struct ResultsSlot(Arc<OnceLock<Results>>);

impl ResultsSlot {
    /// Puts counts in their place; second ones are not looked at.
    pub fn connect(&self, results: Results) {
        let _ = self.0.set(results);
    }
}

impl TlsResults for ResultsSlot {
    fn tried(&self, session: TlsSession) {
        if let Some(results) = self.0.get() {
            results.tried(session);
        }
    }
}
