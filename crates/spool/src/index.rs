//! The index: what has stayed for more than an attempt, in a store that may forget.
//!
//! | key | value |
//! |---|---|
//! | `m` id | the message: where its record is, its parcels |
//! | `d` next hop, 0, flow, priority, due, id, number | nothing: a parcel that waits, in the order of its lane |
//! | `r` digest of a transaction | the id it was kept under, and when |
//! | `summary` | version, from which fact on the journal is needed, the highest id, and a count and a sum over `m` and `d` |
//!
//! Each batch is small, and leaves count and sum true, so that a process that dies between two
//! leaves an index that adds up. One that does not is thrown away; one that is old only makes
//! the replay longer.

use std::ops::Bound;
use std::sync::Arc;

use merpati_plugin::spool::{NextHop, ParcelId, RepeatKey};
use merpati_store::{Batch, MAX_VALUE, Scan, Space, Store, StoreError};
use merpati_types::{MessageId, Timestamp};

use crate::codec::{Decoder, Encoder, Malformed};
use crate::state::{Change, LaneKey, Live, slots};

/// The form this code writes and the only one it reads.
const VERSION: u8 = 2;
const SUMMARY: &[u8] = b"summary";
const ENTRY: u8 = b'm';
const SLOT: u8 = b'd';
const REPEAT: u8 = b'r';

/// The largest entry the index takes; what is larger is replayed instead.
pub(crate) const ENTRY_LIMIT: usize = MAX_VALUE;

/// Changes that go to the store as one: sled's memory grows with the size of its batches.
const BATCH: usize = 64;

/// What the journal's replay needs to know of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Facts below this number are in the index.
    pub(crate) from: u64,
    /// The highest message id ever given out.
    pub(crate) last_id: u64,
}

/// The writing side: one thread's own.
pub(crate) struct Index {
    store: Arc<dyn Store>,
    pub(crate) reader: IndexReader,
    summary: Summary,
    count: u64,
    sum: u64,
}

/// The reading side.
#[derive(Clone)]
pub(crate) struct IndexReader {
    space: Arc<dyn Space>,
}

/// A parcel as a lane's keys name it, and when it is due.
pub(crate) type Waiting = (Timestamp, ParcelId);

