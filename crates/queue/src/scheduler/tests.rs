//! The scheduler against a model that keeps books of every parcel.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000).after(Duration::from_secs(seconds))
}

/// A scheduler with the site limits of everything that is offered to it.
struct Bench {
    scheduler: Scheduler<u32>,
    site: Arc<SiteLimits>,
}

impl Bench {
    fn new(limits: Limits, site: SiteLimits) -> Self {
        Self { scheduler: Scheduler::new(limits, 7), site: Arc::new(site) }
    }

    fn offer(&mut self, key: u32, site: &str, flow: u64, priority: i8) {
        let offer = self.parcel(key, site, flow, priority);
        self.scheduler.offer(offer);
    }

    fn parcel(&self, key: u32, site: &str, flow: u64, priority: i8) -> Offer<u32> {
        let limits = Arc::clone(&self.site);
        let site = site.into();
        Offer { key, site, limits, flow, priority, recipients: 1, has_failed: false }
    }

    fn started(&mut self) -> Vec<u32> {
        self.started_at(at(0))
    }

    fn started_at(&mut self, now: Timestamp) -> Vec<u32> {
        std::iter::from_fn(|| self.scheduler.start(now).map(|(key, _)| key)).collect()
    }

    fn finished(&mut self, site: &str, result: Finished, now: Timestamp) -> Vec<u32> {
        self.scheduler.finished(site, result, 1, now)
    }
}

fn usual() -> Bench {
    Bench::new(Limits::default(), SiteLimits::default())
}

#[test]
fn what_is_drained_is_not_begun_and_what_runs_goes_on() {
    let mut bench = usual();
    (0..8).for_each(|key| bench.offer(key, "a", 1, 0));
    bench.offer(8, "b", 1, 0);
    assert_eq!(bench.started(), [0, 8, 1, 2, 3, 4]);
    assert_eq!(bench.scheduler.drain("a", at(0)), [5, 6, 7]);
    assert_eq!(bench.scheduler.drain("nobody", at(0)), []);
    let state = bench.scheduler.site("a").unwrap();
    assert_eq!((state.running, state.waiting, state.window), (5, 0, 5));
    for _ in 0..5 {
        assert_eq!(bench.finished("a", Finished::Served, at(1)), []);
    }
    assert_eq!(bench.scheduler.room(), Limits::default().held - 1);
    assert_eq!(bench.scheduler.site("a"), None, "a site that is well is not remembered");
    bench.offer(9, "a", 1, 0);
    assert_eq!(bench.started(), [9]);
}

#[test]
fn a_site_can_be_slowed_bounded_and_woken() {
    let mut bench = usual();
    (0..30).for_each(|key| bench.offer(key, "a", 1, 0));
    bench.scheduler.slow("a");
    assert_eq!(bench.started(), [0, 1]);
    let narrow = |most| Arc::new(SiteLimits { most, ..SiteLimits::default() });
    bench.scheduler.set_limits("a", narrow(1));
    assert_eq!(bench.finished("a", Finished::Served, at(1)), []);
    assert_eq!(bench.started(), []);
    bench.finished("a", Finished::Served, at(1));
    assert_eq!(bench.started(), [2]);
    assert_eq!(bench.scheduler.site("a").unwrap().limits.most, 1);
    bench.finished("a", Finished::Down, at(2));
    assert!(bench.scheduler.is_resting("a", at(3)).is_some());
    bench.offer(40, "a", 1, 0);
    assert_eq!(bench.started_at(at(3)), []);
    bench.scheduler.wake_up("a", at(3));
    assert_eq!(bench.started_at(at(3)), [40]);
}

#[test]
fn a_rate_that_is_raised_counts_at_once() {
    let slow = Rate::new(1, Duration::from_secs(3_600));
    let site = SiteLimits { messages: slow, ..SiteLimits::default() };
    let mut bench = Bench::new(Limits::default(), site);
    (0..3).for_each(|key| bench.offer(key, "a", 1, 0));
    assert_eq!(bench.started(), [0]);
    assert_eq!(bench.started_at(at(1)), []);
    assert!(bench.scheduler.site("a").unwrap().throttled.is_some());
    bench.scheduler.set_limits("a", Arc::new(SiteLimits::default()));
    assert_eq!(bench.started_at(at(1)), [1, 2]);
}

#[test]
fn senders_take_turns_and_priority_goes_first() {
    let site = SiteLimits { first: 10, ..SiteLimits::default() };
    let mut scheduler = Bench::new(Limits::default(), site);
    let (bulk, person) = (1, 2);
    for key in 0..5 {
        scheduler.offer(key, "site", bulk, 0);
    }
    scheduler.offer(10, "site", person, 0);
    scheduler.offer(20, "site", bulk, 4);
    assert_eq!(scheduler.started(), [20, 0, 10, 1, 2, 3, 4]);
}

