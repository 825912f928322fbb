//! Which attempt begins next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use merpati_types::Timestamp;

use crate::window::Window;

/// The bounds of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts that run at once, in all. Default 200.
    pub running: u32,
    /// The window a new site begins with. Default 5.
    pub site_first: u32,
    /// The widest window of a site. Default 20.
    pub site_most: u32,
    /// Parcels held, waiting and running together. Default 2,000.
    pub held: usize,
    /// How long a site that failed is left alone before it is probed. Default 60 seconds.
    pub site_rest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running: 200,
            site_first: 5,
            site_most: 20,
            held: 2_000,
            site_rest: Duration::from_secs(60),
        }
    }
}

/// A parcel that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<K> {
    /// Its name, the caller's own.
    pub key: K,
    /// The site that takes it.
    pub site: Arc<str>,
    /// Whose it is: senders of one site take turns.
    pub sender: Arc<str>,
    /// Higher goes first, within a site. MT-PRIORITY's range is -9 to 9 (RFC 6710).
    pub priority: i8,
}

/// What an attempt tells about its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The site served us; what became of the mail does not matter here.
    Served,
    /// The site said that it is busy: fewer attempts at once.
    Busy,
    /// The site cannot be reached: it rests, and what waits for it is better handed back.
    Down,
}

/// Decides which attempts run. Feed it with due parcels and results; ask [`Self::start`] until
/// it has nothing more to begin.
///
/// - Sites take turns; a site takes part while its window has room.
/// - Within a site the highest priority goes first, and within a priority senders take turns.
/// - A site that is down is left alone until its rest is over, and then probed by one attempt.
#[derive(Debug)]
pub struct Scheduler<K> {
    limits: Limits,
    sites: HashMap<Arc<str>, Site<K>>,
    /// Sites with something waiting, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    running: u32,
    held: usize,
}

#[derive(Debug)]
struct Site<K> {
    window: Window,
    most: u32,
    running: u32,
    /// From priority, negated so that the highest is first, to the queues of the senders.
    waiting: BTreeMap<i16, Senders<K>>,
    /// Set while the site is down: when it may be probed.
    down_until: Option<Timestamp>,
    /// Whether it is among the turns.
    queued: bool,
}

#[derive(Debug)]
struct Senders<K> {
    turns: VecDeque<Arc<str>>,
    parcels: HashMap<Arc<str>, VecDeque<K>>,
}

impl<K: Clone> Scheduler<K> {
    /// A scheduler that holds nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, sites: HashMap::new(), turns: VecDeque::new(), running: 0, held: 0 }
    }

    /// How many more parcels it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limits.held.saturating_sub(self.held)
    }

    /// How many attempts run.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Whether the site is down at `now`, and something already waits to probe it: more of its
    /// parcels need not be offered.
    #[must_use]
    pub fn is_resting(&self, site: &str, now: Timestamp) -> Option<Timestamp> {
        self.sites.get(site)?.down_until.filter(|until| *until > now)
    }

    /// Takes a parcel that is due.
    pub fn offer(&mut self, offer: Offer<K>) {
        let limits = &self.limits;
        let site = self.sites.entry(Arc::clone(&offer.site)).or_insert_with(|| Site {
            window: Window::new(limits.site_first, limits.site_most),
            most: limits.site_most,
            running: 0,
            waiting: BTreeMap::new(),
            down_until: None,
            queued: false,
        });
        let senders = site
            .waiting
            .entry(-i16::from(offer.priority))
            .or_insert_with(|| Senders { turns: VecDeque::new(), parcels: HashMap::new() });
        let queue = senders.parcels.entry(Arc::clone(&offer.sender)).or_default();
        if queue.is_empty() {
            senders.turns.push_back(offer.sender);
        }
        queue.push_back(offer.key);
        self.held += 1;
        if !site.queued {
            site.queued = true;
            self.turns.push_back(offer.site);
        }
    }

    /// Begins an attempt, if one may begin at `now`. Every key it answers is owed a
    /// [`Self::finished`].
    pub fn start(&mut self, now: Timestamp) -> Option<(K, Arc<str>)> {
        if self.running >= self.limits.running {
            return None;
        }
        for _ in 0..self.turns.len() {
            let name = self.turns.pop_front()?;
            let Some(site) = self.sites.get_mut(&name) else { continue };
            if site.may_start(now) {
                let key = site.take()?;
                site.running += 1;
                self.running += 1;
                site.queued = !site.waiting.is_empty();
                if site.queued {
                    self.turns.push_back(Arc::clone(&name));
                }
                return Some((key, name));
            }
            self.turns.push_back(name);
        }
        None
    }

    /// Takes the result of an attempt at `site`. If it is down, everything that waits for it is
    /// answered, to be handed back.
    pub fn finished(&mut self, site: &str, result: Finished, now: Timestamp) -> Vec<K> {
        self.running = self.running.saturating_sub(1);
        self.held = self.held.saturating_sub(1);
        let Some(known) = self.sites.get_mut(site) else { return Vec::new() };
        known.running = known.running.saturating_sub(1);
        let mut back = Vec::new();
        match result {
            Finished::Served => {
                known.down_until = None;
                known.window.succeeded();
            }
            Finished::Busy => known.window.refused(),
            Finished::Down => {
                known.window = Window::new(1, known.most);
                known.down_until = Some(now.after(self.limits.site_rest));
                while let Some(key) = known.take() {
                    back.push(key);
                }
                known.queued = false;
                self.turns.retain(|name| &**name != site);
                self.held -= back.len();
            }
        }
        // A site that is idle and well is as good as one never heard of.
        if known.running == 0 && known.waiting.is_empty() && known.down_until.is_none() {
            self.sites.remove(site);
        }
        back
    }

    /// Forgets sites whose rest is over and for which nothing waits.
    pub fn forget_idle(&mut self, now: Timestamp) {
        self.sites.retain(|_, site| {
            site.running > 0
                || !site.waiting.is_empty()
                || site.down_until.is_some_and(|until| until > now)
        });
    }
}

