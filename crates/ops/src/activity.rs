//! What has happened since the start, in all and at the busiest next hops.
//!
//! Names of next hops come from anybody's mail, so they are no labels of metrics: here a bounded
//! number is kept, and the least busy makes room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use merpati_plugin::deliver::DeliveryResult;
use merpati_plugin::{Event, Observer};

/// How many next hops are kept.
const HOPS: usize = 256;
/// The longest reason that is kept, in characters.
const REASON: usize = 200;

/// Counts what happens: an observer.
#[derive(Debug, Default)]
pub struct Activity {
    accepted: AtomicU64,
    delivered: AtomicU64,
    deferred: AtomicU64,
    bounced: AtomicU64,
    hops: Mutex<HashMap<String, Hop>>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages accepted.
    pub accepted: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients failed or given up.
    pub bounced: u64,
}

/// Counts of one next hop since it is among the busiest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Recipients delivered.
    pub delivered: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients failed or given up.
    pub bounced: u64,
    /// What was said of the last recipient that was not delivered.
    pub last: Option<String>,
    /// Attempts, older ones counting less and less.
    heat: u64,
}

#[derive(Clone, Copy)]
enum Outcome {
    Delivered,
    Deferred,
    Bounced,
}

impl Activity {
    /// The counts so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            accepted: read(&self.accepted),
            delivered: read(&self.delivered),
            deferred: read(&self.deferred),
            bounced: read(&self.bounced),
        }
    }

    /// At most `most` next hops, the busiest first.
    #[must_use]
    pub fn busiest(&self, most: usize) -> Vec<(String, Hop)> {
        let mut hops: Vec<_> =
            self.hops().iter().map(|(name, hop)| (name.clone(), hop.clone())).collect();
        hops.sort_by(|(a, hop_a), (b, hop_b)| hop_b.heat.cmp(&hop_a.heat).then_with(|| a.cmp(b)));
        hops.truncate(most);
        hops
    }

    fn note(&self, name: &str, outcome: Outcome, reason: &str) {
        let mut hops = self.hops();
        if !hops.contains_key(name) {
            make_room(&mut hops);
            hops.insert(name.to_owned(), Hop::default());
        }
        let Some(hop) = hops.get_mut(name) else { return };
        hop.heat += 1;
        match outcome {
            Outcome::Delivered => hop.delivered += 1,
            Outcome::Deferred => hop.deferred += 1,
            Outcome::Bounced => hop.bounced += 1,
        }
        if !matches!(outcome, Outcome::Delivered) {
            hop.last = Some(reason.chars().take(REASON).collect());
        }
    }

    fn hops(&self) -> MutexGuard<'_, HashMap<String, Hop>> {
        // Every statement leaves the counts whole.
        self.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the least busy half go, and what is left cool down: what comes after has a chance.
fn make_room(hops: &mut HashMap<String, Hop>) {
    if hops.len() < HOPS {
        return;
    }
    let mut heats: Vec<u64> = hops.values().map(|hop| hop.heat).collect();
    let (_, &mut median, _) = heats.select_nth_unstable(HOPS / 2);
    let mut room = HOPS / 2;
    hops.retain(|_, hop| {
        let stays = hop.heat > median || room == 0;
        room -= usize::from(!stays);
        hop.heat = hop.heat.div_ceil(2);
        stays
    });
}

impl Observer for Activity {
    fn observe(&self, event: &Event<'_>) {
        let add = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Accepted { .. } => {
                add(&self.accepted);
            }
            Event::Attempted { parcel, outcome, bounced, .. } => {
                let (result, count) = match outcome.result {
                    _ if *bounced => (Outcome::Bounced, &self.bounced),
                    DeliveryResult::Delivered { .. } => (Outcome::Delivered, &self.delivered),
                    DeliveryResult::Deferred { .. } => (Outcome::Deferred, &self.deferred),
                    DeliveryResult::Failed { .. } => (Outcome::Bounced, &self.bounced),
                };
                add(count);
                self.note(parcel.next_hop.as_str(), result, &outcome.diagnostic);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_busiest_of_any_number() {
        let activity = Activity::default();
        for round in 0..10_000 {
            activity.note("busy.test", Outcome::Deferred, &format!("450 {round}"));
            activity.note(&format!("{round}.test"), Outcome::Delivered, "250 ok");
        }
        assert!(activity.hops().len() <= HOPS);
        let busiest = activity.busiest(2);
        let (name, hop) = &busiest[0];
        assert_eq!((name.as_str(), hop.deferred, hop.delivered), ("busy.test", 10_000, 0));
        assert_eq!(hop.last.as_deref(), Some("450 9999"));
        assert_eq!(busiest[1].1.delivered, 1);
    }
}
