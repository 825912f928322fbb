//! The databases there are drivers for.

use std::error::Error;

use futures_util::TryStreamExt as _;
#[cfg(feature = "sql-mysql")]
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
#[cfg(feature = "sql-postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};
#[cfg(feature = "sql-sqlite")]
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions, Connection, Database, Decode, Encode, Executor,
    IntoArguments, Row as _, Type,
};

use super::config::Source;
#[cfg(any(feature = "sql-mysql", feature = "sql-postgres"))]
use super::config::Tls;
use super::query::Placeholder;
use crate::pool::Pool;

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

/// A database, and connections to it.
pub(super) enum Target {
    #[cfg(feature = "sql-sqlite")]
    Sqlite(Reached<sqlx::SqliteConnection>),
    #[cfg(feature = "sql-postgres")]
    Postgres(Reached<sqlx::PgConnection>),
    #[cfg(feature = "sql-mysql")]
    MySql(Reached<sqlx::MySqlConnection>),
}

/// How a database is reached.
pub(super) struct Reached<C: Connection> {
    to: Box<C::Options>,
    pool: Pool<C>,
}

impl<C: Connection> Reached<C> {
    fn new(to: C::Options, source: &Source) -> Self {
        Self { to: Box::new(to), pool: Pool::new(source.connections) }
    }
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
        Ok(Self::Sqlite(Reached::new(options, source)))
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
        Ok(Self::Postgres(Reached::new(options, source)))
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
        Ok(Self::MySql(Reached::new(options, source)))
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

    /// The first column of each row, of the first `most` rows.
    pub(super) async fn fetch(
        &self,
        text: &str,
        values: &[String],
        most: usize,
    ) -> Result<Vec<Option<String>>, sqlx::Error> {
        match self {
            #[cfg(feature = "sql-sqlite")]
            Self::Sqlite(reached) => reached.fetch(text, values, most).await,
            #[cfg(feature = "sql-postgres")]
            Self::Postgres(reached) => reached.fetch(text, values, most).await,
            #[cfg(feature = "sql-mysql")]
            Self::MySql(reached) => reached.fetch(text, values, most).await,
        }
    }
}

fn parse<T>(url: &str) -> Result<T, TargetError>
where
    T: std::str::FromStr<Err = sqlx::Error>,
{
    url.parse().map_err(|error: sqlx::Error| TargetError::Url(Box::new(error)))
}

impl<C, DB> Reached<C>
where
    C: Connection<Database = DB>,
    DB: Database<Connection = C>,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut C: Executor<'c, Database = DB>,
    for<'v> String: Encode<'v, DB> + Decode<'v, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
{
    /// A connection that has rested may have ended meanwhile, and says so in many ways: after any
    /// error it is replaced, and the query tried once more. One whose query fails or is broken
    /// off is dropped: nobody has to wait for what is not wanted any more.
    async fn fetch(
        &self,
        text: &str,
        values: &[String],
        most: usize,
    ) -> Result<Vec<Option<String>>, sqlx::Error> {
        let _turn = self.pool.turn().await;
        if let Some(mut connection) = self.pool.rested(|_| true) {
            match rows(&mut connection, text, values, most).await {
                Ok(found) => return Ok(self.done(connection, found, most)),
                Err(error) => tracing::debug!(%error, "a connection to the database failed"),
            }
        }
        let mut connection = self.to.connect().await?;
        let found = rows(&mut connection, text, values, most).await?;
        Ok(self.done(connection, found, most))
    }

    /// Lets the connection rest, unless there may be more rows, which the next would have to read.
    fn done(&self, connection: C, found: Vec<Option<String>>, most: usize) -> Vec<Option<String>> {
        if found.len() < most {
            self.pool.keep(connection);
        }
        found
    }
}

async fn rows<C, DB>(
    connection: &mut C,
    text: &str,
    values: &[String],
    most: usize,
) -> Result<Vec<Option<String>>, sqlx::Error>
where
    DB: Database<Connection = C>,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut C: Executor<'c, Database = DB>,
    for<'v> String: Encode<'v, DB> + Decode<'v, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
{
    let mut query = sqlx::query::<DB>(AssertSqlSafe(text));
    for value in values {
        query = query.bind(value.clone());
    }
    let mut rows = query.fetch(connection);
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.try_next().await?
    {
        found.push(row.try_get(0)?);
    }
    Ok(found)
}
