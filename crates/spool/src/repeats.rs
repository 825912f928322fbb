//! Transactions that a client may repeat because it never saw our 250.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use merpati_plugin::spool::RepeatKey;
use merpati_types::{MessageId, Timestamp};

/// The most transactions that are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 100_000;

/// A transaction, and the message it was kept as, or none if it is to be forgotten.
pub(crate) type Change = (RepeatKey, Option<(MessageId, Timestamp)>);

/// Transactions that were answered with 250, whose clients have not been heard from since.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// How long a repetition is looked for; none are if it is zero.
    window: Duration,
    keys: HashMap<RepeatKey, (MessageId, Timestamp)>,
    messages: BTreeMap<MessageId, RepeatKey>,
    /// Those that the index is to be told of.
    changed: HashSet<RepeatKey>,
    /// Those that the index has.
    indexed: HashSet<RepeatKey>,
}

impl Repeats {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, ..Self::default() }
    }

    /// The message that the same transaction was kept as before.
    pub(crate) fn first(&mut self, key: RepeatKey, now: Timestamp) -> Option<MessageId> {
        if self.window.is_zero() {
            return None;
        }
        let (id, at) = *self.keys.get(&key)?;
        if now.since(at) <= self.window {
            return Some(id);
        }
        self.heard(id);
        None
    }

    /// Notes a transaction that is about to be answered.
    pub(crate) fn note(&mut self, key: RepeatKey, id: MessageId, at: Timestamp) {
        if self.window.is_zero() {
            return;
        }
        while self.messages.len() >= REMEMBERED {
            let Some((&oldest, _)) = self.messages.first_key_value() else { break };
            self.heard(oldest);
        }
        if let Some((before, _)) = self.keys.insert(key, (id, at)) {
            self.messages.remove(&before);
        }
        self.messages.insert(id, key);
        self.changed.insert(key);
    }

    /// Notes one that the index has.
    pub(crate) fn restore(&mut self, key: RepeatKey, id: MessageId, at: Timestamp) {
        self.indexed.insert(key);
        if self.keys.contains_key(&key) {
            self.changed.insert(key);
            return;
        }
        self.note(key, id, at);
    }

    /// Takes over what another has read.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.indexed.extend(other.indexed);
        for (key, (id, at)) in other.keys {
            // What came since is newer.
            if !self.keys.contains_key(&key) {
                self.note(key, id, at);
            }
        }
    }

    /// The client was heard from: it knows.
    pub(crate) fn heard(&mut self, id: MessageId) {
        let Some(key) = self.messages.remove(&id) else { return };
        self.keys.remove(&key);
        if self.indexed.contains(&key) {
            self.changed.insert(key);
        } else {
            self.changed.remove(&key);
        }
    }

    /// What the index has to be told, as of now; what is too old is forgotten.
    pub(crate) fn changes(&mut self, now: Timestamp) -> Vec<Change> {
        let old: Vec<MessageId> = self
            .keys
            .values()
            .filter(|(_, at)| now.since(*at) > self.window)
            .map(|(id, _)| *id)
            .collect();
        old.into_iter().for_each(|id| self.heard(id));
        let changed: Vec<RepeatKey> = self.changed.drain().collect();
        let mut out = Vec::new();
        for key in changed {
            let first = self.keys.get(&key).copied();
            match first {
                Some(_) => self.indexed.insert(key),
                None => self.indexed.remove(&key),
            };
            out.push((key, first));
        }
        out
    }
}