#[test]
fn windows_bound_a_site_and_sites_take_turns() {
    let limits = Limits { running: 3, ..Limits::default() };
    let mut scheduler = Bench::new(limits, SiteLimits { first: 2, ..SiteLimits::default() });
    for key in 0..4 {
        scheduler.offer(key, "a", 0, 0);
        scheduler.offer(10 + key, "b", 0, 0);
    }
    assert_eq!(scheduler.started(), [0, 10, 1]);
    scheduler.finished("a", Finished::Served, at(0));
    assert_eq!(scheduler.started(), [11]);
    scheduler.finished("b", Finished::Busy, at(0));
    assert_eq!(scheduler.started(), [2]);
    assert_eq!((scheduler.scheduler.running(), scheduler.scheduler.room()), (3, 2_000 - 6));
}

#[test]
fn a_site_that_is_down_costs_one_probe() {
    let mut scheduler = usual();
    for key in 0..10 {
        scheduler.offer(key, "dead", 0, 0);
    }
    scheduler.offer(99, "live", 0, 0);
    assert_eq!(scheduler.started(), [0, 99, 1, 2, 3, 4]);
    let back = scheduler.finished("dead", Finished::Down, at(0));
    assert_eq!(back, [5, 6, 7, 8, 9]);
    let until = scheduler.scheduler.is_resting("dead", at(53)).unwrap();
    assert!(at(54) <= until && until <= at(66), "a minute, give or take the jitter");
    assert_eq!(scheduler.scheduler.is_resting("dead", until), None);
    assert_eq!(scheduler.scheduler.next_event(), Some(until));
    for _ in 1..5 {
        scheduler.finished("dead", Finished::Down, at(9));
    }
    assert_eq!(scheduler.scheduler.next_event(), Some(until), "they began before it was known");
    scheduler.offer(5, "dead", 0, 0);
    scheduler.offer(6, "dead", 0, 0);
    assert_eq!(scheduler.started_at(at(53)), []);
    assert_eq!(scheduler.started_at(until), [5]);
    scheduler.finished("dead", Finished::Served, until);
    assert_eq!(scheduler.started_at(until), [6]);
}

/// Whenever the next mail for it comes, a site that was down is probed by one attempt.
#[test]
fn a_dead_site_is_remembered_beyond_its_rest() {
    let mut scheduler = usual();
    scheduler.offer(0, "dead", 0, 0);
    assert_eq!(scheduler.started(), [0]);
    scheduler.finished("dead", Finished::Down, at(0));
    // The rest ends, and nothing is there to be tried yet.
    assert_eq!(scheduler.started_at(at(70)), []);
    scheduler.scheduler.forget_idle(at(70));
    for key in 1..5 {
        scheduler.offer(key, "dead", 0, 0);
    }
    assert_eq!(scheduler.started_at(at(80)), [1]);
    assert_eq!(scheduler.finished("dead", Finished::Down, at(80)), [2, 3, 4]);
    // After an hour without any mail for it, it is as good as new.
    assert_eq!(scheduler.started_at(at(80 + 132)), []);
    scheduler.scheduler.forget_idle(at(80 + 132 + 3_600));
    assert!(scheduler.scheduler.sites.is_empty());
}

/// A refusal to one of many connections is one refusal, though all the others say it too.
#[test]
fn one_overload_halves_a_window_once() {
    let site = SiteLimits { first: 16, ..SiteLimits::default() };
    let mut scheduler = Bench::new(Limits::default(), site);
    for key in 0..64 {
        scheduler.offer(key, "site", 0, 0);
    }
    assert_eq!(scheduler.started().len(), 16);
    for _ in 0..16 {
        scheduler.finished("site", Finished::Busy, at(0));
    }
    assert_eq!(scheduler.started().len(), 8);
    for _ in 0..8 {
        scheduler.finished("site", Finished::Busy, at(0));
    }
    assert_eq!(scheduler.started().len(), 4);
    // What a busy site has taught is not forgotten with its last parcel.
    while scheduler.scheduler.running() > 0 {
        scheduler.finished("site", Finished::Served, at(0));
        scheduler.started();
    }
    let window = scheduler.scheduler.sites.get("site").map(|site| site.window.size());
    assert!(window.is_none_or(|size| size < 16), "{window:?}");
}

#[test]
fn a_result_that_nothing_was_started_for_changes_nothing() {
    let mut scheduler = usual();
    scheduler.offer(0, "a", 0, 0);
    for result in [Finished::Served, Finished::Busy, Finished::Down] {
        assert_eq!(scheduler.finished("a", result, at(0)), []);
        assert_eq!(scheduler.finished("unknown", result, at(0)), []);
    }
    assert_eq!((scheduler.scheduler.running(), scheduler.scheduler.room()), (0, 1_999));
    assert_eq!(scheduler.started(), [0]);
}

