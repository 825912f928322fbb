//! Changes to the list: in the ledger first, and then in memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use merpati_ledger::{Change, Ledger};
use merpati_types::Timestamp;

use super::entry::{Count, Entry, Subject};
use super::{SuppressionError, SuppressionRules};

pub(super) const ENTRIES: &[u8] = b"e/";
pub(super) const COUNTS: &[u8] = b"c/";
/// How many bounces are committed together: far less than a segment of the ledger holds.
const BOUNCES: usize = 250;
/// How many removals are committed together.
const CHANGES: usize = 1_000;
/// How often what has expired is looked for, at most.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);

#[derive(Default)]
pub(super) struct Known {
    pub(super) entries: BTreeMap<Subject, Entry>,
    pub(super) counts: BTreeMap<Subject, Count>,
}

impl Known {
    fn insert(&mut self, who: Subject, entry: Entry) {
        self.counts.remove(&who);
        // As it is stored: reasons may be cut.
        let entry = Entry::decode(entry.encode().as_bytes()).unwrap_or(entry);
        self.entries.insert(who, entry);
    }
}

/// What a bounce leads to.
enum Step {
    Nothing,
    Count(Count),
    Add,
}

/// How full the list is while bounces are counted.
struct Tally {
    entries: usize,
    counts: usize,
    is_too_much: bool,
}

impl Tally {
    fn of(known: &Known) -> Self {
        Self { entries: known.entries.len(), counts: known.counts.len(), is_too_much: false }
    }

    fn step(
        &mut self,
        known: &Known,
        rules: &SuppressionRules,
        who: &Subject,
        now: Timestamp,
    ) -> Step {
        let entry = known.entries.get(who);
        if entry.is_some_and(|entry| entry.is_in_force(now)) {
            return Step::Nothing;
        }
        let before = known.counts.get(who);
        let fresh = before.filter(|count| now.since(count.first) < rules.within);
        let count = fresh.copied().unwrap_or(Count { first: now, times: 0 });
        let count = Count { times: count.times.saturating_add(1), ..count };
        let (held, is_there, step) = match count.times >= rules.bounces {
            true => (&mut self.entries, entry.is_some(), Step::Add),
            false => (&mut self.counts, before.is_some(), Step::Count(count)),
        };
        if !is_there {
            if *held >= rules.most {
                self.is_too_much = true;
                return Step::Nothing;
            }
            *held += 1;
        }
        step
    }
}

pub(super) struct Written {
    pub(super) ledger: Ledger,
    pub(super) purge_at: Timestamp,
}

/// The list while one change is made.
pub(super) struct Writing<'a> {
    pub(super) known: &'a RwLock<Known>,
    pub(super) written: &'a mut Written,
}

