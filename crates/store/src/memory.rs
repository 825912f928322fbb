//! The store in memory, with the losses a real one may have.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Batch, Scan, Space, Store, StoreError, Swap, check};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type Spaces = BTreeMap<String, Entries>;

/// A store for tests, or for state that need not outlive the process.
///
/// Clones share their entries.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    spaces: Spaces,
    /// What each checkpoint held, if history is kept.
    history: Option<Vec<Spaces>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that remembers every checkpoint, for crash tests.
    #[must_use]
    pub fn with_history() -> Self {
        let state = State { spaces: Spaces::new(), history: Some(vec![Spaces::new()]) };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// How many checkpoints it remembers, the empty beginning included.
    #[must_use]
    pub fn checkpoints(&self) -> usize {
        self.lock().history.as_ref().map_or(0, Vec::len)
    }

    /// What a power cut may leave: the checkpoint of this number, without the
    /// entries that `lost` picks by space and key.
    ///
    /// A number out of range leaves nothing.
    #[must_use]
    pub fn after_cut(&self, checkpoint: usize, mut lost: impl FnMut(&str, &[u8]) -> bool) -> Self {
        let state = self.lock();
        let kept = state.history.as_ref().and_then(|history| history.get(checkpoint));
        let mut spaces = kept.cloned().unwrap_or_default();
        drop(state);
        for (name, entries) in &mut spaces {
            entries.retain(|key, _| !lost(name, key));
        }
        let state = State { history: Some(vec![spaces.clone()]), spaces };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn space(&self, name: &str) -> Result<Arc<dyn Space>, StoreError> {
        self.lock().spaces.entry(name.to_owned()).or_default();
        Ok(Arc::new(MemorySpace { store: self.clone(), name: name.to_owned() }))
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        let State { spaces, history } = &mut *state;
        if let Some(history) = history {
            history.push(spaces.clone());
        }
        Ok(())
    }
}

struct MemorySpace {
    store: MemoryStore,
    name: String,
}

impl MemorySpace {
    fn with<T>(&self, run: impl FnOnce(&mut Entries) -> T) -> T {
        run(self.store.lock().spaces.entry(self.name.clone()).or_default())
    }
}

impl Space for MemorySpace {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.with(|entries| entries.get(key).cloned()))
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        batch.check()?;
        self.with(|entries| {
            for (key, value) in batch.changes {
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
        });
        Ok(())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<(), StoreError> {
        if is_empty(from, to) {
            return Ok(());
        }
        // A copy, so that `visit` may use the store.
        let found: Vec<_> = self.with(|entries| {
            let range = entries.range::<[u8], _>((from, to));
            range.map(|(key, value)| (key.clone(), value.clone())).collect()
        });
        for (key, value) in found {
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
        Ok(self.with(|entries| {
            let now = entries.get(key);
            if now.map(Vec::as_slice) != seen {
                return Swap::Changed(now.cloned());
            }
            match new {
                Some(new) => entries.insert(key.to_vec(), new.to_vec()),
                None => entries.remove(key),
            };
            Swap::Done
        }))
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.with(Entries::clear);
        Ok(())
    }
}

/// Whether a range holds nothing whatever the entries; the map would panic at some of these.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}
