#![doc = include_str!("../README.md")]

#[cfg(any(
    feature = "ldap",
    feature = "sql-mysql",
    feature = "sql-postgres",
    feature = "sql-sqlite",
))]
mod address;
mod cached;
mod file;
#[cfg(feature = "ldap")]
mod ldap;
mod lines;
#[cfg(any(
    feature = "ldap",
    feature = "sql-mysql",
    feature = "sql-postgres",
    feature = "sql-sqlite",
))]
mod pool;
mod regex;
#[cfg(any(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite"))]
mod sql;
mod stock;

pub use cached::{CacheConfig, Cached};
pub use file::FileTable;
#[cfg(feature = "ldap")]
pub use ldap::LdapTable;
pub use lines::{FileError, MAX_FILE, MAX_LINE};
pub use regex::RegexTable;
#[cfg(any(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite"))]
pub use sql::SqlTable;
pub use stock::{STOCK, stock};
