//! The databases there are drivers for, and connections to them.

use std::error::Error;
use std::time::Duration;

use futures_util::TryStreamExt as _;
#[cfg(feature = "sql-mysql")]
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::pool::{PoolConnection, PoolOptions};
#[cfg(feature = "sql-postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};
#[cfg(feature = "sql-sqlite")]
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions as _, Database, Decode, Encode, Executor,
    IntoArguments, Row as _, Type,
};

use super::config::Source;
#[cfg(any(feature = "sql-mysql", feature = "sql-postgres"))]
use super::config::Tls;
use super::query::Placeholder;

/// How old a connection may become, so that a database that has moved is found again.
const LIFETIME: Duration = Duration::from_secs(1800);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(300);

/// Why there is no such database.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("expected a URL with sqlite:, postgres: or mysql:")]
    Scheme,
    #[cfg(not(all(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite")))]
    #[error("this server is built without this database (cargo feature `{feature}`)")]
    NotBuilt { feature: &'static str },
    #[error("{0}")]
    Url(#[source] Box<dyn Error + Send + Sync>),
}

/// How a database is reached.
pub(super) enum Target {
    #[cfg(feature = "sql-sqlite")]
    Sqlite(Box<SqliteConnectOptions>),
    #[cfg(feature = "sql-postgres")]
    Postgres(Box<PgConnectOptions>),
    #[cfg(feature = "sql-mysql")]
    MySql(Box<MySqlConnectOptions>),
}

/// Connections to a database.
pub(super) enum Pool {
    #[cfg(feature = "sql-sqlite")]
    Sqlite(sqlx::SqlitePool),
    #[cfg(feature = "sql-postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "sql-mysql")]
    MySql(sqlx::MySqlPool),
}

impl Target {
    pub(super) fn new(source: &Source) -> Result<Self, TargetError> {
        match source.url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Self::sqlite(source),
            Some("postgres" | "postgresql") => Self::postgres(source),
            Some("mysql" | "mariadb") => Self::mysql(source),
            _ => Err(TargetError::Scheme),
        }
    }

    #[cfg(feature = "sql-sqlite")]
    fn sqlite(source: &Source) -> Result<Self, TargetError> {
        let options: SqliteConnectOptions = parse(&source.url)?;
        let options = options
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(source.timeout)
            .disable_statement_logging();
        Ok(Self::Sqlite(Box::new(options)))
    }

    #[cfg(feature = "sql-postgres")]
    fn postgres(source: &Source) -> Result<Self, TargetError> {
        let mut options: PgConnectOptions = parse(&source.url)?;
        options = options.application_name("merpati").disable_statement_logging();
        // A Unix socket has no TLS, and needs none.
        let socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        options = options.ssl_mode(match source.tls {
            Tls::None => PgSslMode::Disable,
            _ if socket => PgSslMode::Disable,
            Tls::Required => PgSslMode::Require,
            Tls::Verified => PgSslMode::VerifyFull,
        });
        if let Some(ca) = &source.ca {
            options = options.ssl_root_cert(ca);
        }
        if let Some(password) = &source.password {
            options = options.password(password.expose());
        }
        Ok(Self::Postgres(Box::new(options)))
    }

    #[cfg(feature = "sql-mysql")]
    fn mysql(source: &Source) -> Result<Self, TargetError> {
        let mut options: MySqlConnectOptions = parse(&source.url)?;
        options = options.disable_statement_logging();
        let socket = options.get_socket().is_some();
        options = options.ssl_mode(match source.tls {
            Tls::None => MySqlSslMode::Disabled,
            _ if socket => MySqlSslMode::Disabled,
            Tls::Required => MySqlSslMode::Required,
            Tls::Verified => MySqlSslMode::VerifyIdentity,
        });
        if let Some(ca) = &source.ca {
            options = options.ssl_ca(ca);
        }
        if let Some(password) = &source.password {
            options = options.password(password.expose());
        }
        Ok(Self::MySql(Box::new(options)))
    }

    #[cfg(not(feature = "sql-sqlite"))]
    fn sqlite(_source: &Source) -> Result<Self, TargetError> {
        Err(TargetError::NotBuilt { feature: "sql-sqlite" })
    }

    #[cfg(not(feature = "sql-postgres"))]
    fn postgres(_source: &Source) -> Result<Self, TargetError> {
        Err(TargetError::NotBuilt { feature: "sql-postgres" })
    }

    #[cfg(not(feature = "sql-mysql"))]
    fn mysql(_source: &Source) -> Result<Self, TargetError> {
        Err(TargetError::NotBuilt { feature: "sql-mysql" })
    }

    pub(super) fn placeholder(&self) -> Placeholder {
        match self {
            #[cfg(feature = "sql-sqlite")]
            Self::Sqlite(_) => Placeholder::Mark,
            #[cfg(feature = "sql-postgres")]
            Self::Postgres(_) => Placeholder::Numbered,
            #[cfg(feature = "sql-mysql")]
            Self::MySql(_) => Placeholder::Mark,
        }
    }

    /// A pool without connections as yet.
    pub(super) fn pool(&self, connections: u32, timeout: Duration) -> Pool {
        match self {
            #[cfg(feature = "sql-sqlite")]
            Self::Sqlite(to) => {
                let to = SqliteConnectOptions::clone(to);
                Pool::Sqlite(bounded(connections, timeout).connect_lazy_with(to))
            }
            #[cfg(feature = "sql-postgres")]
            Self::Postgres(to) => {
                let to = PgConnectOptions::clone(to);
                Pool::Postgres(bounded(connections, timeout).connect_lazy_with(to))
            }
            #[cfg(feature = "sql-mysql")]
            Self::MySql(to) => {
                let to = MySqlConnectOptions::clone(to);
                Pool::MySql(bounded(connections, timeout).connect_lazy_with(to))
            }
        }
    }
}