impl<K> Site<K> {
    fn may_start(&self, now: Timestamp) -> bool {
        match self.down_until {
            Some(until) if until > now => false,
            // Its rest is over: one probe.
            Some(_) => self.running == 0,
            None => self.running < self.window.size(),
        }
    }

    fn take(&mut self) -> Option<K> {
        let mut first = self.waiting.first_entry()?;
        let senders = first.get_mut();
        let sender = senders.turns.pop_front()?;
        let queue = senders.parcels.get_mut(&sender)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            senders.parcels.remove(&sender);
        } else {
            senders.turns.push_back(sender);
        }
        if senders.turns.is_empty() {
            first.remove();
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_000_000)
    }

    fn offer(scheduler: &mut Scheduler<u32>, key: u32, site: &str, sender: &str, priority: i8) {
        scheduler.offer(Offer { key, site: site.into(), sender: sender.into(), priority });
    }

    fn started(scheduler: &mut Scheduler<u32>) -> Vec<u32> {
        std::iter::from_fn(|| scheduler.start(now()).map(|(key, _)| key)).collect()
    }

    #[test]
    fn senders_take_turns_and_priority_goes_first() {
        let mut scheduler = Scheduler::new(Limits { site_first: 10, ..Limits::default() });
        for key in 0..5 {
            offer(&mut scheduler, key, "site", "bulk", 0);
        }
        offer(&mut scheduler, 10, "site", "person", 0);
        offer(&mut scheduler, 20, "site", "bulk", 4);
        assert_eq!(started(&mut scheduler), [20, 0, 10, 1, 2, 3, 4]);
    }

    #[test]
    fn windows_bound_a_site_and_sites_take_turns() {
        let limits = Limits { site_first: 2, running: 3, ..Limits::default() };
        let mut scheduler = Scheduler::new(limits);
        for key in 0..4 {
            offer(&mut scheduler, key, "a", "s", 0);
            offer(&mut scheduler, 10 + key, "b", "s", 0);
        }
        assert_eq!(started(&mut scheduler), [0, 10, 1]);
        scheduler.finished("a", Finished::Served, now());
        assert_eq!(started(&mut scheduler), [11]);
        scheduler.finished("b", Finished::Busy, now());
        assert_eq!(started(&mut scheduler), [2]);
        assert_eq!((scheduler.running(), scheduler.room()), (3, 2_000 - 6));
    }

    #[test]
    fn a_site_that_is_down_costs_one_probe() {
        let mut scheduler = Scheduler::new(Limits::default());
        for key in 0..10 {
            offer(&mut scheduler, key, "dead", "s", 0);
        }
        offer(&mut scheduler, 99, "live", "s", 0);
        let first = started(&mut scheduler);
        assert_eq!(first, [0, 99, 1, 2, 3, 4]);
        let back = scheduler.finished("dead", Finished::Down, now());
        assert_eq!(back, [5, 6, 7, 8, 9]);
        assert!(scheduler.is_resting("dead", now()).is_some());
        for _ in 1..5 {
            scheduler.finished("dead", Finished::Down, now());
        }
        let later = now().after(Duration::from_secs(61));
        offer(&mut scheduler, 5, "dead", "s", 0);
        offer(&mut scheduler, 6, "dead", "s", 0);
        assert_eq!(scheduler.start(now()), None);
        assert_eq!(scheduler.start(later), Some((5, "dead".into())));
        assert_eq!(scheduler.start(later), None);
        scheduler.finished("dead", Finished::Served, later);
        assert_eq!(scheduler.start(later), Some((6, "dead".into())));
    }
}