#[test]
fn memory_of_idle_sites_is_bounded() {
    let mut scheduler = usual();
    for key in 0..12_000 {
        let site = format!("dead{key}");
        scheduler.offer(key, &site, 0, 0);
        assert_eq!(scheduler.started(), [key]);
        scheduler.finished(&site, Finished::Down, at(0));
    }
    assert_eq!(scheduler.started_at(at(66)), []);
    assert_eq!(scheduler.scheduler.sites.len(), REMEMBERED);
    assert_eq!(scheduler.scheduler.idle.len(), REMEMBERED);
}

/// The longer it stays down, the less often it is asked; and one answer ends that.
#[test]
fn rests_grow_while_a_site_stays_down() {
    let mut bench = usual();
    let mut now = at(0);
    let mut rests = Vec::new();
    for key in 0..8 {
        bench.offer(key, "dead", 0, 0);
        assert_eq!(bench.started_at(now), [key]);
        bench.finished("dead", Finished::Down, now);
        let until = bench.scheduler.is_resting("dead", now).unwrap();
        rests.push(until.since(now).as_secs());
        now = until;
    }
    for (rest, middle) in rests.iter().zip([60, 120, 240, 480, 900, 900, 900, 900]) {
        assert!((middle * 9 / 10..=middle * 11 / 10).contains(rest), "{rests:?}");
    }
    bench.offer(8, "dead", 0, 0);
    assert_eq!(bench.started_at(now), [8]);
    bench.finished("dead", Finished::Busy, now);
    bench.offer(9, "dead", 0, 0);
    assert_eq!(bench.started_at(now), [9]);
    bench.finished("dead", Finished::Down, now);
    let rest = bench.scheduler.is_resting("dead", now).unwrap().since(now).as_secs();
    assert!(rest <= 66, "{rest}");
}

/// After a restart nothing is known of sites, but parcels know that they have failed.
#[test]
fn what_has_failed_before_probes_a_site_that_is_not_known() {
    let mut bench = usual();
    for key in 0..5 {
        let offer = Offer { has_failed: true, ..bench.parcel(key, "site", 0, 0) };
        bench.scheduler.offer(offer);
    }
    assert_eq!(bench.started(), [0]);
    bench.finished("site", Finished::Served, at(0));
    assert_eq!(bench.started(), [1, 2, 3, 4]);
}

#[test]
fn slow_sites_do_not_take_the_room_of_others() {
    let site = SiteLimits { held: 30, first: 2, most: 2, ..SiteLimits::default() };
    let mut bench = Bench::new(Limits { held: 200, running: 100 }, site);
    let mut key = 0..;
    for slow in 0..20 {
        let name = format!("slow{slow}");
        assert!(!bench.scheduler.is_crowded(&name));
        while !bench.scheduler.is_crowded(&name) {
            bench.offer(key.next().unwrap(), &name, 0, 0);
        }
        bench.started();
    }
    assert_eq!(bench.scheduler.room(), 200 - 20 * 8, "four times the window each");
    assert!(bench.scheduler.is_sparse("new"));
    // One that gets on is soon taken from again.
    for _ in 0..4 {
        assert!(!bench.scheduler.is_sparse("slow0"));
        assert_eq!(bench.finished("slow0", Finished::Served, at(0)), []);
        bench.started();
    }
    assert!(bench.scheduler.is_sparse("slow0") && !bench.scheduler.is_crowded("slow0"));
}

/// However much comes with a higher priority, the lower ones get on.
#[test]
fn no_priority_starves() {
    let site = SiteLimits { first: 1, most: 1, ..SiteLimits::default() };
    let mut bench = Bench::new(Limits::default(), site);
    let levels: Vec<i8> = (-9..=9).collect();
    let mut next = 0;
    let mut last: BTreeMap<i8, u32> = BTreeMap::new();
    let mut priority_of = Vec::new();
    for &priority in &levels {
        bench.offer(next, "site", 0, priority);
        priority_of.push(priority);
        next += 1;
    }
    let mut top = 0;
    for turn in 0..4_000 {
        let [key] = bench.started()[..] else { panic!("one at a time") };
        let priority = priority_of[key as usize];
        top += u32::from(priority == 9);
        let before = last.insert(priority, turn).unwrap_or(0);
        assert!(turn - before <= 8 * 19, "{priority} waited from {before} to {turn}");
        // Whatever is served, as much comes anew.
        bench.offer(next, "site", 0, priority);
        priority_of.push(priority);
        next += 1;
        bench.finished("site", Finished::Served, at(0));
    }
    assert_eq!(last.len(), levels.len());
    assert!(top >= 4_000 * 7 / 8, "{top}");
}

