//! Which attempt begins next.

mod site;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use merpati_types::Timestamp;

use crate::rate::Rate;
use crate::schedule::{jittered, mix};
use crate::window::Window;
use site::{Health, Site};

/// How long a site that served us badly is remembered after its last attempt, so that the next
/// mail for it begins as carefully as the last one ended.
const MEMORY: Duration = Duration::from_secs(3_600);
/// The most idle sites that are remembered.
const REMEMBERED: usize = 10_000;
/// By how much rests differ, in per cent, so that sites that fell together are not probed
/// together.
const REST_JITTER: u32 = 10;

/// The bounds of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attempts that run at once, in all. Default 200.
    pub running: u32,
    /// Parcels held, waiting and running together. Default 2,000.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running: 200, held: 2_000 }
    }
}

/// The bounds of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLimits {
    /// The window it begins with. Default 5.
    pub first: u32,
    /// Its widest window. Default 20.
    pub most: u32,
    /// Parcels of it that are held, at most, before [`Scheduler::is_crowded`] says so. Default
    /// 200.
    pub held: usize,
    /// How long it is left alone when it is found down for the first time. Default 60 seconds.
    pub rest: Duration,
    /// Each time it is found down again the rest doubles, up to this. Default 15 minutes.
    pub rest_most: Duration,
    /// How many attempts may begin. Default no bound.
    pub messages: Option<Rate>,
    /// How many connections may be opened. Default no bound.
    pub connections: Option<Rate>,
    /// How many recipients may be attempted. Default no bound.
    pub recipients: Option<Rate>,
}

impl Default for SiteLimits {
    fn default() -> Self {
        Self {
            first: 5,
            most: 20,
            held: 200,
            rest: Duration::from_secs(60),
            rest_most: Duration::from_secs(15 * 60),
            messages: None,
            connections: None,
            recipients: None,
        }
    }
}

impl SiteLimits {
    /// How long a site rests that was found down so many times in a row.
    fn rest_after(&self, failures: u32, seed: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let rest = self.rest.saturating_mul(1 << doublings).min(self.rest_most.max(self.rest));
        jittered(rest, REST_JITTER, seed ^ u64::from(failures))
    }
}

/// A parcel that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<K> {
    /// Its name, the caller's own.
    pub key: K,
    /// The site that takes it.
    pub site: Arc<str>,
    /// The site's bounds; those of the latest offer count.
    pub limits: Arc<SiteLimits>,
    /// Whose it is: the flows of one site take turns.
    pub flow: u64,
    /// Higher goes first, within a site. MT-PRIORITY's range is -9 to 9 (RFC 6710).
    pub priority: i8,
    /// How many recipients it has.
    pub recipients: u32,
    /// Whether an attempt has failed before: a site that nothing else is known of is probed by
    /// one attempt then. So a restart costs a site that is down no more than one.
    pub has_failed: bool,
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

/// How a site is, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteState {
    /// How many attempts may run at once now.
    pub window: u32,
    /// How many do.
    pub running: u32,
    /// Parcels of it that are held and wait.
    pub waiting: usize,
    /// Until when it is left alone, if it is down.
    pub resting: Option<Timestamp>,
    /// How often in a row it was found down.
    pub failures: u32,
    /// Until when its rates are used up, if they are.
    pub throttled: Option<Timestamp>,
    /// Its bounds.
    pub limits: Arc<SiteLimits>,
}

/// Decides which attempts run. Feed it with due parcels and results; ask [`Self::start`] until
/// it has nothing more to begin.
///
/// ```text
///            Down                     rest is over
///   Well ───────────▶ Resting ─────────────────────▶ Suspect
///    ▲                   ▲  no attempt begins           │  one attempt at a time
///    │                   └──── Down, for longer ────────┤
///    └───────────────────────── Served, Busy ───────────┘
/// ```
/// - Sites take turns; a site takes part while its window and its rates have room.
/// - Within a site the highest priority goes first, and within a priority flows take turns.
///   Every eighth start goes to the priority that has waited longest, so that none waits for
///   ever: with `n` priorities waiting, each begins one of `8 n`.
/// - A site that is down is left alone until its rest is over, and then probed by one attempt.
/// - No operation looks at all sites: what cannot begin costs nothing while it waits.
#[derive(Debug)]
pub struct Scheduler<K> {
    limits: Limits,
    seed: u64,
    sites: HashMap<Arc<str>, Site<K>>,
    /// Sites with something waiting that their window lets begin, in the order of their turns.
    ready: VecDeque<Arc<str>>,
    /// Sites at rest, by the end of it.
    resting: BTreeSet<(Timestamp, Arc<str>)>,
    /// Sites whose rates are used up, by the moment they are not.
    throttled: BTreeSet<(Timestamp, Arc<str>)>,
    /// Sites with nothing to do that are still worth remembering, by the end of that.
    idle: BTreeSet<(Timestamp, Arc<str>)>,
    running: u32,
    held: usize,
}

