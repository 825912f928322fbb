//! Connections that wait for the next message to the same place.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use merpati_route::security::Security;

use super::connection::Connection;
use super::credentials::User;
use super::source::SentFrom;
use super::stream::Endpoint;

/// How long a connection may wait. Servers count idle connections against us.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// The most connections that wait, in all.
const POOL_LIMIT: usize = 200;
/// The most messages over one connection, unless the server names fewer (RFC 9422).
const USE_LIMIT: u32 = 1_000;

/// Idle connections of one transport.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Connection>>>,
}

/// What two messages must have in common to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) endpoint: Endpoint,
    /// Its name.
    pub(crate) host: String,
    /// What it had to present.
    pub(crate) policy: Policy,
    /// Who we are to it, if we tell.
    pub(crate) user: Option<User>,
    /// Where it was made from.
    pub(crate) source: SentFrom,
}

/// What a host needs to get a message. Two are the same if a connection that satisfies one
/// satisfies the other.
#[derive(Clone, Debug)]
pub(crate) struct Policy(pub(crate) Arc<Security>);

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.0.need == other.0.need && self.0.asked == other.0.asked
    }
}

impl Eq for Policy {}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.need.hash(state);
        self.0.asked.hash(state);
    }
}

impl Pool {
    /// A connection that waits for mail to one of these, and to which; the last one used first.
    pub(crate) fn take(&self, keys: &[Key]) -> Option<(usize, Connection)> {
        let mut idle = self.idle();
        keys.iter().enumerate().find_map(|(place, key)| {
            let waiting = idle.get_mut(key)?;
            let connection = waiting.pop();
            if waiting.is_empty() {
                idle.remove(key);
            }
            let connection = connection.filter(|c| c.idle_since.elapsed() < IDLE_LIMIT)?;
            Some((place, connection))
        })
    }

    /// Keeps a connection, or answers it if it has had its share.
    pub(crate) fn put(&self, key: Key, connection: Connection) -> Option<Connection> {
        let offered = connection.offered().limits.and_then(|limits| limits.mail_max);
        if connection.used >= offered.unwrap_or(USE_LIMIT).min(USE_LIMIT) {
            return Some(connection);
        }
        let mut idle = self.idle();
        if idle.values().map(Vec::len).sum::<usize>() >= POOL_LIMIT {
            return Some(connection);
        }
        idle.entry(key).or_default().push(connection);
        None
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.idle().is_empty()
    }

    /// Connections that have waited too long; somebody takes leave of them.
    pub(crate) fn expired(&self, now: Instant) -> Vec<Connection> {
        let mut idle = self.idle();
        let mut expired = Vec::new();
        idle.retain(|_, waiting| {
            let old = |c: &mut Connection| now.duration_since(c.idle_since) >= IDLE_LIMIT;
            expired.extend(waiting.extract_if(.., old));
            !waiting.is_empty()
        });
        expired
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Key, Vec<Connection>>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