#[test]
fn rates_hold_a_site_back_and_no_other() {
    let second = Duration::from_secs(1);
    let rates = SiteLimits {
        first: 100,
        most: 100,
        messages: Rate::new(20, 10 * second),
        ..SiteLimits::default()
    };
    let mut bench = Bench::new(Limits::default(), rates);
    for key in 0..8 {
        bench.offer(key, "slow", 0, 0);
    }
    assert_eq!(bench.started(), [0, 1], "a tenth at once");
    assert_eq!(bench.scheduler.next_event(), Some(at(0).after(second / 2)));
    bench.site = Arc::new(SiteLimits::default());
    bench.offer(10, "other", 0, 0);
    assert_eq!(bench.started(), [10]);
    assert_eq!(bench.started_at(at(1)), [2, 3]);
    // What it was given is not forgotten with its last parcel.
    for _ in 0..4 {
        bench.finished("slow", Finished::Served, at(1));
    }
    assert_eq!(bench.started_at(at(3)), [4, 5]);
}

#[test]
fn recipients_and_connections_are_counted() {
    let second = Duration::from_secs(1);
    let mut bench = usual();
    bench.site =
        Arc::new(SiteLimits { recipients: Rate::new(10, 10 * second), ..SiteLimits::default() });
    for key in 0..2 {
        let offer = Offer { recipients: 5, ..bench.parcel(key, "many", 0, 0) };
        bench.scheduler.offer(offer);
    }
    assert_eq!(bench.started(), [0]);
    assert_eq!(bench.started_at(at(4)), []);
    assert_eq!(bench.started_at(at(5)), [1], "five recipients take five seconds");

    bench.site =
        Arc::new(SiteLimits { connections: Rate::new(10, 10 * second), ..SiteLimits::default() });
    for key in 10..14 {
        bench.offer(key, "pooled", 0, 0);
    }
    assert_eq!(bench.started_at(at(9)), [10]);
    assert_eq!(bench.scheduler.finished("pooled", Finished::Served, 0, at(9)), []);
    assert_eq!(bench.started_at(at(9)), [11], "it took a connection that was there");
    assert_eq!(bench.scheduler.finished("pooled", Finished::Served, 3, at(9)), []);
    assert_eq!(bench.started_at(at(11)), []);
    assert_eq!(bench.started_at(at(12)), [12]);
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
    bench: Bench,
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
    fn new(limits: Limits, site: SiteLimits) -> Self {
        Self {
            bench: Bench::new(limits.clone(), site),
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
                let site = format!("site{site}");
                self.bench.offer(key, &site, u64::from(*sender), *priority);
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
            Step::Forget => self.bench.scheduler.forget_idle(self.now),
        }
        self.check();
    }

    /// Begins one attempt, and holds it to the rules.
    fn start(&mut self) -> bool {
        let Some((key, site)) = self.bench.scheduler.start(self.now) else {
            self.check_idleness();
            return false;
        };
        assert_eq!(self.waiting.remove(&key), Some(Arc::clone(&site)), "{key} did not wait there");
        let beside = self.running_at(&site);
        assert!(beside < self.bench.site.most as usize, "the window of {site} is exceeded");
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
        for key in self.bench.finished(&site, result, self.now) {
            assert_eq!(result, Finished::Down);
            assert_eq!(self.waiting.remove(&key), Some(Arc::clone(&site)), "{key}");
        }
        if result == Finished::Down {
            assert!(self.waiting.values().all(|waits| *waits != site));
            let until = self.bench.scheduler.is_resting(&site, self.now);
            self.down.insert(site, until.expect("it rests"));
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
        assert_eq!(self.bench.scheduler.running() as usize, self.running.len());
        assert_eq!(self.bench.scheduler.room(), self.limits.held.saturating_sub(held));
        for (name, site) in &self.bench.scheduler.sites {
            let places = self.bench.scheduler.ready.iter().filter(|ready| *ready == name).count();
            assert_eq!(places, usize::from(site.is_ready), "{name}");
            assert!(!site.is_ready || site.waiting > 0, "{name}");
            assert_eq!(site.running as usize, self.running_at(name));
        }
    }

    /// Serves everything that is left.
    fn drain(&mut self) {
        self.now = self.now.after(2 * self.bench.site.rest_most);
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
        let site = SiteLimits { first: site_first, most: site_most, ..SiteLimits::default() };
        let mut model = Model::new(Limits { running, held: 50 }, site);
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
        let site = SiteLimits { first: 1, most: 1, ..SiteLimits::default() };
        let mut scheduler = Bench::new(Limits { running: 1, ..Limits::default() }, site);
        for (key, (site, sender)) in parcels.iter().enumerate() {
            let key = u32::try_from(key).unwrap();
            scheduler.offer(key, &site.to_string(), u64::from(*sender), 0);
        }
        let mut left = parcels.clone();
        let mut begun = Vec::new();
        while let Some((key, site)) = scheduler.scheduler.start(at(0)) {
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