impl<K: Clone> Scheduler<K> {
    /// A scheduler that holds nothing. `seed` decides the jitter of rests.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            seed,
            sites: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            throttled: BTreeSet::new(),
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

    /// Whether so many parcels of the site are held that more would only take the room of other
    /// sites: leave them where they are until [`Self::is_sparse`]. What a site may have held is
    /// four times its window, as that keeps it busy, and never more than what is left free.
    #[must_use]
    pub fn is_crowded(&self, site: &str) -> bool {
        self.sites.get(site).is_some_and(|site| site.held() >= self.share(site))
    }

    /// Whether a site that was crowded has room for a good many again.
    #[must_use]
    pub fn is_sparse(&self, site: &str) -> bool {
        self.sites.get(site).is_none_or(|site| site.held() <= self.share(site) / 2)
    }

    fn share(&self, site: &Site<K>) -> usize {
        let busy = 4 * site.window.size() as usize;
        busy.min(site.limits.held).min(self.room()).max(1)
    }

    /// The next moment at which something may begin although nothing happens: a rest
    /// ends, or a rate allows more.
    #[must_use]
    pub fn next_event(&self) -> Option<Timestamp> {
        let first = |set: &BTreeSet<(Timestamp, Arc<str>)>| set.first().map(|(at, _)| *at);
        first(&self.resting).into_iter().chain(first(&self.throttled)).min()
    }

