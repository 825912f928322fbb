//! The scheduler against a model that keeps books of every parcel.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000).after(Duration::from_secs(seconds))
}

fn offer(scheduler: &mut Scheduler<u32>, key: u32, site: &str, sender: &str, priority: i8) {
    scheduler.offer(Offer { key, site: site.into(), sender: sender.into(), priority });
}

fn started(scheduler: &mut Scheduler<u32>) -> Vec<u32> {
    started_at(scheduler, at(0))
}

fn started_at(scheduler: &mut Scheduler<u32>, now: Timestamp) -> Vec<u32> {
    std::iter::from_fn(|| scheduler.start(now).map(|(key, _)| key)).collect()
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
    scheduler.finished("a", Finished::Served, at(0));
    assert_eq!(started(&mut scheduler), [11]);
    scheduler.finished("b", Finished::Busy, at(0));
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
    assert_eq!(started(&mut scheduler), [0, 99, 1, 2, 3, 4]);
    let back = scheduler.finished("dead", Finished::Down, at(0));
    assert_eq!(back, [5, 6, 7, 8, 9]);
    assert_eq!(scheduler.is_resting("dead", at(59)), Some(at(60)));
    assert_eq!(scheduler.is_resting("dead", at(60)), None);
    for _ in 1..5 {
        scheduler.finished("dead", Finished::Down, at(0));
    }
    offer(&mut scheduler, 5, "dead", "s", 0);
    offer(&mut scheduler, 6, "dead", "s", 0);
    assert_eq!(started_at(&mut scheduler, at(59)), []);
    assert_eq!(started_at(&mut scheduler, at(60)), [5]);
    scheduler.finished("dead", Finished::Served, at(60));
    assert_eq!(started_at(&mut scheduler, at(60)), [6]);
}

/// Whenever the next mail for it comes, a site that was down is probed by one attempt.
#[test]
fn a_dead_site_is_remembered_beyond_its_rest() {
    let mut scheduler = Scheduler::new(Limits::default());
    offer(&mut scheduler, 0, "dead", "s", 0);
    assert_eq!(started(&mut scheduler), [0]);
    scheduler.finished("dead", Finished::Down, at(0));
    // The rest ends, and nothing is there to be tried yet.
    assert_eq!(started_at(&mut scheduler, at(70)), []);
    scheduler.forget_idle(at(70));
    for key in 1..5 {
        offer(&mut scheduler, key, "dead", "s", 0);
    }
    assert_eq!(started_at(&mut scheduler, at(80)), [1]);
    assert_eq!(scheduler.finished("dead", Finished::Down, at(80)), [2, 3, 4]);
    // After an hour without any mail for it, it is as good as new.
    assert_eq!(started_at(&mut scheduler, at(80 + 60)), []);
    scheduler.forget_idle(at(80 + 60 + 3_600));
    assert!(scheduler.sites.is_empty());
}

/// A refusal to one of many connections is one refusal, though all the others say it too.
#[test]
fn one_overload_halves_a_window_once() {
    let limits = Limits { site_first: 16, ..Limits::default() };
    let mut scheduler = Scheduler::new(limits);
    for key in 0..64 {
        offer(&mut scheduler, key, "site", "s", 0);
    }
    assert_eq!(started(&mut scheduler).len(), 16);
    for _ in 0..16 {
        scheduler.finished("site", Finished::Busy, at(0));
    }
    assert_eq!(started(&mut scheduler).len(), 8);
    for _ in 0..8 {
        scheduler.finished("site", Finished::Busy, at(0));
    }
    assert_eq!(started(&mut scheduler).len(), 4);
    // What a busy site has taught is not forgotten with its last parcel.
    while scheduler.running() > 0 {
        scheduler.finished("site", Finished::Served, at(0));
        started(&mut scheduler);
    }
    let window = scheduler.sites.get("site").map(|site| site.window.size());
    assert!(window.is_none_or(|size| size < 16), "{window:?}");
}

