//! Small keyed state that can be rebuilt or may be lost, on sled.
//!
#![doc = include_str!("../README.md")]

mod memory;
mod sled;

use std::io;
use std::ops::Bound;
use std::sync::Arc;

pub use memory::MemoryStore;
pub use sled::{Options, SledStore};

/// The longest key, in octets.
pub const MAX_KEY: usize = 1024;

/// The longest value, in octets: what is bigger belongs elsewhere.
pub const MAX_VALUE: usize = 64 << 10;

/// Named spaces of ordered keys.
pub trait Store: Send + Sync {
    /// The space of this name, made if it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    fn space(&self, name: &str) -> Result<Arc<dyn Space>, StoreError>;

    /// Makes a checkpoint of all spaces.
    ///
    /// A clean restart finds what the last checkpoint had, or something later. A
    /// power cut may leave any earlier one, entries missing, or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; there may then be no new checkpoint.
    fn checkpoint(&self) -> Result<(), StoreError>;
}

/// One space of ordered keys with small values.
pub trait Space: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes all changes of a batch as one.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// Shows entries in order of their keys until `visit` says to stop.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<(), StoreError>;

    /// Replaces a value if it is what the caller last saw; `None` is no value.
    ///
    /// # Errors
    /// [`StoreError`].
    fn swap(&self, key: &[u8], seen: Option<&[u8]>, new: Option<&[u8]>)
    -> Result<Swap, StoreError>;

    /// Removes every entry.
    ///
    /// # Errors
    /// [`StoreError`].
    fn clear(&self) -> Result<(), StoreError>;
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Show the next entry.
    Next,
    /// That was enough.
    Stop,
}

/// What became of a [`Space::swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The value is the new one.
    Done,
    /// Somebody else was first: this is the value now.
    Changed(Option<Vec<u8>>),
}

/// Changes to one space that are made as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a value. A later change to the same key wins.
    pub fn insert(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Removes a value, if there is one.
    pub fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }

    /// How many changes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.changes.iter().try_for_each(|(key, value)| check(key, value.as_deref()))
    }
}

fn check(key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
    let len = value.map_or(0, <[u8]>::len);
    if key.len() > MAX_KEY || len > MAX_VALUE {
        return Err(StoreError::TooLarge { key: key.len(), value: len });
    }
    Ok(())
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What is on disk makes no sense: rebuild it from the truth, or begin anew.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk refused; it may work later.
    #[error("the store cannot be used")]
    Unavailable(#[from] io::Error),
    /// The entry is no small state ([`MAX_KEY`], [`MAX_VALUE`]).
    #[error("a key of {key} and a value of {value} octets are too large")]
    TooLarge {
        /// Octets of the key.
        key: usize,
        /// Octets of the value.
        value: usize,
    },
}
