//! The queue runner: leases what is due, attempts it, and settles what became of it.

mod attempt;
mod branches;
mod place;
mod supervised;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use merpati_plugin::spool::{Flow, Lease, NextHop, NextHops, Parcel};
use merpati_plugin::{Deliverer, Observers, OutboundChain, Router, Spool};
use merpati_queue::{Course, Finished, Limits, Offer, Schedule, Scheduler, SiteLimits};
use merpati_route::Table;
use merpati_types::{Host, Rejection, Status, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::report::Reporting;
use crate::transports::Transports;
use place::{Placed, place};

/// How long a lease is asked for. Leases end with the process; this bounds an attempt that hangs.
const LEASE: Duration = Duration::from_secs(6 * 3_600);
/// The most parcels that are leased in one step.
const BATCH: usize = 100;
/// How often a batch of what waits for resting sites is looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long to wait after the spool has failed.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// What a runner is made of.
pub struct RunnerParts {
    /// Where mail waits.
    pub spool: Arc<dyn Spool>,
    /// Who takes what; a reload replaces it for attempts to come.
    pub routing: Arc<ArcSwap<Routing>>,
    /// Who is told.
    pub observers: Observers,
    /// When to try again, and how much of a site, where no destination says otherwise.
    pub usual: Rules,
    /// The same for some next hops; the closest pattern counts.
    pub destinations: Table<Rules>,
    /// How much at once, in all.
    pub limits: Limits,
    /// Decides the jitter of rests; anything that differs from server to server.
    pub seed: u64,
    /// Our name, in reports.
    pub hostname: String,
    /// The time of day.
    pub now: fn() -> Timestamp,
}

/// How a destination is treated.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// When to try again.
    pub schedule: Schedule,
    /// How much at once, and in how much time.
    pub site: Arc<SiteLimits>,
}

impl RunnerParts {
    /// The rules for what goes there.
    fn rules(&self, next_hop: &NextHop) -> &Rules {
        let host = Host::parse(next_hop.as_str()).ok();
        let row = host.and_then(|host| self.destinations.find(&host));
        row.map_or(&self.usual, |(_, rules)| rules)
    }
}

/// What the schedule needs to know of a parcel.
fn course(parcel: &Parcel) -> Course {
    let message = &parcel.info.message;
    Course {
        arrived: message.arrived,
        deliver_by: message.attributes.deliver_by.map(|by| (by.at, by.mode)),
        failures: parcel.attempts,
        warned: parcel.warned,
        seed: parcel.id.message.as_u64(),
    }
}

/// What a reload changes: the router, the transports that it names, who else has a say, and how
/// senders are told.
pub struct Routing {
    /// Chooses transports.
    pub router: Arc<dyn Router>,
    /// The transports by name.
    pub transports: Transports,
    /// Asked at every stage of an attempt.
    pub outbound: OutboundChain,
    /// How senders are told.
    pub reporting: Reporting,
}

/// Moves mail out of a spool.
pub struct Runner {
    parts: Arc<RunnerParts>,
    scheduler: Scheduler<u64>,
    waiting: HashMap<u64, Due>,
    next_key: u64,
    /// Parcels whose way is being found out, one for each next hop.
    placing: JoinSet<Placed>,
    /// Those next hops, and what else was leased for them meanwhile.
    behind: BTreeMap<NextHop, Vec<(Lease, Parcel)>>,
    /// Next hops whose site is down, and until when it is left alone.
    resting: BTreeMap<NextHop, Timestamp>,
    /// Next hops of which enough is held, with their sites.
    crowded: BTreeMap<NextHop, Arc<str>>,
    /// When to look through what waits for resting sites.
    sweep_at: Timestamp,
    running: JoinSet<Ended>,
    /// The sites of attempts under way, for those that break down.
    sites: HashMap<Id, Arc<str>>,
}

/// A parcel that is leased and waits for its turn.
struct Due {
    lease: Lease,
    parcel: Parcel,
    how: How,
}

/// What an attempt will do.
enum How {
    Deliver(Arc<dyn Deliverer>),
    Refuse(Rejection),
}

/// An attempt that is over.
struct Ended {
    site: Arc<str>,
    next_hop: NextHop,
    result: Finished,
    connections: u32,
}