#[test]
fn a_result_that_nothing_was_started_for_changes_nothing() {
    let mut scheduler = Scheduler::new(Limits::default());
    offer(&mut scheduler, 0, "a", "s", 0);
    for result in [Finished::Served, Finished::Busy, Finished::Down] {
        assert_eq!(scheduler.finished("a", result, at(0)), []);
        assert_eq!(scheduler.finished("unknown", result, at(0)), []);
    }
    assert_eq!((scheduler.running(), scheduler.room()), (0, 1_999));
    assert_eq!(started(&mut scheduler), [0]);
}

#[test]
fn memory_of_idle_sites_is_bounded() {
    let mut scheduler = Scheduler::new(Limits::default());
    for key in 0..12_000 {
        let site = format!("dead{key}");
        offer(&mut scheduler, key, &site, "s", 0);
        assert_eq!(started(&mut scheduler), [key]);
        scheduler.finished(&site, Finished::Down, at(0));
    }
    assert_eq!(started_at(&mut scheduler, at(60)), []);
    assert_eq!(scheduler.sites.len(), REMEMBERED);
    assert_eq!(scheduler.idle.len(), REMEMBERED);
}

#[derive(Clone, Debug)]
enum Step {
    Offer {
        site: u8,
        sender: u8,
        priority: i8,
    },
    /// Begins up to so many attempts.
    Start(u8),
    /// Ends one of those that run, by its place.
    Finish(u8, Finished),
    /// Seconds pass.
    Pass(u16),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let result = prop_oneof![
        4 => Just(Finished::Served),
        2 => Just(Finished::Busy),
        1 => Just(Finished::Down),
    ];
    prop_oneof![
        6 => (0..4_u8, 0..3_u8, -1..2_i8)
            .prop_map(|(site, sender, priority)| Step::Offer { site, sender, priority }),
        3 => any::<u8>().prop_map(Step::Start),
        4 => (any::<u8>(), result).prop_map(|(place, result)| Step::Finish(place, result)),
        1 => (0..90_u16).prop_map(Step::Pass),
        1 => Just(Step::Forget),
    ]
}

/// Where every parcel is, by what the scheduler has said.
struct Model {
    scheduler: Scheduler<u32>,
    limits: Limits,
    now: Timestamp,
    offered: u32,
    /// Keys with their sites.
    waiting: BTreeMap<u32, Arc<str>>,
    running: Vec<(u32, Arc<str>)>,
    /// Until when nothing may begin, and whether one attempt at a time may after that.
    down: HashMap<Arc<str>, Timestamp>,
}

impl Model {
    fn new(limits: Limits) -> Self {
        Self {
            scheduler: Scheduler::new(limits.clone()),
            limits,
            now: at(0),
            offered: 0,
            waiting: BTreeMap::new(),
            running: Vec::new(),
            down: HashMap::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Offer { site, sender, priority } => {
                let key = self.offered;
                self.offered += 1;
                let (site, sender) = (format!("site{site}"), format!("sender{sender}"));
                offer(&mut self.scheduler, key, &site, &sender, *priority);
                self.waiting.insert(key, site.into());
            }
            Step::Start(most) => {
                for _ in 0..*most {
                    if !self.start() {
                        break;
                    }
                }
            }
            Step::Finish(place, result) => {
                if !self.running.is_empty() {
                    let place = usize::from(*place) % self.running.len();
                    self.finish(place, *result);
                }
            }
            Step::Pass(seconds) => {
                self.now = self.now.after(Duration::from_secs((*seconds).into()))
            }
            Step::Forget => self.scheduler.forget_idle(self.now),
        }
        self.check();
    }

    /// Begins one attempt, and holds it to the rules.
    fn start(&mut self) -> bool {
        let Some((key, site)) = self.scheduler.start(self.now) else {
            self.check_idleness();
            return false;
        };
        assert_eq!(self.waiting.remove(&key), Some(Arc::clone(&site)), "{key} did not wait there");
        let beside = self.running_at(&site);
        assert!(beside < self.limits.site_most as usize, "the window of {site} is exceeded");
        if let Some(until) = self.down.get(&site) {
            assert!(*until <= self.now, "{site} rests");
            assert_eq!(beside, 0, "{site} is probed by more than one attempt");
        }
        self.running.push((key, site));
        assert!(self.running.len() <= self.limits.running as usize);
        true
    }

