//! The queue runner: leases what is due, attempts it, and settles what became of it.

mod attempt;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use merpati_plugin::spool::{Lease, NextHop, NextHops, Parcel};
use merpati_plugin::{Deliverer, Observers, Route, Router, Spool};
use merpati_queue::{Finished, Limits, Offer, Schedule, Scheduler};
use merpati_types::{Rejection, Status, Timestamp};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::transports::Transports;

/// How long a lease is asked for. Leases end with the process; this bounds an attempt that hangs.
const LEASE: Duration = Duration::from_secs(6 * 3_600);
/// The most parcels that are leased in one step.
const BATCH: usize = 100;
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
    /// When to try again.
    pub schedule: Schedule,
    /// How much at once.
    pub limits: Limits,
    /// Our name, in reports.
    pub hostname: String,
    /// The time of day.
    pub now: fn() -> Timestamp,
}

/// The router, and the transports that it names.
pub struct Routing {
    /// Chooses transports.
    pub router: Arc<dyn Router>,
    /// The transports by name.
    pub transports: Transports,
}

/// Moves mail out of a spool.
pub struct Runner {
    parts: Arc<RunnerParts>,
    scheduler: Scheduler<u64>,
    waiting: HashMap<u64, Due>,
    next_key: u64,
    /// Next hops whose site is down, and until when it is left alone.
    resting: BTreeMap<NextHop, Timestamp>,
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
}

impl Runner {
    /// A runner that has not begun.
    #[must_use]
    pub fn new(parts: RunnerParts) -> Self {
        let scheduler = Scheduler::new(parts.limits.clone());
        Self {
            parts: Arc::new(parts),
            scheduler,
            waiting: HashMap::new(),
            next_key: 0,
            resting: BTreeMap::new(),
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
            let room = self.scheduler.room() > 0;
            let nap = self.next_wake(now);
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await,
                () = spool.wait_due(now), if room => {}
                () = tokio::time::sleep(nap) => {}
                changed = stop.changed() => if changed.is_err() { break },
            }
            while let Some(ended) = self.running.try_join_next_with_id() {
                self.ended(ended).await;
            }
        }
        self.finish().await;
    }

    async fn finish(mut self) {
        let now = (self.parts.now)();
        for (_, due) in self.waiting.drain() {
            // A lease that cannot be handed back ends with the process.
            let _ = self.parts.spool.release(due.lease, now).await;
        }
        while self.running.join_next().await.is_some() {}
    }

    /// Leases what there is room for; answers whether there may be more.
    async fn lease(&mut self) -> bool {
        let now = (self.parts.now)();
        self.resting.retain(|_, until| *until > now);
        let most = self.scheduler.room().min(BATCH);
        if most == 0 {
            return false;
        }
        let next_hops = if self.resting.is_empty() {
            NextHops::All
        } else {
            NextHops::Except(self.resting.keys().cloned().collect())
        };
        let leased = match self.parts.spool.lease(now, LEASE, &next_hops, most).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::error!(%error, "cannot lease from the spool");
                tokio::time::sleep(SPOOL_PAUSE).await;
                return false;
            }
        };
        let more = leased.len() == most;
        for (lease, parcel) in leased {
            self.offer(lease, parcel, now).await;
        }
        more
    }

    async fn offer(&mut self, lease: Lease, parcel: Parcel, now: Timestamp) {
        let (mut how, transport) = self.route(&parcel).await;
        let mut site: Arc<str> = format!("{transport}:{}", parcel.next_hop).into();
        let resting = self.scheduler.is_resting(&site, now);
        if resting.is_some() && (parcel.expired || self.is_too_old(&parcel, now)) {
            // It would be handed back until the site is well again; its time is over now.
            how = How::Refuse(Rejection::transient(Status::NO_ANSWER, "the site does not answer"));
            site = format!("expired:{}", parcel.next_hop).into();
        } else if let Some(until) = resting {
            self.hand_back(Due { lease, parcel, how }, until).await;
            return;
        }
        let sender = parcel.info.message.envelope.sender.to_string().into();
        let priority = parcel.info.message.attributes.priority;
        let key = self.next_key;
        self.next_key += 1;
        self.waiting.insert(key, Due { lease, parcel, how });
        self.scheduler.offer(Offer { key, site, sender, priority });
    }

    fn is_too_old(&self, parcel: &Parcel, now: Timestamp) -> bool {
        now.since(parcel.info.message.arrived) >= self.parts.schedule.expiry
    }

    async fn route(&self, parcel: &Parcel) -> (How, Arc<str>) {
        let local: Arc<str> = "local".into();
        let routing = self.parts.routing.load_full();
        match routing.router.route(parcel).await {
            Ok(Route::Transport { name, .. }) => match routing.transports.get(&name) {
                Some(transport) => (How::Deliver(Arc::clone(transport)), name),
                None => {
                    tracing::error!(id = %parcel.id, transport = %name, "no such transport");
                    let text = "mail system is configured wrongly";
                    (How::Refuse(Rejection::transient(Status::MISCONFIGURED, text)), local)
                }
            },
            Ok(Route::Refuse(rejection)) => (How::Refuse(rejection), local),
            Ok(_) | Err(_) => {
                let text = "cannot find the route now";
                (How::Refuse(Rejection::transient(Status::NO_ROUTE, text)), local)
            }
        }
    }

    fn start(&mut self) {
        let now = (self.parts.now)();
        while let Some((key, site)) = self.scheduler.start(now) {
            let Some(due) = self.waiting.remove(&key) else { continue };
            let parts = Arc::clone(&self.parts);
            let name = Arc::clone(&site);
            let task = self.running.spawn(async move {
                let next_hop = due.parcel.next_hop.clone();
                let result = attempt::run(parts, due).await;
                Ended { site, next_hop, result }
            });
            self.sites.insert(task.id(), name);
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
                    self.scheduler.finished(&site, Finished::Busy, now);
                }
                return;
            }
        };
        let back = self.scheduler.finished(&ended.site, ended.result, now);
        if ended.result == Finished::Down
            && let Some(until) = self.scheduler.is_resting(&ended.site, now)
        {
            self.resting.insert(ended.next_hop, until);
            for key in back {
                if let Some(due) = self.waiting.remove(&key) {
                    self.hand_back(due, until).await;
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

    /// When to look again although nothing has happened: a site's rest may be over.
    fn next_wake(&self, now: Timestamp) -> Duration {
        let rest = self.resting.values().min().map(|until| until.since(now));
        rest.unwrap_or(Duration::from_secs(60))
            .clamp(Duration::from_millis(100), Duration::from_secs(60))
    }
}
