//! Which attempt begins next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use merpati_types::Timestamp;

use crate::window::Window;

/// How long a site that served us badly is remembered after its last attempt, so that the next
/// mail for it begins as carefully as the last one ended.
const MEMORY: Duration = Duration::from_secs(3_600);
/// The most idle sites that are remembered.
const REMEMBERED: usize = 10_000;

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
/// ```text
///            Down                     rest is over
///   Well ───────────▶ Resting ─────────────────────▶ Suspect
///    ▲                   ▲  no attempt begins           │  one attempt at a time
///    │                   └──────────── Down ────────────┤
///    └───────────────────────── Served, Busy ───────────┘
/// ```
/// - Sites take turns; a site takes part while its window has room.
/// - Within a site the highest priority goes first, and within a priority senders take turns.
/// - A site that is down is left alone until its rest is over, and then probed by one attempt.
/// - No operation looks at all sites: what cannot begin costs nothing while it waits.
#[derive(Debug)]
pub struct Scheduler<K> {
    limits: Limits,
    sites: HashMap<Arc<str>, Site<K>>,
    /// Sites with something waiting that their window lets begin, in the order of their turns.
    ready: VecDeque<Arc<str>>,
    /// Sites at rest, by the end of it.
    resting: BTreeSet<(Timestamp, Arc<str>)>,
    /// Sites with nothing to do that are still worth remembering, by the end of that.
    idle: BTreeSet<(Timestamp, Arc<str>)>,
    running: u32,
    held: usize,
}