    /// Takes a parcel that is due. Its key is answered once: by [`Self::start`], or by
    /// [`Self::finished`] of another parcel.
    pub fn offer(&mut self, offer: Offer<K>) {
        let Offer { key, site: name, limits, flow, priority, recipients, has_failed } = offer;
        let site = self.sites.entry(Arc::clone(&name)).or_insert_with(|| {
            let health = if has_failed { Health::Suspect } else { Health::Well };
            Site::new(Arc::clone(&limits), health)
        });
        site.set_limits(limits);
        if let Some(when) = site.forget_at.take() {
            self.idle.remove(&(when, Arc::clone(&name)));
        }
        site.put(priority, flow, (key, recipients));
        self.held += 1;
        Self::make_ready(&mut self.ready, site, &name);
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
            let allowed = site.allowed_at(now);
            if allowed > now {
                site.throttled = Some(allowed);
                self.throttled.insert((allowed, name));
                continue;
            }
            let Some((key, recipients)) = site.take() else { continue };
            site.charge(recipients);
            site.running += 1;
            self.running += 1;
            Self::make_ready(&mut self.ready, site, &name);
            return Some((key, name));
        }
        None
    }

    /// Takes the result of an attempt at `site` that has opened so many `connections`. If it is
    /// down, everything that waits for it is answered, to be handed back. A result that nothing
    /// was started for changes nothing.
    pub fn finished(
        &mut self,
        site: &str,
        result: Finished,
        connections: u32,
        now: Timestamp,
    ) -> Vec<K> {
        let Some((name, _)) = self.sites.get_key_value(site) else { return Vec::new() };
        let name = Arc::clone(name);
        let Some(site) = self.sites.get_mut(&name) else { return Vec::new() };
        if site.running == 0 {
            return Vec::new();
        }
        site.running -= 1;
        self.running -= 1;
        self.held -= 1;
        site.connected(connections);
        if let Some(at) = site.throttled.take() {
            self.throttled.remove(&(at, Arc::clone(&name)));
        }
        let mut back = Vec::new();
        match result {
            Finished::Served => {
                Self::recover(&mut self.resting, site, &name);
                site.window.succeeded();
            }
            Finished::Busy => {
                // It speaks to us, so it is not down.
                Self::recover(&mut self.resting, site, &name);
                site.window.refused(site.running);
            }
            Finished::Down => {
                // Attempts that began before the first one failed say nothing new.
                let rests = match site.health {
                    Health::Resting(until) if until > now => true,
                    Health::Resting(until) => {
                        self.resting.remove(&(until, Arc::clone(&name)));
                        false
                    }
                    Health::Well | Health::Suspect => false,
                };
                if !rests {
                    site.failures = site.failures.saturating_add(1);
                    let seed = name.bytes().fold(self.seed, |seed, b| mix(seed ^ u64::from(b)));
                    let until = now.after(site.limits.rest_after(site.failures, seed));
                    site.health = Health::Resting(until);
                    self.resting.insert((until, Arc::clone(&name)));
                }
                site.window = Window::new(1, site.limits.most);
                back = Self::give_back(&mut self.ready, site, &name);
                self.held -= back.len();
            }
        }
        Self::make_ready(&mut self.ready, site, &name);
        self.rest_or_forget(&name, now);
        back
    }

    /// Answers everything that waits for the site, to be handed back. What runs goes on.
    pub fn drain(&mut self, site: &str, now: Timestamp) -> Vec<K> {
        let Some((name, _)) = self.sites.get_key_value(site) else { return Vec::new() };
        let name = Arc::clone(name);
        let Some(site) = self.sites.get_mut(&name) else { return Vec::new() };
        let back = Self::give_back(&mut self.ready, site, &name);
        self.held -= back.len();
        self.rest_or_forget(&name, now);
        back
    }

    /// The site is told to be slower: its window halves, as if it had said that it is busy.
    pub fn slow(&mut self, site: &str) {
        if let Some(site) = self.sites.get_mut(site) {
            site.window.refused(site.running);
        }
    }

    /// Ends the site's rest: the next attempt finds out how it is.
    pub fn wake_up(&mut self, site: &str, now: Timestamp) {
        let Some((name, _)) = self.sites.get_key_value(site) else { return };
        let name = Arc::clone(name);
        let Some(site) = self.sites.get_mut(&name) else { return };
        if let Health::Resting(until) = site.health {
            self.resting.remove(&(until, Arc::clone(&name)));
            site.health = Health::Suspect;
            Self::make_ready(&mut self.ready, site, &name);
            self.rest_or_forget(&name, now);
        }
    }

    /// Changes the bounds of a site at once, for what waits too.
    pub fn set_limits(&mut self, site: &str, limits: Arc<SiteLimits>) {
        let Some((name, _)) = self.sites.get_key_value(site) else { return };
        let name = Arc::clone(name);
        let Some(site) = self.sites.get_mut(&name) else { return };
        site.set_limits(limits);
        if let Some(at) = site.throttled.take() {
            self.throttled.remove(&(at, Arc::clone(&name)));
        }
        Self::make_ready(&mut self.ready, site, &name);
    }

    /// What is known of a site, if there is anything to know.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<SiteState> {
        self.sites.get(name).map(Site::state)
    }

    /// What is known of every site, in no order.
    pub fn sites(&self) -> impl Iterator<Item = (&Arc<str>, SiteState)> {
        self.sites.iter().map(|(name, site)| (name, site.state()))
    }

    /// Forgets sites for which nothing has been tried for long.
    pub fn forget_idle(&mut self, now: Timestamp) {
        while self.idle.first().is_some_and(|(when, _)| *when <= now) {
            self.forget_first();
        }
    }

    fn give_back(ready: &mut VecDeque<Arc<str>>, site: &mut Site<K>, name: &Arc<str>) -> Vec<K> {
        if std::mem::take(&mut site.is_ready) {
            ready.retain(|ready| ready != name);
        }
        std::iter::from_fn(|| site.take().map(|(key, _)| key)).collect()
    }

    fn recover(resting: &mut BTreeSet<(Timestamp, Arc<str>)>, site: &mut Site<K>, name: &Arc<str>) {
        if let Health::Resting(until) = site.health {
            resting.remove(&(until, Arc::clone(name)));
        }
        site.health = Health::Well;
        site.failures = 0;
    }

    /// Ends the rest of sites whose time has come, and the wait of those whose rates allow more.
    fn wake(&mut self, now: Timestamp) {
        while self.throttled.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.throttled.pop_first() else { break };
            if let Some(site) = self.sites.get_mut(&name) {
                site.throttled = None;
                Self::make_ready(&mut self.ready, site, &name);
            }
        }
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
        if !site.is_ready && site.throttled.is_none() && site.may_start() {
            site.is_ready = true;
            ready.push_back(Arc::clone(name));
        }
    }

    /// Drops a site for which nothing waits or runs, at once or, if it served us badly or its
    /// rates are used, later.
    fn rest_or_forget(&mut self, name: &Arc<str>, now: Timestamp) {
        let Some(site) = self.sites.get_mut(name) else { return };
        if site.running > 0 || site.waiting > 0 || matches!(site.health, Health::Resting(_)) {
            return;
        }
        let full_at = site.rates_full_at().filter(|at| *at > now);
        let is_well = site.health == Health::Well
            && site.window.size() >= site.limits.first.min(site.limits.most);
        let when = match full_at {
            None if is_well => {
                self.sites.remove(name);
                return;
            }
            Some(at) if is_well => at,
            at => at.unwrap_or(now).max(now.after(MEMORY)),
        };
        if let Some(old) = site.forget_at.replace(when) {
            self.idle.remove(&(old, Arc::clone(name)));
        }
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

#[cfg(test)]
mod tests;
