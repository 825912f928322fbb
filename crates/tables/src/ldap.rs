//! A table in a directory.

mod config;
mod connection;
mod filter;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use ldap3::Scope;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Table, TableError};

use self::connection::{Search, Server};
use self::filter::Filter;
use crate::address::Part;

/// The longest value, in octets.
const MAX_VALUE: usize = 64 << 10;

/// The most values of one answer, where several are wanted.
const MAX_VALUES: usize = 1_000;

/// Entries of a directory, by LDAP (RFC 4511).
///
/// The filter names parts of the key, `{key}`, `{local}` and `{domain}`. What stands in them is
/// escaped (RFC 4515 §3), so that no key becomes part of a filter. A filter that names `{local}`
/// or `{domain}` is asked for addresses only: other keys are not found. The value is that of one
/// attribute of the entry found; an entry without it counts as none.
///
/// Connections are made and bound when first needed and kept in a pool. One that has failed is
/// replaced, and the search tried once more. A look-up takes `timeout` at most, with all its
/// waiting. It needs a tokio runtime.
///
/// Limits: keys of 4 KiB, values of 64 KiB, a thousand values.
pub struct LdapTable {
    server: Server,
    base: String,
    scope: Scope,
    filter: Filter,
    attribute: String,
    values: Values,
    timeout: Duration,
}

/// How many values a search may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    One,
    /// They are joined with a comma and a space.
    Several,
}

impl LdapTable {
    /// Reads the options; no connection is made.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        config::read(options)
    }

    async fn ask(&self, parts: &[String]) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        let most = match self.values {
            Values::One => 1,
            Values::Several => MAX_VALUES,
        };
        let filter = self.filter.fill(parts);
        let search = Search {
            base: &self.base,
            scope: self.scope,
            filter: &filter,
            attribute: &self.attribute,
            most,
            seconds: i32::try_from(self.timeout.as_secs()).unwrap_or(i32::MAX).max(1),
        };
        let found = self.server.search(&search).await?;
        if found.len() > most {
            return Err(match self.values {
                Values::One => "the search found several values, and `multiple` is not set".into(),
                Values::Several => format!("the search found more than {most} values").into(),
            });
        }
        let length: usize = found.iter().map(String::len).sum();
        if length > MAX_VALUE {
            return Err(format!("a value of {length} octets is too long").into());
        }
        Ok((!found.is_empty()).then(|| found.join(", ")))
    }
}

#[async_trait]
impl Table for LdapTable {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        let Some(parts) = Part::all_of(self.filter.parts(), key) else { return Ok(None) };
        match tokio::time::timeout(self.timeout, self.ask(&parts)).await {
            Ok(answer) => answer.map_err(TableError::Unavailable),
            Err(_) => {
                let message = format!("no answer of the directory within {:?}", self.timeout);
                Err(TableError::Unavailable(message.into()))
            }
        }
    }
}

/// Without the server, whose password is nobody's business.
impl fmt::Debug for LdapTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapTable")
            .field("base", &self.base)
            .field("filter", &self.filter)
            .field("attribute", &self.attribute)
            .finish_non_exhaustive()
    }
}
