#![doc = include_str!("../docs/suppression.md")]

mod entry;
mod writing;

use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use merpati_dsn::BounceClass;
use merpati_ledger::{Ledger, LedgerError, Limits};
use merpati_types::{Mailbox, Timestamp};

pub use entry::{Entry, Source, Subject, SubjectError};

use entry::Count;
use writing::{COUNTS, ENTRIES, Known, Writing, Written};

/// More octets than a fact of ours takes in a ledger.
const FACT: u64 = 1 << 10;

/// What puts addresses on the list by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionRules {
    /// So many refusals within `within` put an address on the list; 0 is never.
    pub bounces: u32,
    /// The time in which they count together.
    pub within: Duration,
    /// The classes of refusals that count.
    pub classes: Vec<BounceClass>,
    /// How long a bounced address stays; `None` is for good.
    pub bounce_for: Option<Duration>,
    /// How long an address stays whose owner has complained; `None` is for good.
    pub complaint_for: Option<Duration>,
    /// The most entries, and the most addresses that are counted.
    pub most: usize,
}

impl Default for SuppressionRules {
    fn default() -> Self {
        Self {
            bounces: 0,
            within: Duration::from_secs(30 * 86_400),
            classes: vec![BounceClass::UnknownUser],
            bounce_for: Some(Duration::from_secs(90 * 86_400)),
            complaint_for: None,
            most: 100_000,
        }
    }
}

impl SuppressionRules {
    /// What the list needs of a ledger.
    #[must_use]
    pub fn ledger_limits(&self) -> Limits {
        Limits { facts: 2 * FACT * self.most as u64 + (1 << 20), ..Limits::default() }
    }
}

/// Why the list does not change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuppressionError {
    /// It has as many entries as it may: remove some, or allow more.
    #[error("the suppression list has {most} entries, the most it may have")]
    Full {
        /// The limit.
        most: usize,
    },
    /// The ledger does not take it: nothing has changed; try again later.
    #[error("the suppression list cannot be written")]
    Ledger(#[from] LedgerError),
    /// The list is not open: the server is starting, or has none.
    #[error("there is no suppression list")]
    Closed,
}

/// The list, and the rules for it. Policies are made before the list is opened: it is connected
/// later, and clones share it.
#[derive(Clone, Debug, Default)]
pub struct Suppression {
    rules: Arc<SuppressionRules>,
    list: Arc<OnceLock<SuppressionList>>,
}

impl Suppression {
    /// By these rules, with a list that is to be connected.
    #[must_use]
    pub fn new(rules: SuppressionRules) -> Self {
        Self { rules: Arc::new(rules), list: Arc::default() }
    }

    /// Uses this list from now on. Only the first one counts.
    pub fn connect(&self, list: SuppressionList) {
        // A second one would be the same ledger.
        let _ = self.list.set(list);
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &SuppressionRules {
        &self.rules
    }

    /// The list.
    ///
    /// # Errors
    /// [`SuppressionError::Closed`].
    pub fn list(&self) -> Result<&SuppressionList, SuppressionError> {
        self.list.get().ok_or(SuppressionError::Closed)
    }

    /// Takes note of mail that was refused for good, all of it in one write; answers for each
    /// whether its address is on the list because of that.
    ///
    /// # Errors
    /// [`SuppressionError`]. Of what is too much for the list nothing is kept, of the rest all is.
    pub async fn bounced(
        &self,
        bounces: &[Bounce<'_>],
        now: Timestamp,
    ) -> Result<Vec<bool>, SuppressionError> {
        let until = self.rules.bounce_for.map(|time| now.after(time));
        let counts = |class| self.rules.bounces > 0 && self.rules.classes.contains(&class);
        let entry = |bounce: &Bounce<'_>| {
            let (class, reason) = (Some(bounce.class), bounce.why.to_owned());
            let entry = Entry { source: Source::Bounce, class, since: now, until, reason };
            counts(bounce.class).then(|| (Subject::of(bounce.address), entry))
        };
        let entries: Vec<_> = bounces.iter().map(entry).collect();
        if entries.iter().all(Option::is_none) {
            return Ok(vec![false; bounces.len()]);
        }
        let rules = Arc::clone(&self.rules);
        self.list()?.write(move |list| list.count(&rules, &entries, now)).await
    }

    /// Takes note that the owner of an address has complained; answers whether it is on the list
    /// because of that.
    ///
    /// # Errors
    /// [`SuppressionError`].
    pub async fn complained(
        &self,
        address: &Mailbox,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, SuppressionError> {
        let until = self.rules.complaint_for.map(|time| now.after(time));
        let reason = why.to_owned();
        let entry = Entry { source: Source::Complaint, class: None, since: now, until, reason };
        let (most, subject) = (self.rules.most, Subject::of(address));
        self.list()?.write(move |list| list.add_unless_there(subject, entry, most)).await
    }
}

/// Mail to an address that was refused for good.
#[derive(Clone, Copy, Debug)]
pub struct Bounce<'a> {
    /// The address.
    pub address: &'a Mailbox,
    /// What kind of refusal it was.
    pub class: BounceClass,
    /// In the other side's words.
    pub why: &'a str,
}

/// Who is not to be written to: durable, and looked at without waiting. Clones are one list.
#[derive(Clone)]
pub struct SuppressionList(Arc<Inner>);

struct Inner {
    /// Also kept here, so that looking never waits for the disk.
    known: RwLock<Known>,
    /// Whoever changes `known` holds this.
    ledger: Mutex<Written>,
}

impl SuppressionList {
    /// The list that a ledger holds. What makes no sense there was written by a later version, and
    /// is left alone.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        let mut known = Known::default();
        let subject = |key: &[u8], prefix: &[u8]| {
            let text = std::str::from_utf8(&key[prefix.len()..]).ok()?;
            Some(Subject::stored(text))
        };
        for (key, value) in ledger.with_prefix(ENTRIES) {
            if let (Some(who), Some(entry)) = (subject(key, ENTRIES), Entry::decode(value)) {
                known.entries.insert(who, entry);
            }
        }
        for (key, value) in ledger.with_prefix(COUNTS) {
            if let (Some(who), Some(count)) = (subject(key, COUNTS), Count::decode(value)) {
                known.counts.insert(who, count);
            }
        }
        let ledger = Mutex::new(Written { ledger, purge_at: Timestamp::from_millis(i64::MIN) });
        Self(Arc::new(Inner { known: RwLock::new(known), ledger }))
    }

