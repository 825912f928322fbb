//! One site: what waits for it, how it does, and what it may be asked for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use merpati_types::Timestamp;

use super::{SiteLimits, SiteState};
use crate::rate::{Bucket, Rate};
use crate::window::Window;

/// Every so many starts of a site the priority goes first that has waited longest: so the lowest
/// of `n` that wait begins one of `n` times as many, however much the higher ones bring.
const YIELD: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Resting(Timestamp),
    /// Its rest is over, or others have failed there before, and nobody knows how it is now.
    Suspect,
}

#[derive(Debug)]
pub(super) struct Site<K> {
    pub(super) limits: Arc<SiteLimits>,
    pub(super) health: Health,
    /// How often in a row it was found down, beginning with the first time.
    pub(super) failures: u32,
    pub(super) window: Window,
    pub(super) running: u32,
    pub(super) waiting: usize,
    /// Whether it is among the ready; then something waits.
    pub(super) is_ready: bool,
    /// Its place among the throttled.
    pub(super) throttled: Option<Timestamp>,
    /// Its place among the idle.
    pub(super) forget_at: Option<Timestamp>,
    rates: Rates,
    /// From priority, negated so that the highest is first.
    levels: BTreeMap<i16, Level<K>>,
    /// How many were taken.
    taken: u64,
}

/// What waits with one priority.
#[derive(Debug)]
struct Level<K> {
    /// At which taking it had its last turn, or began to wait.
    turn: u64,
    turns: VecDeque<u64>,
    parcels: HashMap<u64, VecDeque<(K, u32)>>,
}

#[derive(Debug, Default)]
struct Rates {
    messages: Option<Bucket>,
    connections: Option<Bucket>,
    recipients: Option<Bucket>,
}

impl<K> Site<K> {
    pub(super) fn new(limits: Arc<SiteLimits>, health: Health) -> Self {
        Self {
            window: Window::new(limits.first, limits.most),
            limits,
            health,
            failures: 0,
            running: 0,
            waiting: 0,
            is_ready: false,
            throttled: None,
            forget_at: None,
            rates: Rates::default(),
            levels: BTreeMap::new(),
            taken: 0,
        }
    }

    /// Its bounds from here on. What was learned of it is kept as far as they allow.
    pub(super) fn set_limits(&mut self, limits: Arc<SiteLimits>) {
        self.window.set_most(limits.most);
        self.limits = limits;
    }

    pub(super) fn state(&self) -> SiteState {
        SiteState {
            window: self.window.size(),
            running: self.running,
            waiting: self.waiting,
            resting: match self.health {
                Health::Resting(until) => Some(until),
                Health::Well | Health::Suspect => None,
            },
            failures: self.failures,
            throttled: self.throttled,
            limits: Arc::clone(&self.limits),
        }
    }

    /// How many parcels of it are held.
    pub(super) fn held(&self) -> usize {
        self.waiting.saturating_add(self.running as usize)
    }

    /// Whether an attempt waits, and may begin as soon as the rates allow it.
    pub(super) fn may_start(&self) -> bool {
        self.waiting > 0
            && match self.health {
                Health::Well => self.running < self.window.size(),
                Health::Suspect => self.running == 0,
                Health::Resting(_) => false,
            }
    }

    pub(super) fn put(&mut self, priority: i8, flow: u64, parcel: (K, u32)) {
        let turn = self.taken;
        let level = self.levels.entry(-i16::from(priority)).or_insert_with(|| Level {
            turn,
            turns: VecDeque::new(),
            parcels: HashMap::new(),
        });
        let queue = level.parcels.entry(flow).or_default();
        if queue.is_empty() {
            level.turns.push_back(flow);
        }
        queue.push_back(parcel);
        self.waiting += 1;
    }

    /// What is next, and how many recipients it has.
    pub(super) fn take(&mut self) -> Option<(K, u32)> {
        let priority = if self.taken % YIELD == YIELD - 1 {
            self.levels.iter().min_by_key(|(_, level)| level.turn).map(|(priority, _)| *priority)
        } else {
            self.levels.keys().next().copied()
        }?;
        let level = self.levels.get_mut(&priority)?;
        let flow = level.turns.pop_front()?;
        let queue = level.parcels.get_mut(&flow)?;
        let parcel = queue.pop_front()?;
        if queue.is_empty() {
            level.parcels.remove(&flow);
        } else {
            level.turns.push_back(flow);
        }
        self.taken += 1;
        level.turn = self.taken;
        if level.turns.is_empty() {
            self.levels.remove(&priority);
        }
        self.waiting -= 1;
        Some(parcel)
    }

    /// When the rates let one more begin: `now`, or later.
    pub(super) fn allowed_at(&mut self, now: Timestamp) -> Timestamp {
        let Rates { messages, connections, recipients } = &mut self.rates;
        let limits = &self.limits;
        let mut at = now;
        for (bucket, rate) in [
            (messages, limits.messages),
            (connections, limits.connections),
            (recipients, limits.recipients),
        ] {
            *bucket = rate.map(|rate| renewed(*bucket, rate, now));
            if let Some(bucket) = bucket {
                at = at.max(bucket.ready_at(now));
            }
        }
        at
    }

    /// Counts an attempt that begins. It is taken for one that connects, until it says otherwise.
    pub(super) fn charge(&mut self, recipients: u32) {
        let rates = &mut self.rates;
        for (bucket, many) in [
            (&mut rates.messages, 1),
            (&mut rates.connections, 1),
            (&mut rates.recipients, recipients),
        ] {
            if let Some(bucket) = bucket {
                bucket.take(many);
            }
        }
    }

    /// Corrects the count by what an attempt has really opened.
    pub(super) fn connected(&mut self, connections: u32) {
        if let Some(bucket) = &mut self.rates.connections {
            match connections.checked_sub(1) {
                None => bucket.put_back(1),
                Some(more) => bucket.take(more),
            }
        }
    }

    /// From when on its rates need not be remembered.
    pub(super) fn rates_full_at(&self) -> Option<Timestamp> {
        let Rates { messages, connections, recipients } = &self.rates;
        [messages, connections, recipients].into_iter().flatten().map(Bucket::full_at).max()
    }
}

fn renewed(bucket: Option<Bucket>, rate: Rate, now: Timestamp) -> Bucket {
    match bucket {
        Some(bucket) => bucket.with_rate(rate, now),
        None => Bucket::new(rate, now),
    }
}
