//! Connections to a directory.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ldap3::adapters::EntriesOnly;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, SearchOptions};
use merpati_types::Secret;
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use crate::pool::Pool;

/// RFC 4511 §4.1.9.
const SIZE_LIMIT_EXCEEDED: u32 = 4;

/// Where the directory is, and who we are there.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) tls: Tls,
    /// Nobody: a search without a bind.
    pub(super) account: Option<Account>,
    pub(super) pool: Pool<Connection>,
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

/// Bound, and used by one search at a time.
pub(super) struct Connection {
    ldap: Ldap,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It would end by itself, were it not that a peer who reads nothing can hold it up.
        self.driver.abort();
    }
}

impl Server {
    /// The values found, of all entries.
    pub(super) async fn search(
        &self,
        search: &Search<'_>,
    ) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let _turn = self.pool.turn().await;
        if let Some(mut connection) = self.pool.rested(|rested| !rested.ldap.is_closed()) {
            match connection.search(search).await {
                Ok(found) => {
                    self.pool.keep(connection);
                    return Ok(found);
                }
                Err(error) => tracing::debug!(%error, "a connection to the directory failed"),
            }
        }
        let mut connection = self.connect().await?;
        let found = connection.search(search).await?;
        self.pool.keep(connection);
        Ok(found)
    }

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
            // Too many are too many; the directory sends few more, since it has been asked to.
            if found.len() <= search.most {
                found.extend(values_of(entry, attribute)?);
            }
        }
        let result = stream.finish().await;
        if result.rc != SIZE_LIMIT_EXCEEDED || found.len() <= search.most {
            result.success()?;
        }
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