    /// Why an address is not to be written to, if it is not: the entry of its own, or that of its
    /// domain.
    #[must_use]
    pub fn find(&self, address: &Mailbox, now: Timestamp) -> Option<(Subject, Entry)> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.entries.is_empty() {
            return None;
        }
        let subjects = [Subject::of(address), Subject::domain_of(address)];
        subjects.into_iter().find_map(|who| {
            let entry = known.entries.get(&who).filter(|entry| entry.is_in_force(now))?;
            Some((who, entry.clone()))
        })
    }

    /// The entry of exactly this address or domain, if it is in force.
    #[must_use]
    pub fn entry(&self, who: &Subject, now: Timestamp) -> Option<Entry> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.entries.get(who).filter(|entry| entry.is_in_force(now)).cloned()
    }

    /// At most `most` entries in force that `wanted` wants, after `after`, in the order of their
    /// subjects.
    #[must_use]
    pub fn list(
        &self,
        after: Option<&Subject>,
        most: usize,
        now: Timestamp,
        wanted: impl Fn(&Subject, &Entry) -> bool,
    ) -> Vec<(Subject, Entry)> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = known.entries.range((from, Bound::Unbounded));
        let entries = entries.filter(|(who, entry)| entry.is_in_force(now) && wanted(who, entry));
        entries.take(most).map(|(who, entry)| (who.clone(), entry.clone())).collect()
    }

    /// Adds an entry, or replaces the one of its subject. On stable storage when it returns.
    ///
    /// # Errors
    /// [`SuppressionError::Full`], if there are `most` entries; [`SuppressionError::Ledger`].
    pub async fn add(
        &self,
        who: Subject,
        entry: Entry,
        most: usize,
    ) -> Result<(), SuppressionError> {
        self.write(move |list| list.put(who, entry, most)).await
    }

    /// Removes an entry and what was counted for it; answers it if there was one. On stable
    /// storage when it returns.
    ///
    /// # Errors
    /// [`SuppressionError::Ledger`].
    pub async fn remove(&self, who: Subject) -> Result<Option<Entry>, SuppressionError> {
        self.write(move |list| list.remove(&who)).await
    }

    /// Runs a change where blocking is allowed, alone.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Writing<'_>) -> Result<T, SuppressionError> + Send + 'static,
    ) -> Result<T, SuppressionError> {
        let inner = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            // A commit that broke down is not in effect, and neither is what follows it.
            let mut written = inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut Writing { known: &inner.known, written: &mut written })
        });
        match written.await {
            Ok(result) => result,
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }
}

impl fmt::Debug for SuppressionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        write!(f, "SuppressionList({} entries)", known.entries.len())
    }
}

#[cfg(test)]
mod tests;
