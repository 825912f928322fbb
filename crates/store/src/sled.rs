//! The store on sled: the one place that knows it.

use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Batch, Scan, Space, Store, StoreError, Swap, check};

/// How often a lock that somebody holds is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// How a [`SledStore`] uses memory and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets of page cache; 16 MiB by default (sled's own default is 1 GiB).
    pub cache: u64,
    /// How long to wait for somebody else's lock; two seconds by default. A store that was
    /// closed holds its lock for a moment more, until sled's threads have noticed.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 16 << 20, patience: Duration::from_secs(2) }
    }
}

/// A directory of sled's.
///
/// sled flushes with `sync_file_range` on Linux, which no power cut respects: it
/// holds nothing that cannot be made again.
pub struct SledStore {
    db: sled::Db,
}

impl SledStore {
    /// Opens or makes the store in a directory of its own. Blocks while another opener has it,
    /// no longer than [`Options::patience`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the directory should be removed and the store
    /// made anew; [`StoreError::Unavailable`] when the disk or a lock is in the way.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(options.cache)
            .mode(sled::Mode::LowSpace)
            .flush_every_ms(None);
        let begun = Instant::now();
        loop {
            match guarded(|| config.open()) {
                Err(error) if is_locked(&error) && begun.elapsed() < options.patience => {
                    thread::sleep(RETRY);
                }
                opened => return opened.map(|db| Self { db }),
            }
        }
    }
}

/// Whether somebody else has the directory: sled says it in words alone.
fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(why) if why.to_string().contains("acquire lock"))
}

impl Store for SledStore {
    fn space(&self, name: &str) -> Result<Arc<dyn Space>, StoreError> {
        let tree = guarded(|| self.db.open_tree(name))?;
        Ok(Arc::new(SledSpace(tree)))
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush()).map(drop)
    }
}

struct SledSpace(sled::Tree);

impl Space for SledSpace {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(guarded(|| self.0.get(key))?.map(|value| value.to_vec()))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        guarded(|| self.0.apply_batch(changes))
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<(), StoreError> {
        let mut entries = self.0.range::<&[u8], _>((from, to));
        while let Some((key, value)) = guarded(|| entries.next().transpose())? {
            if visit(&key, &value) == Scan::Stop {
                break;
            }
        }
        Ok(())
    }

    fn swap(
        &self,
        key: &[u8],
        seen: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap, StoreError> {
        check(key, new)?;
        Ok(match guarded(|| self.0.compare_and_swap(key, seen, new))? {
            Ok(()) => Swap::Done,
            Err(other) => Swap::Changed(other.current.map(|value| value.to_vec())),
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        guarded(|| self.0.clear())
    }
}

/// Runs something of sled's, which panics where it meets damage it did not expect.
fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::Unavailable(error)),
        Ok(Err(error @ sled::Error::Corruption { .. })) => {
            Err(StoreError::Damaged(error.to_string()))
        }
        Ok(Err(error)) => Err(StoreError::Unavailable(io::Error::other(error))),
        Err(_) => Err(StoreError::Damaged("sled panicked".into())),
    }
}