impl Runner {
    /// A runner that has not begun.
    #[must_use]
    pub fn new(parts: RunnerParts) -> Self {
        let scheduler = Scheduler::new(parts.limits.clone(), parts.seed);
        Self {
            parts: Arc::new(parts),
            scheduler,
            waiting: HashMap::new(),
            next_key: 0,
            placing: JoinSet::new(),
            behind: BTreeMap::new(),
            resting: BTreeMap::new(),
            crowded: BTreeMap::new(),
            sweep_at: Timestamp::from_millis(i64::MIN),
            running: JoinSet::new(),
            sites: HashMap::new(),
        }
    }

    /// Runs until `stop` becomes true, and then until the attempts under way are over. What was
    /// leased and not begun is handed back.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let more = self.lease().await;
            self.start();
            if more {
                continue;
            }
            let spool = Arc::clone(&self.parts.spool);
            let now = (self.parts.now)();
            let room = self.room() > 0;
            let nap = self.next_wake(now);
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await,
                Some(placed) = self.placing.join_next() => self.placed(placed).await,
                () = spool.wait_due(now), if room => {}
                () = tokio::time::sleep(nap) => {}
                changed = stop.changed() => if changed.is_err() { break },
            }
            while let Some(ended) = self.running.try_join_next_with_id() {
                self.ended(ended).await;
            }
            while let Some(placed) = self.placing.try_join_next() {
                self.placed(placed).await;
            }
        }
        self.finish().await;
    }

    /// How many parcels more may be held.
    fn room(&self) -> usize {
        let behind: usize = self.behind.values().map(Vec::len).sum();
        self.scheduler.room().saturating_sub(self.placing.len() + behind)
    }

    async fn finish(mut self) {
        let now = (self.parts.now)();
        // Leases that are not handed back end with the process.
        self.placing.abort_all();
        for (_, due) in self.waiting.drain() {
            let _ = self.parts.spool.release(due.lease, now).await;
        }
        while self.running.join_next().await.is_some() {}
    }

    /// Leases what there is room for; answers whether there may be more.
    async fn lease(&mut self) -> bool {
        let now = (self.parts.now)();
        let scheduler = &self.scheduler;
        self.resting.retain(|_, until| *until > now);
        self.crowded.retain(|_, site| !scheduler.is_sparse(site));
        let most = self.room().min(BATCH);
        if most == 0 {
            return false;
        }
        let out = self.resting.keys().chain(self.crowded.keys()).chain(self.behind.keys());
        let except: Vec<_> = out.cloned().collect();
        let next_hops = if except.is_empty() { NextHops::All } else { NextHops::Except(except) };
        let Some(leased) = self.lease_from(&next_hops, most, now).await else { return false };
        let more = leased == most;
        if !more && !self.resting.is_empty() && now >= self.sweep_at {
            self.sweep_at = now.after(SWEEP_EVERY);
            let only = NextHops::Only(self.resting.keys().cloned().collect());
            self.lease_from(&only, most - leased, now).await;
        }
        more
    }

    /// Leases from these; answers how many, if the spool has any answer.
    async fn lease_from(&mut self, from: &NextHops, most: usize, now: Timestamp) -> Option<usize> {
        match self.parts.spool.lease(now, LEASE, from, most).await {
            Ok(leased) => {
                let count = leased.len();
                for (lease, parcel) in leased {
                    self.place(lease, parcel, now).await;
                }
                Some(count)
            }
            Err(error) => {
                tracing::error!(%error, "cannot lease from the spool");
                tokio::time::sleep(SPOOL_PAUSE).await;
                None
            }
        }
    }

    /// Finds out where a parcel goes: at once if nothing has to be looked up, else beside.
    async fn place(&mut self, lease: Lease, parcel: Parcel, now: Timestamp) {
        // Looked up once for all: names that nobody answers for must not fill the room.
        if let Some(behind) = self.behind.get_mut(&parcel.next_hop) {
            behind.push((lease, parcel));
            return;
        }
        let next_hop = parcel.next_hop.clone();
        let mut placing = Box::pin(place(Arc::clone(&self.parts), lease, parcel));
        match (&mut placing).now_or_never() {
            Some(placed) => self.offer(placed, now).await,
            None => {
                self.behind.insert(next_hop, Vec::new());
                self.placing.spawn(placing);
            }
        }
    }

    async fn offer(&mut self, placed: Placed, now: Timestamp) {
        let Placed { due: Due { lease, parcel, mut how }, mut site } = placed;
        let rules = self.parts.rules(&parcel.next_hop);
        let limits = Arc::clone(&rules.site);
        if let Some(until) = self.scheduler.is_resting(&site, now) {
            self.resting.insert(parcel.next_hop.clone(), until);
            if !self.has_news(&parcel, now) {
                let look_again = rules.schedule.look_again(&course(&parcel), now);
                self.hand_back(Due { lease, parcel, how }, look_again).await;
                return;
            }
            // What there is to tell its sender is not left until the site is well again.
            how = How::Refuse(Rejection::transient(Status::NO_ANSWER, "the site does not answer"));
            site = format!("late:{}", parcel.next_hop).into();
        } else if self.scheduler.is_crowded(&site) {
            // It keeps its place in the spool, and the room here is left to other sites.
            self.crowded.insert(parcel.next_hop.clone(), site);
            let due = parcel.due;
            self.hand_back(Due { lease, parcel, how }, due).await;
            return;
        }
        let offer = Offer {
            key: self.next_key,
            site,
            limits,
            flow: Flow::of(&parcel.info.message).0,
            priority: parcel.info.message.attributes.priority,
            recipients: u32::try_from(parcel.pending.len()).unwrap_or(u32::MAX),
            has_failed: parcel.attempts > 0,
        };
        self.next_key += 1;
        self.waiting.insert(offer.key, Due { lease, parcel, how });
        self.scheduler.offer(offer);
    }

    /// Whether its sender is to hear something, however its site is.
    fn has_news(&self, parcel: &Parcel, now: Timestamp) -> bool {
        let schedule = &self.parts.rules(&parcel.next_hop).schedule;
        let course = course(parcel);
        parcel.expired
            || now >= schedule.expires(&course)
            || schedule.warns_at(&course).is_some_and(|at| now >= at)
    }

    fn start(&mut self) {
        let now = (self.parts.now)();
        while let Some((key, site)) = self.scheduler.start(now) {
            let Some(due) = self.waiting.remove(&key) else { continue };
            let parts = Arc::clone(&self.parts);
            let name = Arc::clone(&site);
            let task = self.running.spawn(async move {
                let next_hop = due.parcel.next_hop.clone();
                let (result, connections) = attempt::run(parts, due).await;
                Ended { site, next_hop, result, connections }
            });
            self.sites.insert(task.id(), name);
        }
    }

    async fn placed(&mut self, placed: Result<Placed, JoinError>) {
        let now = (self.parts.now)();
        let behind = match placed {
            Ok(placed) => {
                let behind = self.behind.remove(&placed.due.parcel.next_hop);
                self.offer(placed, now).await;
                behind.unwrap_or_default()
            }
            Err(error) => {
                // The panics of plugins are caught; this one is ours, and whose parcel it was
                // is not known: all begin anew, and that one when its lease has ended.
                tracing::error!(%error, "finding a route broke down");
                std::mem::take(&mut self.behind).into_values().flatten().collect()
            }
        };
        for (lease, parcel) in behind {
            self.place(lease, parcel, now).await;
        }
    }

    async fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let now = (self.parts.now)();
        let ended = match ended {
            Ok((id, ended)) => {
                self.sites.remove(&id);
                ended
            }
            Err(error) => {
                // Attempts catch the panics of plugins; this one is ours. The lease ends with
                // the process, and the parcel is tried again.
                tracing::error!(%error, "an attempt broke down");
                if let Some(site) = self.sites.remove(&error.id()) {
                    self.scheduler.finished(&site, Finished::Busy, 1, now);
                }
                return;
            }
        };
        let back = self.scheduler.finished(&ended.site, ended.result, ended.connections, now);
        if ended.result == Finished::Down
            && let Some(until) = self.scheduler.is_resting(&ended.site, now)
        {
            self.resting.insert(ended.next_hop, until);
            for key in back {
                if let Some(due) = self.waiting.remove(&key) {
                    let news = self.has_news(&due.parcel, now);
                    self.hand_back(due, if news { now } else { until }).await;
                }
            }
        }
        self.scheduler.forget_idle(now);
    }

    async fn hand_back(&self, due: Due, until: Timestamp) {
        if let Err(error) = self.parts.spool.release(due.lease, until).await {
            tracing::warn!(id = %due.parcel.id, %error, "cannot hand back a lease");
        }
    }

    /// When to look again although nothing has happened: a rest may be over, or a rate allow
    /// more; and what waits for resting sites is looked through.
    fn next_wake(&self, now: Timestamp) -> Duration {
        let sweep = (!self.resting.is_empty()).then_some(self.sweep_at);
        let next = self.scheduler.next_event().into_iter().chain(sweep).min();
        next.map_or(Duration::from_secs(60), |at| at.since(now))
            .clamp(Duration::from_millis(20), Duration::from_secs(60))
    }
}

#[cfg(test)]
pub(crate) mod tests;
