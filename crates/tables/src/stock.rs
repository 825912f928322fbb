//! The kinds of table that need no plugin of one's own.

use std::sync::Arc;

use merpati_plugin::Table;
use merpati_plugin::options::{Invalid, Options};

use crate::file::FileTable;
use crate::regex::RegexTable;

/// The names of the kinds.
pub const STOCK: [&str; 4] = ["file", "ldap", "regex", "sql"];

/// A table of a kind, from its options; `None` if there is no such kind. One that this build has
/// no drivers for is recorded as a mistake.
#[must_use]
pub fn stock(kind: &str, options: &Options) -> Option<Result<Arc<dyn Table>, Invalid>> {
    Some(match kind {
        "file" => FileTable::from_options(options).map(shared),
        "ldap" => ldap(options),
        "regex" => RegexTable::from_options(options).map(shared),
        "sql" => sql(options),
        _ => return None,
    })
}

fn shared(table: impl Table + 'static) -> Arc<dyn Table> {
    Arc::new(table)
}

#[cfg(any(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite"))]
fn sql(options: &Options) -> Result<Arc<dyn Table>, Invalid> {
    crate::sql::SqlTable::from_options(options).map(shared)
}

#[cfg(not(any(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite")))]
fn sql(options: &Options) -> Result<Arc<dyn Table>, Invalid> {
    Err(options.reject("this server is built without databases (cargo feature `databases`)"))
}

#[cfg(feature = "ldap")]
fn ldap(options: &Options) -> Result<Arc<dyn Table>, Invalid> {
    crate::ldap::LdapTable::from_options(options).map(shared)
}

#[cfg(not(feature = "ldap"))]
fn ldap(options: &Options) -> Result<Arc<dyn Table>, Invalid> {
    Err(options.reject("this server is built without directories (cargo feature `databases`)"))
}
