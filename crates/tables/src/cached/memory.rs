//! What is known and what is being asked for, within bounds.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    /// `None`: the table has no such key.
    pub(super) value: Option<Arc<str>>,
    /// Until then the table need not be asked.
    pub(super) fresh_until: Instant,
    /// Until then it may stand in for an answer that cannot be had.
    pub(super) whole_until: Instant,
}

/// Answers in two generations. New ones and those that are asked for again belong to the young;
/// when these fill half of the room the old go, and the young become the old. So what is asked
/// for stays, nothing is ever searched, and room and time are bounded.
#[derive(Debug)]
pub(super) struct Memory<F> {
    half: usize,
    young: HashMap<Arc<str>, Remembered>,
    old: HashMap<Arc<str>, Remembered>,
    flights: HashMap<Arc<str>, F>,
}

impl<F> Memory<F> {
    /// Room for `entries` answers.
    pub(super) fn new(entries: usize) -> Self {
        let half = entries.div_ceil(2).max(1);
        Self { half, young: HashMap::new(), old: HashMap::new(), flights: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &str) -> Option<&mut Remembered> {
        if let Some((key, known)) = self.old.remove_entry(key) {
            self.put(key, known);
        }
        self.young.get_mut(key)
    }

    pub(super) fn put(&mut self, key: Arc<str>, known: Remembered) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }

    pub(super) fn flight(&self, key: &str) -> Option<&F> {
        self.flights.get(key)
    }

    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn take_off(&mut self, key: Arc<str>, flight: F) {
        self.flights.insert(key, flight);
    }

    pub(super) fn land(&mut self, key: &str) {
        self.flights.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_room_is_bounded() {
        let mut memory = Memory::<()>::new(10);
        let now = Instant::now();
        let known = |number: usize| Remembered {
            value: Some(number.to_string().into()),
            fresh_until: now,
            whole_until: now,
        };
        for number in 0..100 {
            memory.put(number.to_string().into(), known(number));
            assert!(memory.get("0").is_some(), "{number}");
            assert!(memory.young.len() + memory.old.len() <= 10, "{number}");
        }
        assert!(memory.get("99").is_some());
        assert!(memory.get("50").is_none());
        memory.put("99".into(), known(7));
        assert_eq!(memory.get("99").unwrap().value.as_deref(), Some("7"));
    }
}