#[derive(Debug)]
struct Site<K> {
    health: Health,
    window: Window,
    running: u32,
    waiting: usize,
    /// From priority, negated so that the highest is first, to the queues of the senders.
    queues: BTreeMap<i16, Senders<K>>,
    /// Whether it is among the ready; then something waits.
    is_ready: bool,
    /// Its place among the idle.
    forget_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    Resting(Timestamp),
    /// Its rest is over, and nobody knows yet whether it has helped.
    Suspect,
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
        Self {
            limits,
            sites: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            idle: BTreeSet::new(),
            running: 0,
            held: 0,
        }
    }

    /// How many more parcels it takes. It refuses none: not to offer more is the caller's part.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limits.held.saturating_sub(self.held)
    }

    /// How many attempts run.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Until when the site is left alone, if it is at `now`: none of its parcels need be offered
    /// before.
    #[must_use]
    pub fn is_resting(&self, site: &str, now: Timestamp) -> Option<Timestamp> {
        match self.sites.get(site)?.health {
            Health::Resting(until) if until > now => Some(until),
            _ => None,
        }
    }

    /// Takes a parcel that is due. Its key is answered once: by [`Self::start`], or by
    /// [`Self::finished`] of another parcel.
    pub fn offer(&mut self, offer: Offer<K>) {
        let limits = &self.limits;
        let site = self.sites.entry(Arc::clone(&offer.site)).or_insert_with(|| Site {
            health: Health::Well,
            window: Window::new(limits.site_first, limits.site_most),
            running: 0,
            waiting: 0,
            queues: BTreeMap::new(),
            is_ready: false,
            forget_at: None,
        });
        if let Some(when) = site.forget_at.take() {
            self.idle.remove(&(when, Arc::clone(&offer.site)));
        }
        site.put(offer.priority, offer.sender, offer.key);
        self.held += 1;
        Self::make_ready(&mut self.ready, site, &offer.site);
    }

    /// Begins an attempt, if one may begin at `now`. Every key it answers is owed a
    /// [`Self::finished`].
    pub fn start(&mut self, now: Timestamp) -> Option<(K, Arc<str>)> {
        self.wake(now);
        while self.running < self.limits.running {
            let name = self.ready.pop_front()?;
            let Some(site) = self.sites.get_mut(&name) else { continue };
            site.is_ready = false;
            // Its window may have shrunk since it got its place.
            if !site.may_start() {
                continue;
            }
            let Some(key) = site.take() else { continue };
            site.running += 1;
            self.running += 1;
            Self::make_ready(&mut self.ready, site, &name);
            return Some((key, name));
        }
        None
    }

    /// Takes the result of an attempt at `site`. If it is down, everything that waits for it is
    /// answered, to be handed back. A result that nothing was started for changes nothing.
    pub fn finished(&mut self, site: &str, result: Finished, now: Timestamp) -> Vec<K> {
        let Some((name, _)) = self.sites.get_key_value(site) else { return Vec::new() };
        let name = Arc::clone(name);
        let Some(site) = self.sites.get_mut(&name) else { return Vec::new() };
        if site.running == 0 {
            return Vec::new();
        }
        site.running -= 1;
        self.running -= 1;
        self.held -= 1;
        if let Health::Resting(until) = site.health {
            self.resting.remove(&(until, Arc::clone(&name)));
        }
        let mut back = Vec::new();
        match result {
            Finished::Served => {
                site.health = Health::Well;
                site.window.succeeded();
            }
            Finished::Busy => {
                // It speaks to us, so it is not down.
                site.health = Health::Well;
                site.window.refused(site.running);
            }
            Finished::Down => {
                let until = now.after(self.limits.site_rest);
                site.health = Health::Resting(until);
                site.window = Window::new(1, self.limits.site_most);
                self.resting.insert((until, Arc::clone(&name)));
                back.extend(std::iter::from_fn(|| site.take()));
                self.held -= back.len();
                if std::mem::take(&mut site.is_ready) {
                    self.ready.retain(|ready| *ready != name);
                }
            }
        }
        Self::make_ready(&mut self.ready, site, &name);
        self.rest_or_forget(&name, now);
        back
    }

    /// Forgets sites for which nothing has been tried for long.
    pub fn forget_idle(&mut self, now: Timestamp) {
        while self.idle.first().is_some_and(|(when, _)| *when <= now) {
            self.forget_first();
        }
    }

    /// Ends the rest of sites whose time has come.
    fn wake(&mut self, now: Timestamp) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, name)) = self.resting.pop_first() else { return };
            if let Some(site) = self.sites.get_mut(&name) {
                site.health = Health::Suspect;
                Self::make_ready(&mut self.ready, site, &name);
            }
            self.rest_or_forget(&name, now);
        }
    }

    /// Gives the site its place among the ready, if it may begin something.
    fn make_ready(ready: &mut VecDeque<Arc<str>>, site: &mut Site<K>, name: &Arc<str>) {
        if !site.is_ready && site.may_start() {
            site.is_ready = true;
            ready.push_back(Arc::clone(name));
        }
    }

    /// Drops a site for which nothing waits or runs, at once or, if it served us badly, later.
    fn rest_or_forget(&mut self, name: &Arc<str>, now: Timestamp) {
        let Some(site) = self.sites.get_mut(name) else { return };
        if site.running > 0 || site.waiting > 0 || matches!(site.health, Health::Resting(_)) {
            return;
        }
        if site.health == Health::Well && site.window.size() >= self.limits.site_first {
            self.sites.remove(name);
            return;
        }
        let when = now.after(MEMORY);
        site.forget_at = Some(when);
        self.idle.insert((when, Arc::clone(name)));
        if self.idle.len() > REMEMBERED {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.idle.pop_first() {
            self.sites.remove(&name);
        }
    }
}

impl<K> Site<K> {
    /// Whether an attempt waits, and may begin.
    fn may_start(&self) -> bool {
        self.waiting > 0
            && match self.health {
                Health::Well => self.running < self.window.size(),
                Health::Suspect => self.running == 0,
                Health::Resting(_) => false,
            }
    }

    fn put(&mut self, priority: i8, sender: Arc<str>, key: K) {
        let senders = self
            .queues
            .entry(-i16::from(priority))
            .or_insert_with(|| Senders { turns: VecDeque::new(), parcels: HashMap::new() });
        let queue = senders.parcels.entry(Arc::clone(&sender)).or_default();
        if queue.is_empty() {
            senders.turns.push_back(sender);
        }
        queue.push_back(key);
        self.waiting += 1;
    }

    fn take(&mut self) -> Option<K> {
        let mut first = self.queues.first_entry()?;
        let senders = first.get_mut();
        let sender = senders.turns.pop_front()?;
        let queue = senders.parcels.get_mut(&sender)?;
        let key = queue.pop_front()?;
        self.waiting -= 1;
        if queue.is_empty() {
            senders.parcels.remove(&sender);
        } else {
            senders.turns.push_back(sender);
        }
        if senders.turns.is_empty() {
            first.remove();
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests;
