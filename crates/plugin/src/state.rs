//! Counters and memory that policies share, over connections and later over nodes.

use std::time::Duration;

use async_trait::async_trait;
use merpati_types::Timestamp;

use crate::decision::Failure;

/// What an update makes of the value it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Leave it.
    Keep,
    /// Write this value; it expires after the time given.
    Put(Vec<u8>, Duration),
    /// Forget it.
    Remove,
}

/// A small keyed store with read-modify-write and expiry. May be lost at any time.
#[async_trait]
pub trait State: Send + Sync {
    /// The value, unless it is absent or has expired at `now`.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be asked.
    async fn read(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, Failure>;

    /// Reads and writes in one step; `change` may be called more than once.
    ///
    /// # Errors
    /// [`Failure`] when the store cannot be asked.
    async fn update(
        &self,
        key: &str,
        now: Timestamp,
        change: &(dyn for<'v> Fn(Option<&'v [u8]>) -> Update + Send + Sync),
    ) -> Result<(), Failure>;
}
