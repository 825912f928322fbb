//! A table in a relational database.

mod config;
mod query;
mod target;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Table, TableError};

use self::query::Query;
use self::target::Target;
use crate::address::Part;

/// The longest value, in octets.
const MAX_VALUE: usize = 64 << 10;

/// The most rows of one answer, where several are wanted.
const MAX_ROWS: usize = 1_000;

/// Rows of a database: SQLite, PostgreSQL, MySQL or MariaDB.
///
/// The query names parts of the key, `:key`, `:local` and `:domain`. They are bound as parameters,
/// whatever stands in them; no text of a key ever becomes part of a query. A query that names
/// `:local` or `:domain` is asked for addresses only: other keys are not found. The value is the
/// first column, which is text; NULL counts as no row.
///
/// Connections are made when first needed and kept in a pool. One that has failed is replaced, and
/// the query tried once more. A look-up takes `timeout` at most, with all its waiting. It needs a
/// tokio runtime.
///
/// Limits: keys of 4 KiB, values of 64 KiB, a thousand rows.
pub struct SqlTable {
    target: Target,
    query: Query,
    rows: Rows,
    timeout: Duration,
}

/// How many rows a query may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    One,
    /// Their values are joined with a comma and a space.
    Several,
}

impl SqlTable {
    /// Reads the options; no connection is made.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        config::read(options)
    }

    async fn ask(&self, values: &[String]) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        let most = match self.rows {
            Rows::One => 1,
            Rows::Several => MAX_ROWS,
        };
        let found = self.target.fetch(&self.query.text, values, most + 1).await?;
        if found.len() > most {
            return Err(match self.rows {
                Rows::One => "the query found several rows, and `multiple` is not set".into(),
                Rows::Several => format!("the query found more than {most} rows").into(),
            });
        }
        let found: Vec<String> = found.into_iter().flatten().collect();
        let length: usize = found.iter().map(String::len).sum();
        if length > MAX_VALUE {
            return Err(format!("a value of {length} octets is too long").into());
        }
        Ok((!found.is_empty()).then(|| found.join(", ")))
    }
}

#[async_trait]
impl Table for SqlTable {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        let Some(values) = Part::all_of(&self.query.parameters, key) else { return Ok(None) };
        match tokio::time::timeout(self.timeout, self.ask(&values)).await {
            Ok(answer) => answer.map_err(TableError::Unavailable),
            Err(_) => {
                let message = format!("no answer of the database within {:?}", self.timeout);
                Err(TableError::Unavailable(message.into()))
            }
        }
    }
}

/// Without the target, which may have a password.
impl fmt::Debug for SqlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlTable").field("query", &self.query).finish_non_exhaustive()
    }
}