    fn finish(&mut self, place: usize, result: Finished) {
        let (_, site) = self.running.remove(place);
        for key in self.scheduler.finished(&site, result, self.now) {
            assert_eq!(result, Finished::Down);
            assert_eq!(self.waiting.remove(&key), Some(Arc::clone(&site)), "{key}");
        }
        if result == Finished::Down {
            assert!(self.waiting.values().all(|waits| *waits != site));
            self.down.insert(site, self.now.after(self.limits.site_rest));
        } else {
            self.down.remove(&site);
        }
    }

    fn running_at(&self, site: &Arc<str>) -> usize {
        self.running.iter().filter(|(_, runs)| runs == site).count()
    }

    /// Nothing begins only if everything that waits has a reason to.
    fn check_idleness(&self) {
        if self.running.len() == self.limits.running as usize {
            return;
        }
        for (key, site) in &self.waiting {
            let rests = self.down.get(site).is_some_and(|until| *until > self.now);
            assert!(rests || self.running_at(site) > 0, "{key} is forgotten");
        }
    }

    fn check(&self) {
        let held = self.waiting.len() + self.running.len();
        assert_eq!(self.scheduler.running() as usize, self.running.len());
        assert_eq!(self.scheduler.room(), self.limits.held.saturating_sub(held));
        for (name, site) in &self.scheduler.sites {
            let places = self.scheduler.ready.iter().filter(|ready| *ready == name).count();
            assert_eq!(places, usize::from(site.is_ready), "{name}");
            assert!(!site.is_ready || site.waiting > 0, "{name}");
            assert_eq!(site.running as usize, self.running_at(name));
        }
    }

    /// Serves everything that is left.
    fn drain(&mut self) {
        self.now = self.now.after(self.limits.site_rest);
        for _ in 0..=self.offered {
            while self.start() {}
            while !self.running.is_empty() {
                self.finish(0, Finished::Served);
            }
        }
        assert!(self.waiting.is_empty(), "{:?} never began", self.waiting);
        self.check();
    }
}

/// The same cases in every run.
fn cases() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(5321),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// No parcel is lost or begun twice, no window is exceeded, a site at rest is left alone and
    /// probed once, and nothing waits without a reason.
    #[test]
    fn every_parcel_is_accounted_for(
        steps in prop::collection::vec(step(), 0..200),
        running in 1..12_u32,
        site_first in 0..6_u32,
        site_most in 1..6_u32,
    ) {
        let limits = Limits { running, site_first, site_most, held: 50, ..Limits::default() };
        let mut model = Model::new(limits);
        for step in &steps {
            model.run(step);
        }
        model.drain();
    }

    /// Whoever has something waiting begins once before anybody else of that priority begins
    /// twice.
    #[test]
    fn senders_and_sites_wait_for_one_turn_of_the_others(
        parcels in prop::collection::vec((0..4_u8, 0..4_u8), 1..80),
    ) {
        let limits = Limits { site_first: 1, site_most: 1, running: 1, ..Limits::default() };
        let mut scheduler = Scheduler::new(limits);
        for (key, (site, sender)) in parcels.iter().enumerate() {
            let key = u32::try_from(key).unwrap();
            offer(&mut scheduler, key, &site.to_string(), &sender.to_string(), 0);
        }
        let mut left = parcels.clone();
        let mut begun = Vec::new();
        while let Some((key, site)) = scheduler.start(at(0)) {
            let who = parcels[key as usize];
            let place = left.iter().position(|other| *other == who).unwrap();
            left.swap_remove(place);
            begun.push(who);
            // Others with something left have had a turn since this one's last.
            let last = begun[..begun.len() - 1].iter().rposition(|other| *other == who);
            for other in last.into_iter().flat_map(|_| &left).filter(|other| other.0 == who.0) {
                let since = &begun[last.unwrap()..];
                prop_assert!(other == &who || since.contains(other), "{begun:?} {left:?}");
            }
            let last = begun[..begun.len() - 1].iter().rposition(|other| other.0 == who.0);
            for other in last.into_iter().flat_map(|_| &left) {
                let mut since = begun[last.unwrap()..].iter();
                prop_assert!(other.0 == who.0 || since.any(|s| s.0 == other.0), "{begun:?}");
            }
            scheduler.finished(&site, Finished::Served, at(0));
        }
        prop_assert!(left.is_empty());
    }
}