fn parse<T>(url: &str) -> Result<T, TargetError>
where
    T: std::str::FromStr<Err = sqlx::Error>,
{
    url.parse().map_err(|error: sqlx::Error| TargetError::Url(Box::new(error)))
}

fn bounded<DB: Database>(connections: u32, timeout: Duration) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .max_lifetime(LIFETIME)
        .idle_timeout(IDLE)
}

impl Pool {
    /// The first column of each row, of the first `most` rows.
    pub(super) async fn fetch(
        &self,
        text: &str,
        values: Vec<String>,
        most: usize,
    ) -> Result<Vec<Option<String>>, sqlx::Error> {
        match self {
            #[cfg(feature = "sql-sqlite")]
            Self::Sqlite(pool) => fetch(pool, text, values, most).await,
            #[cfg(feature = "sql-postgres")]
            Self::Postgres(pool) => fetch(pool, text, values, most).await,
            #[cfg(feature = "sql-mysql")]
            Self::MySql(pool) => fetch(pool, text, values, most).await,
        }
    }
}

async fn fetch<DB: Database>(
    pool: &sqlx::Pool<DB>,
    text: &str,
    values: Vec<String>,
    most: usize,
) -> Result<Vec<Option<String>>, sqlx::Error>
where
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'v> String: Encode<'v, DB> + Decode<'v, DB> + Type<DB>,
    for<'v> Option<String>: Decode<'v, DB>,
    usize: ColumnIndex<DB::Row>,
{
    let mut lent = Lent { connection: pool.acquire().await?, whole: false };
    let mut query = sqlx::query::<DB>(AssertSqlSafe(text));
    for value in values {
        query = query.bind(value);
    }
    let mut found = Vec::new();
    let mut rows = query.fetch(&mut *lent.connection);
    while found.len() < most
        && let Some(row) = rows.try_next().await?
    {
        found.push(row.try_get(0)?);
    }
    drop(rows);
    lent.whole = true;
    Ok(found)
}

/// A connection that goes back to the pool after its query has ended. One whose query was broken
/// off is closed: the next to use it would have to wait for what nobody wants any more.
struct Lent<DB: Database> {
    connection: PoolConnection<DB>,
    whole: bool,
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if !self.whole {
            self.connection.close_on_drop();
        }
    }
}
