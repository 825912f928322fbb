//! The index: what has stayed for more than an attempt, in a store that may forget.
//!
//! Each checkpoint is one batch that ends with a summary: from which number on
//! facts are needed besides, and a count and a sum over all entries. An index
//! that does not add up is thrown away; one that is old only makes the replay
//! longer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use merpati_store::{Batch, MAX_VALUE, Scan, Space, Store, StoreError};
use merpati_types::MessageId;

use crate::codec::{Decoder, Encoder, Malformed};
use crate::state::{Change, State};

/// The form this code writes and the only one it reads.
const VERSION: u8 = 1;
const SUMMARY: &[u8] = b"summary";
/// Begins the key of an entry; the id follows.
const ENTRY: u8 = b'm';

/// The largest entry the index takes; what is larger is replayed instead.
pub(crate) const ENTRY_LIMIT: usize = MAX_VALUE;

/// What the journal's replay needs to know of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Facts below this number are in the index.
    pub(crate) from: u64,
    /// The highest message id ever given out.
    pub(crate) last_id: u64,
}

pub(crate) struct Index {
    store: Arc<dyn Store>,
    space: Arc<dyn Space>,
    /// The hash of each entry.
    entries: BTreeMap<MessageId, u64>,
    sum: u64,
}

impl Index {
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let space = store.space("spool")?;
        Ok(Self { store, space, entries: BTreeMap::new(), sum: 0 })
    }

    /// Reads everything into `state`, or nothing: then the index is empty, and why is told.
    ///
    /// # Errors
    /// The store cannot be used; the index then must not be either.
    pub(crate) fn load(
        &mut self,
        state: &mut State,
    ) -> Result<(Summary, Option<String>), StoreError> {
        match self.read(state)? {
            Ok(summary) => Ok((summary, None)),
            Err(Malformed) => {
                tracing::warn!("the spool's index does not add up: it is made anew");
                *state = State::default();
                self.clear()?;
                let why = "its entries do not add up".to_owned();
                Ok((Summary::default(), Some(why)))
            }
        }
    }

    fn read(&mut self, state: &mut State) -> Result<Result<Summary, Malformed>, StoreError> {
        let Some(summary) = self.space.value(SUMMARY)? else {
            // A first start, or a cut before the first checkpoint.
            self.clear()?;
            return Ok(Ok(Summary::default()));
        };
        let mut result = Ok(());
        let (from, to) = ([ENTRY], [ENTRY + 1]);
        let bounds = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let space = self.space.clone();
        space.scan(bounds.0, bounds.1, &mut |key, value| {
            result = match key[1..].try_into() {
                Ok(id) => {
                    let id = MessageId::from_u64(u64::from_be_bytes(id));
                    self.note(id, Some(hash(key, value)));
                    state.restore(id, value)
                }
                Err(_) => Err(Malformed),
            };
            if result.is_ok() { Scan::Next } else { Scan::Stop }
        })?;
        Ok(result.and_then(|()| self.check(&summary)))
    }

    fn check(&self, summary: &[u8]) -> Result<Summary, Malformed> {
        let mut decoder = Decoder(summary);
        let version = decoder.u8()?;
        let summary = Summary { from: decoder.u64()?, last_id: decoder.u64()? };
        let adds_up = decoder.u64()? == self.entries.len() as u64 && decoder.u64()? == self.sum;
        if version == VERSION && adds_up { Ok(summary) } else { Err(Malformed) }
    }

    /// Makes a checkpoint.
    ///
    /// # Errors
    /// The store cannot be used; it then has an earlier checkpoint.
    pub(crate) fn write(
        &mut self,
        changes: Vec<Change>,
        summary: Summary,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (id, entry) in changes {
            let key = [&[ENTRY][..], &id.as_u64().to_be_bytes()].concat();
            match entry {
                Some(entry) => {
                    self.note(id, Some(hash(&key, &entry)));
                    batch.insert(key, entry);
                }
                None if self.entries.contains_key(&id) => {
                    self.note(id, None);
                    batch.remove(key);
                }
                None => {}
            }
        }
        let mut out = Encoder::default();
        out.u8(VERSION);
        out.u64(summary.from);
        out.u64(summary.last_id);
        out.u64(self.entries.len() as u64);
        out.u64(self.sum);
        batch.insert(SUMMARY, out.finish());
        self.space.apply(batch)?;
        self.store.checkpoint()
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.entries.clear();
        self.sum = 0;
        self.space.clear()
    }

    fn note(&mut self, id: MessageId, hash: Option<u64>) {
        let before = match hash {
            Some(hash) => {
                self.sum = self.sum.wrapping_add(hash);
                self.entries.insert(id, hash)
            }
            None => self.entries.remove(&id),
        };
        self.sum = self.sum.wrapping_sub(before.unwrap_or(0));
    }
}

/// FNV-1a: the same in every version of this software and of its compiler.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    key.iter().chain(value).fold(0xcbf2_9ce4_8422_2325, step)
}
