//! Look-ups: from a key to a value, in a file, a database, a directory.

use async_trait::async_trait;

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
    /// The value for `key`, if there is one. Keys are compared as they stand: the caller decides
    /// about letter case.
    ///
    /// # Errors
    /// [`TableError`], when the answer is not known.
    async fn find(&self, key: &str) -> Result<Option<String>, TableError>;
}
