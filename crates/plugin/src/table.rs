//! Look-ups: from a key to a value, in a file, a database, a directory.

mod address;
mod named;

use async_trait::async_trait;

pub use address::{Hit, lookup_address};
pub use named::Tables;

/// Why a look-up gave no answer. "Not found" is an answer and no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The table cannot be asked now; the caller answers 451 and the client tries again.
    #[error("table is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A read-only map from text to text.
#[async_trait]
pub trait Table: Send + Sync {
    /// The value for `key`, if there is one. Whether letter case counts is the table's business;
    /// who wants it ignored asks in lower case.
    ///
    /// # Errors
    /// [`TableError`], when the answer is not known.
    async fn find(&self, key: &str) -> Result<Option<String>, TableError>;

    /// Whether a part of an address means something to this table, so that [`lookup_address`] may
    /// ask for the domain alone. Where rows are patterns it does not: one that was written for
    /// addresses would match domains by accident.
    fn knows_parts(&self) -> bool {
        true
    }
}
