//! The map, and the journal under it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use merpati_journal::{AppendError, Disk, Entry, Group, Log, OpenError, Options, Record, Recovery};

use crate::change::{Change, decode, encode};
use crate::{MAX_KEY, MAX_VALUE};

/// The one kind of record there is.
const CHANGES: u8 = 1;
/// Segments beside those that the facts need, before space is taken back.
const SLACK: u64 = 2;
/// What a fact costs beside its key and value, in octets.
const OVERHEAD: u64 = 64;

/// How much a ledger may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of all keys and values together, with 64 more for each; 64 MiB by default. All of
    /// them are in memory.
    pub facts: u64,
    /// Octets of a segment; 1 MiB by default. Space comes back a segment at a time.
    pub segment: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { facts: 64 << 20, segment: 1 << 20 }
    }
}

/// Why a ledger cannot be opened, or a commit is not in effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record was written by a later version: use that one.
    #[error("the ledger has records that this version does not understand")]
    Unknown,
    /// A key or a value is too long: leave it out.
    #[error("a fact is longer than {MAX_KEY} octets of key or {MAX_VALUE} of value")]
    TooLong,
    /// There are too many facts already: take some away first.
    #[error("the ledger holds {limit} octets and no more")]
    Full {
        /// The limit, in octets.
        limit: u64,
    },
    /// The disk does not take it: nothing has changed; try again later.
    #[error("the ledger cannot be written")]
    Unavailable(#[source] AppendError),
}

/// A durable map. One at a time has a directory open.
///
/// Commits block on the disk: a caller in async code makes them where blocking is allowed.
pub struct Ledger {
    log: Log,
    limits: Limits,
    facts: Facts,
}

#[derive(Default)]
struct Facts {
    map: BTreeMap<Bytes, Fact>,
    /// Their octets, as [`Limits::facts`] counts them.
    used: u64,
}

struct Fact {
    value: Bytes,
    /// The segment whose record says so.
    segment: u64,
}

impl Ledger {
    /// Opens the ledger of a directory, or makes one.
    ///
    /// # Errors
    /// [`LedgerError::Open`] or [`LedgerError::Unknown`]; damage is no error but part of the
    /// [`Recovery`].
    pub fn open(disk: Arc<dyn Disk>, limits: Limits) -> Result<(Self, Recovery), LedgerError> {
        let options = Options { segment_size: limits.segment, spares: 1, ..Options::default() };
        let mut facts = Facts::default();
        let mut known = true;
        let (log, recovery) = Log::open(disk, options, &mut |entry: Entry| {
            let changes = (entry.kind == CHANGES).then(|| decode(entry.meta)).flatten();
            known &= changes.is_some();
            for change in changes.unwrap_or_default() {
                facts.apply(change, entry.position.segment);
            }
        })?;
        if !known {
            return Err(LedgerError::Unknown);
        }
        Ok((Self { log, limits, facts }, recovery))
    }

    /// A fact's value.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.facts.map.get(key).map(|fact| &*fact.value)
    }

    /// The facts whose keys begin so, in the order of their keys.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.facts
            .map
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, fact)| (&**key, &*fact.value))
    }

    /// Makes all of these changes, in order, or none of them. On stable storage once it returns.
    ///
    /// # Errors
    /// [`LedgerError::TooLong`], [`LedgerError::Full`] or [`LedgerError::Unavailable`]; nothing is
    /// in effect then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        if !changes.iter().all(Change::is_within_limits) {
            return Err(LedgerError::TooLong);
        }
        let grown: u64 = changes.iter().map(size_of_put).sum();
        if grown > 0 && self.facts.used + grown > self.limits.facts {
            return Err(LedgerError::Full { limit: self.limits.facts });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let segment = self.write(encode(changes)).map_err(LedgerError::Unavailable)?;
        for change in changes {
            self.facts.apply(change.clone(), segment);
        }
        if let Err(error) = self.take_back() {
            // The commit stands; the next one tries again.
            tracing::warn!(%error, "the ledger cannot take space back");
        }
        Ok(())
    }

    /// Writes and syncs one record; answers in which segment it is.
    fn write(&mut self, changes: Bytes) -> Result<u64, AppendError> {
        let record = Record { kind: CHANGES, key: 0, meta: changes, body: Vec::new() };
        let written = self.log.write(&[&Group::from(record)]).pop();
        let appended = written.expect("one answer for each group")?;
        self.log.sync()?;
        Ok(appended.positions[0].segment)
    }

    /// Removes the oldest segment, with what it still says written anew, if there are many more
    /// segments than the facts need.
    fn take_back(&mut self) -> Result<(), AppendError> {
        let segments = self.log.reader().segments();
        let needed = self.facts.used.div_ceil(self.limits.segment);
        if segments.len() as u64 <= 2 * needed + SLACK {
            return Ok(());
        }
        let oldest = segments[0];
        // A removal need not be repeated: no older segment has what it takes away.
        let still_said: Vec<Change> = self
            .facts
            .map
            .iter()
            .filter(|(_, fact)| fact.segment == oldest)
            .map(|(key, fact)| Change::Put { key: key.clone(), value: fact.value.clone() })
            .collect();
        if !still_said.is_empty() {
            let segment = self.write(encode(&still_said))?;
            for change in still_said {
                self.facts.apply(change, segment);
            }
        }
        Ok(self.log.remove(oldest)?)
    }
}

impl Facts {
    fn apply(&mut self, change: Change, segment: u64) {
        let before = match change {
            Change::Put { key, value } => {
                let size = size(&key, &value);
                self.used += size;
                let before = self.map.insert(key.clone(), Fact { value, segment });
                before.map(|fact| self::size(&key, &fact.value))
            }
            Change::Remove { key } => self.map.remove(&key).map(|fact| size(&key, &fact.value)),
        };
        self.used -= before.unwrap_or(0);
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + OVERHEAD
}

fn size_of_put(change: &Change) -> u64 {
    match change {
        Change::Put { key, value } => size(key, value),
        Change::Remove { .. } => 0,
    }
}