impl Writing<'_> {
    pub(super) fn put(
        &mut self,
        who: Subject,
        entry: Entry,
        most: usize,
    ) -> Result<(), SuppressionError> {
        self.make_room(&who, entry.since, most)?;
        let change = Change::put(key(ENTRIES, &who), entry.encode());
        self.written.ledger.commit(&[change, Change::remove(key(COUNTS, &who))])?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(who, entry);
        Ok(())
    }

    /// An entry that is in force stays what it is.
    pub(super) fn add_unless_there(
        &mut self,
        who: Subject,
        entry: Entry,
        most: usize,
    ) -> Result<bool, SuppressionError> {
        let there = self.read(|known| known.entries.get(&who).cloned());
        if there.is_some_and(|there| there.is_in_force(entry.since)) {
            return Ok(false);
        }
        self.put(who, entry, most).map(|()| true)
    }

    /// Counts bounces, and adds the entries of those that are one too many.
    pub(super) fn count(
        &mut self,
        rules: &SuppressionRules,
        bounces: &[Option<(Subject, Entry)>],
        now: Timestamp,
    ) -> Result<Vec<bool>, SuppressionError> {
        self.forget_now_and_then(rules, now)?;
        let mut tally = self.read(Tally::of);
        let mut listed = Vec::with_capacity(bounces.len());
        for some in bounces.chunks(BOUNCES) {
            let step = |bounce: &Option<(Subject, Entry)>| {
                bounce.as_ref().map_or(Step::Nothing, |(who, _)| {
                    self.read(|known| tally.step(known, rules, who, now))
                })
            };
            let steps: Vec<_> = some.iter().map(step).collect();
            self.commit_steps(&steps, some)?;
            listed.extend(steps.iter().map(|step| matches!(step, Step::Add)));
        }
        if tally.is_too_much {
            Err(SuppressionError::Full { most: rules.most })
        } else {
            Ok(listed)
        }
    }

    fn commit_steps(
        &mut self,
        steps: &[Step],
        bounces: &[Option<(Subject, Entry)>],
    ) -> Result<(), SuppressionError> {
        let made = || steps.iter().zip(bounces).filter_map(|(step, b)| Some((step, b.as_ref()?)));
        let mut changes = Vec::new();
        for (step, (who, entry)) in made() {
            match step {
                Step::Nothing => {}
                Step::Count(count) => changes.push(Change::put(key(COUNTS, who), count.encode())),
                Step::Add => {
                    changes.push(Change::put(key(ENTRIES, who), entry.encode()));
                    changes.push(Change::remove(key(COUNTS, who)));
                }
            }
        }
        self.written.ledger.commit(&changes)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (step, (who, entry)) in made() {
            match step {
                Step::Nothing => {}
                Step::Count(count) => drop(known.counts.insert(who.clone(), *count)),
                Step::Add => known.insert(who.clone(), entry.clone()),
            }
        }
        Ok(())
    }

    /// Forgets what is over, now and then, and when there is no room left.
    fn forget_now_and_then(
        &mut self,
        rules: &SuppressionRules,
        now: Timestamp,
    ) -> Result<(), SuppressionError> {
        let (entries, counts) = self.read(|known| (known.entries.len(), known.counts.len()));
        let is_time = now >= self.written.purge_at;
        if is_time || entries >= rules.most {
            self.forget_expired(now)?;
            self.written.purge_at = now.after(PURGE_EVERY);
        }
        if is_time || counts >= rules.most {
            self.forget_counts(now, rules.within)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, who: &Subject) -> Result<Option<Entry>, SuppressionError> {
        let changes = [Change::remove(key(ENTRIES, who)), Change::remove(key(COUNTS, who))];
        self.written.ledger.commit(&changes)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.counts.remove(who);
        Ok(known.entries.remove(who))
    }

    /// Forgets what has expired, now and then and when it must.
    fn make_room(
        &mut self,
        who: &Subject,
        now: Timestamp,
        most: usize,
    ) -> Result<(), SuppressionError> {
        let is_full =
            self.read(|known| known.entries.len() >= most && !known.entries.contains_key(who));
        if is_full || now >= self.written.purge_at {
            self.forget_expired(now)?;
            self.written.purge_at = now.after(PURGE_EVERY);
        }
        match is_full && self.read(|known| known.entries.len() >= most) {
            true => Err(SuppressionError::Full { most }),
            false => Ok(()),
        }
    }

    fn forget_expired(&mut self, now: Timestamp) -> Result<(), SuppressionError> {
        let expired: Vec<Subject> = self.read(|known| {
            let expired = known.entries.iter().filter(|(_, entry)| !entry.is_in_force(now));
            expired.map(|(who, _)| who.clone()).collect()
        });
        self.forget(ENTRIES, &expired)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for who in &expired {
            known.entries.remove(who);
        }
        Ok(())
    }

    fn forget_counts(&mut self, now: Timestamp, within: Duration) -> Result<(), SuppressionError> {
        let old: Vec<Subject> = self.read(|known| {
            let old = known.counts.iter().filter(|(_, count)| now.since(count.first) >= within);
            old.map(|(who, _)| who.clone()).collect()
        });
        self.forget(COUNTS, &old)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for who in &old {
            known.counts.remove(who);
        }
        Ok(())
    }

    fn forget(&mut self, prefix: &[u8], all: &[Subject]) -> Result<(), SuppressionError> {
        for some in all.chunks(CHANGES) {
            let changes: Vec<_> = some.iter().map(|who| Change::remove(key(prefix, who))).collect();
            self.written.ledger.commit(&changes)?;
        }
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key(prefix: &[u8], who: &Subject) -> Vec<u8> {
    [prefix, who.as_str().as_bytes()].concat()
}