impl Index {
    /// Opens the index, without a look at what is in it.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let reader = IndexReader { space: store.space("spool")? };
        Ok(Self { store, reader, summary: Summary::default(), count: 0, sum: 0 })
    }

    /// Reads everything, showing each message to `visit`; then answers what the replay needs.
    ///
    /// `Err` inside means that the index does not add up, and is to be cleared.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn load(
        &mut self,
        mut visit: impl FnMut(MessageId, &Live) -> Scan,
    ) -> Result<Result<Summary, Malformed>, StoreError> {
        let Some(summary) = self.reader.space.value(SUMMARY)? else {
            // A first start, or a cut before the first checkpoint.
            self.clear()?;
            return Ok(Ok(Summary::default()));
        };
        let (mut count, mut sum, mut malformed) = (0_u64, 0_u64, false);
        self.reader.scan(&[ENTRY], &[ENTRY + 1], &mut |key, value| {
            (count, sum) = (count + 1, sum.wrapping_add(hash(key, value)));
            match (entry_id(key), Live::decode(value)) {
                (Some(id), Ok(live)) => visit(id, &live),
                _ => {
                    malformed = true;
                    Scan::Stop
                }
            }
        })?;
        self.reader.scan(&[SLOT], &[SLOT + 1], &mut |key, value| {
            (count, sum) = (count + 1, sum.wrapping_add(hash(key, value)));
            Scan::Next
        })?;
        let read = || {
            let mut from = Decoder(&summary);
            let version = from.u8()?;
            let summary = Summary { from: from.u64()?, last_id: from.u64()? };
            let adds_up = from.u64()? == count && from.u64()? == sum;
            if version == VERSION && adds_up && !malformed { Ok(summary) } else { Err(Malformed) }
        };
        Ok(read().inspect(|summary| {
            (self.summary, self.count, self.sum) = (*summary, count, sum);
        }))
    }

    /// Makes it empty.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        (self.summary, self.count, self.sum) = (Summary::default(), 0, 0);
        self.reader.space.clear()
    }

    /// Writes changes. The journal is still needed from where it was: what is replayed over
    /// newer entries changes nothing.
    ///
    /// # Errors
    /// The store cannot be used; it then has a part of this.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for changes in changes.chunks(BATCH) {
            let mut batch = Batch::default();
            for change in changes {
                self.change(&mut batch, change)?;
            }
            batch.insert(SUMMARY, self.encode());
            self.reader.space.apply(batch)?;
        }
        Ok(())
    }

    /// Ends a checkpoint: facts below `summary.from` are not needed any more.
    ///
    /// # Errors
    /// The store cannot be used; it then has an earlier checkpoint.
    pub(crate) fn end(&mut self, summary: Summary) -> Result<(), StoreError> {
        self.summary = summary;
        let mut batch = Batch::default();
        batch.insert(SUMMARY, self.encode());
        self.reader.space.apply(batch)?;
        self.store.checkpoint()
    }

    /// Remembers transactions that may be repeated, and forgets others.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn write_repeats(
        &mut self,
        changes: &[(RepeatKey, Option<(MessageId, Timestamp)>)],
    ) -> Result<(), StoreError> {
        for changes in changes.chunks(BATCH) {
            let mut batch = Batch::default();
            for (key, first) in changes {
                let key = [&[REPEAT][..], &key.0].concat();
                match first {
                    Some((id, at)) => {
                        let mut out = Encoder::default();
                        out.u64(id.as_u64());
                        out.time(*at);
                        batch.insert(key, out.finish());
                    }
                    None => batch.remove(key),
                }
            }
            self.reader.space.apply(batch)?;
        }
        Ok(())
    }

    /// Whether it has nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn change(&mut self, batch: &mut Batch, change: &Change) -> Result<(), StoreError> {
        let key = entry_key(change.id);
        if change.indexed
            && let Some(old) = self.reader.space.value(&key)?
        {
            self.note(&key, &old, Way::Out);
            // What cannot be read was not written by this process: nothing is lost by it that
            // the journal does not have.
            for key in
                Live::decode(&old).map(|live| slot_keys(change.id, &live)).unwrap_or_default()
            {
                self.note(&key, &[], Way::Out);
                batch.remove(key);
            }
            if change.entry.is_none() {
                batch.remove(key.clone());
            }
        }
        if let Some(entry) = &change.entry {
            self.note(&key, entry, Way::In);
            for key in
                Live::decode(entry).map(|live| slot_keys(change.id, &live)).unwrap_or_default()
            {
                self.note(&key, &[], Way::In);
                batch.insert(key, Vec::new());
            }
            batch.insert(key, entry.clone());
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], value: &[u8], way: Way) {
        let hash = hash(key, value);
        (self.count, self.sum) = match way {
            Way::In => (self.count + 1, self.sum.wrapping_add(hash)),
            Way::Out => (self.count.wrapping_sub(1), self.sum.wrapping_sub(hash)),
        };
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(VERSION);
        out.u64(self.summary.from);
        out.u64(self.summary.last_id);
        out.u64(self.count);
        out.u64(self.sum);
        out.finish()
    }
}

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl IndexReader {
    /// The entry of a message.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn entry(&self, id: MessageId) -> Result<Option<Vec<u8>>, StoreError> {
        self.space.value(&entry_key(id))
    }

    /// At most `most` entries from `first` on, in the order of their ids.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn entries(
        &self,
        first: MessageId,
        most: usize,
    ) -> Result<Vec<(MessageId, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        if most > 0 {
            self.scan(&entry_key(first), &[ENTRY + 1], &mut |key, value| {
                found.extend(entry_id(key).map(|id| (id, value.to_vec())));
                if found.len() < most { Scan::Next } else { Scan::Stop }
            })?;
        }
        Ok(found)
    }

    /// At most `most` parcels that wait in a lane from `from` on, the earliest first.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn waiting(
        &self,
        lane: &LaneKey,
        from: Waiting,
        most: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let lane = lane_key(lane);
        let begin = slot_key(&lane, from);
        // No time is that late.
        let end = [&lane[..], &[0xff; 9]].concat();
        let mut found = Vec::new();
        self.scan(&begin, &end, &mut |key, _| {
            found.extend(read_slot(&key[lane.len()..]));
            if found.len() < most { Scan::Next } else { Scan::Stop }
        })?;
        Ok(found)
    }

    /// All transactions that may be repeated.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(crate) fn repeats(
        &self,
        mut visit: impl FnMut(RepeatKey, MessageId, Timestamp),
    ) -> Result<(), StoreError> {
        self.scan(&[REPEAT], &[REPEAT + 1], &mut |key, value| {
            let mut from = Decoder(value);
            if let (Ok(key), Ok(id), Ok(at)) = (key[1..].try_into(), from.u64(), from.time()) {
                visit(RepeatKey(key), MessageId::from_u64(id), at);
            }
            Scan::Next
        })
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Scan,
    ) -> Result<(), StoreError> {
        self.space.scan(Bound::Included(from), Bound::Excluded(to), visit)
    }
}

fn entry_key(id: MessageId) -> Vec<u8> {
    [&[ENTRY][..], &id.as_u64().to_be_bytes()].concat()
}

fn entry_id(key: &[u8]) -> Option<MessageId> {
    let id = key.get(1..)?.try_into().ok()?;
    Some(MessageId::from_u64(u64::from_be_bytes(id)))
}

fn slot_keys(id: MessageId, live: &Live) -> Vec<Vec<u8>> {
    slots(id, live).into_iter().map(|(lane, slot)| slot_key(&lane_key(&lane), slot)).collect()
}

/// What the keys of a lane begin with; a next hop has no zero in it.
fn lane_key(lane: &LaneKey) -> Vec<u8> {
    let hop: &NextHop = &lane.hop;
    let priority = lane.group.priority.cast_unsigned();
    [&[SLOT], hop.as_str().as_bytes(), &[0], &lane.group.flow.0.to_be_bytes()[..], &[priority]]
        .concat()
}

fn slot_key(lane: &[u8], (due, parcel): Waiting) -> Vec<u8> {
    // With the sign turned, octets are in the order of the times.
    let due = due.as_millis().cast_unsigned() ^ (1 << 63);
    let id = parcel.message.as_u64();
    [lane, &due.to_be_bytes(), &id.to_be_bytes(), &parcel.number.to_be_bytes()].concat()
}

fn read_slot(key: &[u8]) -> Option<Waiting> {
    let (due, rest) = key.split_first_chunk::<8>()?;
    let (id, number) = rest.split_first_chunk::<8>()?;
    let due = (u64::from_be_bytes(*due) ^ (1 << 63)).cast_signed();
    let message = MessageId::from_u64(u64::from_be_bytes(*id));
    let number = u32::from_be_bytes(number.try_into().ok()?);
    Some((Timestamp::from_millis(due), ParcelId { message, number }))
}

/// FNV-1a: the same in every version of this software and of its compiler.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    key.iter().chain(value).fold(0xcbf2_9ce4_8422_2325, step)
}
