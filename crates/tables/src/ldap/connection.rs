//! Connections to a directory.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ldap3::adapters::EntriesOnly;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions};
use merpati_types::Secret;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(300);

/// Connections to one directory, bound and used by one search at a time.
pub(super) struct Pool {
    server: Server,
    /// As many as there may be connections.
    turns: Semaphore,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// Where the directory is, and who we are there.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) tls: Tls,
    /// Nobody: a search without a bind.
    pub(super) account: Option<Account>,
}

pub(super) enum Tls {
    None,
    /// With the first byte, as the URL says.
    Implicit(Arc<ClientConfig>),
    /// After StartTLS (RFC 4511 §4.14).
    Upgraded(Arc<ClientConfig>),
}

pub(super) struct Account {
    pub(super) dn: String,
    /// Not empty: a bind without a password succeeds for everybody (RFC 4513 §5.1.2).
    pub(super) password: Secret<String>,
}

/// What is sought.
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    pub(super) attribute: &'a str,
    /// How many values are wanted at most; one more is asked for, so that it is noticed.
    pub(super) most: usize,
    /// How long the directory may look.
    pub(super) seconds: i32,
}

struct Connection {
    ldap: Ldap,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It would end by itself, were it not that a peer who reads nothing can hold it up.
        self.driver.abort();
    }
}

impl Pool {
    pub(super) fn new(server: Server, connections: usize) -> Self {
        let turns = Semaphore::new(connections);
        Self { server, turns, idle: Mutex::new(Vec::new()) }
    }

    /// The values found, of all entries.
    pub(super) async fn search(
        &self,
        search: &Search<'_>,
    ) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let _turn = self.turns.acquire().await?;
        if let Some(mut connection) = self.rested() {
            match connection.search(search).await {
                Ok(found) => {
                    self.keep(connection);
                    return Ok(found);
                }
                Err(error) if connection.ldap.is_closed() => {
                    tracing::debug!(%error, "a connection to the directory broke");
                }
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.server.connect().await?;
        let found = connection.search(search).await?;
        self.keep(connection);
        Ok(found)
    }

    fn rested(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.retain_mut(|(connection, since)| {
            now.duration_since(*since) < IDLE && !connection.ldap.is_closed()
        });
        idle.pop().map(|(connection, _)| connection)
    }

    /// There are never more than there are turns: whoever hands one back has one.
    fn keep(&self, connection: Connection) {
        self.idle().push((connection, Instant::now()));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    async fn connect(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let settings = LdapConnSettings::new();
        let settings = match &self.tls {
            Tls::None => settings,
            Tls::Implicit(config) => settings.set_config(Arc::clone(config)),
            Tls::Upgraded(config) => settings.set_config(Arc::clone(config)).set_starttls(true),
        };
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &self.url).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to the directory ended");
            }
        });
        let mut connection = Connection { ldap, driver };
        if let Some(Account { dn, password }) = &self.account {
            connection.ldap.simple_bind(dn, password.expose()).await?.success()?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// After an error it is not to be used again.
    async fn search(
        &mut self,
        search: &Search<'_>,
    ) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let limit = i32::try_from(search.most).unwrap_or(i32::MAX).saturating_add(1);
        let bounds = SearchOptions::new().sizelimit(limit).timelimit(search.seconds);
        let Search { base, scope, filter, attribute, .. } = *search;
        let mut found = Vec::new();
        let ldap = self.ldap.with_search_options(bounds);
        let attributes = vec![attribute];
        let entries = EntriesOnly::new();
        let mut stream =
            ldap.streaming_search_with(entries, base, scope, filter, attributes).await?;
        while let Some(entry) = stream.next().await? {
            // The library panics on an entry that is none.
            let entry = catch_unwind(AssertUnwindSafe(|| SearchEntry::construct(entry)))
                .map_err(|_| "the directory sent an entry that is none")?;
            found.extend(values_of(entry, attribute)?);
            if found.len() > search.most {
                // What else there may be is nobody's business: the connection goes.
                return Ok(found);
            }
        }
        stream.finish().await.success().map_err(Box::<LdapError>::from)?;
        Ok(found)
    }
}

/// Directories write the name of an attribute as their schema does.
fn values_of(entry: SearchEntry, attribute: &str) -> Result<Vec<String>, String> {
    if entry.bin_attrs.keys().any(|name| name.eq_ignore_ascii_case(attribute)) {
        return Err(format!("`{attribute}` of {} is no text", entry.dn));
    }
    let wanted = |(name, _): &(String, Vec<String>)| name.eq_ignore_ascii_case(attribute);
    Ok(entry.attrs.into_iter().filter(wanted).flat_map(|(_, values)| values).collect())
}
