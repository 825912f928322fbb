//! The runner on a paused clock: a spool in memory, and transports that follow a script.

mod memory;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use merpati_plugin::deliver::{
    DeferClass, DeliveryOutcome, DeliveryResult, Handover, MessageSource,
};
use merpati_plugin::spool::{
    Attributes, DeliverBy, NewMessage, NextHop, Origin, Parcel, RecipientResult, Settlement,
};
use merpati_plugin::{Deliverer, Job, Observers, OutboundChain, Spool, async_trait};
use merpati_queue::{Intervals, Limits, Schedule, SiteLimits};
use merpati_route::Table;
use merpati_types::{
    ByMode, Envelope, HeaderEdits, Mailbox, Recipient, ReversePath, Severity, Status, Timestamp,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Routing, Rules, Runner, RunnerParts};
use crate::report::Reporting;
use crate::transports::{DEFAULT, TransportTable};
use memory::{Memory, Source};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

thread_local! {
    /// The moment the test began.
    static START: Instant = Instant::now();
}

/// The paused clock as the time of day.
fn now() -> Timestamp {
    at(START.with(|start| start.elapsed()))
}

fn at(age: Duration) -> Timestamp {
    Timestamp::from_millis(1_795_420_800_000).after(age)
}

/// What a next hop does with an attempt.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    Defers(Status, DeferClass),
    /// The final dot was sent, and the connection broke.
    Breaks,
}

const DEAD: Answer = Answer::Defers(Status::NO_ANSWER, DeferClass::Connection);

/// A transport that answers by the next hop, and keeps book of attempts.
#[derive(Default)]
struct Script {
    /// Next hops of which it takes so long to find out who serves them.
    slow: Mutex<BTreeMap<&'static str, Duration>>,
    /// How often that was asked of each.
    asked: Mutex<BTreeMap<NextHop, u32>>,
    answers: Mutex<BTreeMap<&'static str, Answer>>,
    attempts: Mutex<Vec<(Duration, NextHop)>>,
}

impl Script {
    fn set(&self, hop: &'static str, answer: Answer) {
        self.answers.lock().unwrap().insert(hop, answer);
    }

    /// How long after the start this hop was tried.
    fn times(&self, hop: &str) -> Vec<Duration> {
        let attempts = self.attempts.lock().unwrap();
        attempts.iter().filter(|(_, to)| to.as_str() == hop).map(|(when, _)| *when).collect()
    }
}

#[async_trait]
impl Deliverer for Script {
    fn name(&self) -> &str {
        DEFAULT
    }

    async fn site(&self, parcel: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        let hop = &parcel.next_hop;
        *self.asked.lock().unwrap().entry(hop.clone()).or_default() += 1;
        let slow = self.slow.lock().unwrap().get(hop.as_str()).copied();
        if let Some(slow) = slow {
            tokio::time::sleep_until(Instant::now() + slow).await;
        }
        Ok(hop.as_str().into())
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let hop = job.parcel.next_hop.clone();
        self.attempts.lock().unwrap().push((now().since(at(Duration::ZERO)), hop.clone()));
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(10)).await;
        let answer = self.answers.lock().unwrap().get(hop.as_str()).copied();
        let (result, diagnostic) = match answer.unwrap_or(Answer::Takes) {
            Answer::Takes => (DeliveryResult::Delivered(Handover::PassedOn), "250 2.0.0 OK"),
            Answer::Defers(status, class) => {
                let status = status.with(Severity::Transient);
                (DeliveryResult::Deferred { status, class }, "not now")
            }
            Answer::Breaks => {
                job.notes.final_dot("mx.test [192.0.2.1]:25").await;
                std::future::pending().await
            }
        };
        let outcome = DeliveryOutcome {
            result,
            remote: None,
            source: None,
            diagnostic: diagnostic.to_owned(),
        };
        vec![outcome; job.parcel.pending.len()]
    }
}

/// A runner, what it runs on, and what it runs against.
struct World {
    spool: Arc<Memory>,
    script: Arc<Script>,
    stop: watch::Sender<bool>,
    runner: JoinHandle<()>,
    rules: Rules,
}

impl World {
    fn new() -> Self {
        let schedule = Schedule { jitter_percent: 0, ..Schedule::default() };
        Self::with(Rules { schedule, ..Rules::default() })
    }

    fn with(rules: Rules) -> Self {
        now();
        let (spool, script) = (Arc::new(Memory::default()), Arc::new(Script::default()));
        let (stop, runner) = run(&spool, &script, rules.clone());
        Self { spool, script, stop, runner, rules }
    }

    fn put(&self, message: NewMessage) {
        self.spool.put(message, Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n"));
    }

    /// The process is killed, and begins anew on the same spool.
    async fn restart(&mut self) {
        self.runner.abort();
        let _ = (&mut self.runner).await;
        self.spool.restart();
        (self.stop, self.runner) = run(&self.spool, &self.script, self.rules.clone());
    }

    async fn pass(&self, time: Duration) {
        // The clock is paused: it moves on when nothing else is left to do.
        tokio::time::sleep_until(Instant::now() + time).await;
    }

    fn settlements(&self) -> Vec<Settlement> {
        self.spool.settled().into_iter().map(|(_, _, settlement)| settlement).collect()
    }

    /// Every report that was queued: when, and its text.
    fn reports(&self) -> Vec<(Duration, String)> {
        let text = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
        let settled = self.spool.settled().into_iter();
        settled
            .flat_map(|(when, _, settlement)| {
                let follow_ups = settlement.follow_ups.into_iter();
                follow_ups.map(move |report| (when.since(at(Duration::ZERO)), text(&report.body)))
            })
            .collect()
    }
}

fn run(
    spool: &Arc<Memory>,
    script: &Arc<Script>,
    usual: Rules,
) -> (watch::Sender<bool>, JoinHandle<()>) {
    let transport: Arc<dyn Deliverer> = Arc::<Script>::clone(script);
    let routing = Routing {
        router: Arc::new(TransportTable::default()),
        transports: BTreeMap::from([(DEFAULT.into(), transport)]),
        outbound: OutboundChain::default(),
        reporting: Reporting::default(),
    };
    let parts = RunnerParts {
        spool: Arc::<Memory>::clone(spool) as Arc<dyn Spool>,
        routing: Arc::new(ArcSwap::from_pointee(routing)),
        observers: Observers::new(Vec::new()),
        usual,
        destinations: Table::default(),
        limits: Limits::default(),
        seed: 7,
        hostname: "relay.test".to_owned(),
        now,
    };
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(Runner::new(parts).run(stopped)))
}

fn message(recipients: &[&str]) -> NewMessage {
    let sender = ReversePath::parse("<a@sender.test>").unwrap();
    let recipient = |text: &&str| Recipient::new(Mailbox::parse(text).unwrap());
    NewMessage {
        envelope: Envelope {
            recipients: recipients.iter().map(recipient).collect(),
            ..Envelope::new(sender)
        },
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived: now(),
    }
}

/// A message as transports see it.
pub(crate) fn source(content: &'static [u8]) -> Arc<dyn MessageSource> {
    Arc::new(Source(Bytes::from_static(content)))
}

fn by(age: Duration, mode: ByMode) -> Attributes {
    let deliver_by = Some(DeliverBy { at: at(age), mode, trace: false });
    Attributes { deliver_by, ..Attributes::default() }
}

/// Minutes between attempts, rounded.
fn gaps(times: &[Duration]) -> Vec<u64> {
    times.windows(2).map(|pair| ((pair[1] - pair[0]).as_secs() + 30) / 60).collect()
}

#[tokio::test(start_paused = true)]
async fn every_cause_has_its_times() {
    for (answer, expected) in [
        (Answer::Defers(Status::POLICY, DeferClass::Recipient), [2, 4, 8, 16]),
        (Answer::Defers(Status::MAILBOX_FULL, DeferClass::Recipient), [30, 60, 120, 30]),
        (Answer::Defers(Status::NO_ROUTE, DeferClass::Dns), [5, 10, 20, 40]),
        (Answer::Defers(Status::SYSTEM, DeferClass::Local), [5, 10, 20, 40]),
        (DEAD, [5, 10, 20, 40]),
    ] {
        let world = World::new();
        world.script.set("there.test", answer);
        world.put(message(&["b@there.test"]));
        world.pass(6 * HOUR).await;
        let gaps = gaps(&world.script.times("there.test"));
        assert_eq!(gaps[..4], expected);
        world.runner.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_told_once_and_the_end_too() {
    let world = World::new();
    world.script.set("dead.test", DEAD);
    world.put(message(&["b@dead.test"]));
    world.pass(6 * 24 * HOUR).await;
    let reports = world.reports();
    let seen: Vec<_> = reports
        .iter()
        .map(|(when, text)| {
            let action = ["delayed", "failed"].into_iter();
            let mut action = action.filter(|word| text.contains(&format!("Action: {word}")));
            (when.as_secs() / 3_600, action.next().unwrap())
        })
        .collect();
    assert_eq!(seen, [(4, "delayed"), (120, "failed")]);
    assert!(reports[1].1.contains("Status: 5.4.7"), "{}", reports[1].1);
    assert!(world.spool.parcels().is_empty());
}

/// A report that cannot be delivered, either, ends there: nobody is told of it.
#[tokio::test(start_paused = true)]
async fn reports_of_reports_are_never_written() {
    let world = World::new();
    world.script.set("dead.test", DEAD);
    world.script.set("sender.test", DEAD);
    world.put(message(&["b@dead.test"]));
    // And one that another host has sent.
    let envelope = Envelope { sender: ReversePath::Null, ..message(&["c@dead.test"]).envelope };
    world.put(NewMessage { envelope, ..message(&[]) });
    world.pass(12 * 24 * HOUR).await;
    let reports = world.reports();
    let about_b = |(_, text): &&(Duration, String)| text.contains("rfc822; b@dead.test");
    assert_eq!((reports.len(), reports.iter().filter(about_b).count()), (2, 2));
    assert!(!world.script.times("sender.test").is_empty());
    assert!(world.spool.parcels().is_empty());
}

/// RFC 2852: with R it comes back at its time; with N the sender hears of it, and it goes on.
#[tokio::test(start_paused = true)]
async fn deadlines_are_kept() {
    for (mode, status, left) in
        [(ByMode::Return, "Status: 5.4.7", 0), (ByMode::Notify, "Action: delayed", 1)]
    {
        let world = World::new();
        world.script.set("busy.test", Answer::Defers(Status::SYSTEM, DeferClass::Local));
        let begun = now().since(at(Duration::ZERO));
        let attributes = by(begun + 17 * MINUTE, mode);
        world.put(NewMessage { attributes, ..message(&["b@busy.test"]) });
        world.pass(HOUR).await;
        let reports = world.reports();
        assert_eq!(reports.len(), 1, "{mode:?}");
        assert_eq!((reports[0].0 - begun).as_secs() / 60, 17);
        assert!(reports[0].1.contains(status), "{}", reports[0].1);
        let parcels = world.spool.parcels();
        let left_there = parcels.iter().filter(|parcel| parcel.next_hop.as_str() == "busy.test");
        assert_eq!(left_there.count(), left);
        world.runner.abort();
    }
}

/// What is to come back after its time is not delivered then, however well its site is.
#[tokio::test(start_paused = true)]
async fn late_mail_is_not_delivered() {
    let world = World::new();
    let attributes = by(Duration::ZERO, ByMode::Return);
    world.pass(MINUTE).await;
    world.put(NewMessage { attributes, ..message(&["b@live.test"]) });
    world.pass(MINUTE).await;
    assert!(world.script.times("live.test").is_empty());
    assert!(world.reports()[0].1.contains("Status: 5.4.7"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_site_costs_one_probe_a_rest_and_after_a_restart_too() {
    let mut world = World::new();
    world.script.set("dead.test", DEAD);
    for _ in 0..300 {
        world.put(message(&["b@dead.test"]));
    }
    world.pass(Duration::from_secs(1)).await;
    let first = world.script.times("dead.test").len();
    assert!(first <= 5, "what began before it was known: {first}");
    world.pass(HOUR).await;
    let probes = world.script.times("dead.test").len() - first;
    // Rests of 1, 2, 4, 8 and then 15 minutes.
    assert!((4..=9).contains(&probes), "{probes}");
    world.restart().await;
    world.pass(Duration::from_secs(50)).await;
    let after = world.script.times("dead.test").len() - first - probes;
    assert!(after <= 5, "{after}");
    // And when it is well again, all of it leaves.
    world.script.set("dead.test", Answer::Takes);
    world.pass(5 * HOUR).await;
    assert!(world.spool.parcels().is_empty());
}

/// Whoever waits for a resting site is told of the delay, and gets it back, in time.
#[tokio::test(start_paused = true)]
async fn senders_hear_of_what_waits_for_a_resting_site() {
    let schedule = Schedule { expiry: 8 * HOUR, warn_after: 4 * HOUR, ..Schedule::default() };
    let world = World::with(Rules { schedule, ..Rules::default() });
    world.script.set("dead.test", DEAD);
    for _ in 0..300 {
        world.put(message(&["b@dead.test"]));
    }
    world.pass(9 * HOUR).await;
    let reports = world.reports();
    let count = |word: &str, hour| {
        let word = format!("Action: {word}");
        reports
            .iter()
            .filter(|(when, text)| when.as_secs() / 3_600 == hour && text.contains(&word))
            .count()
    };
    assert_eq!((count("delayed", 4), count("failed", 8)), (300, 300));
    assert_eq!(reports.len(), 600);
    assert!(world.script.times("dead.test").len() < 80);
}

/// An attempt of which nobody knows how it ended shows in what operators are told.
#[tokio::test(start_paused = true)]
async fn an_unknown_end_is_shown() {
    let mut world = World::new();
    world.script.set("there.test", Answer::Breaks);
    world.put(message(&["b@there.test"]));
    world.pass(MINUTE).await;
    world.restart().await;
    world.script.set("there.test", Answer::Defers(Status::SYSTEM, DeferClass::Peer));
    world.pass(MINUTE).await;
    let [settlement] = &world.settlements()[..] else { panic!("one attempt was settled") };
    let RecipientResult::Deferred { reason } = &settlement.results[0].1 else { panic!("deferred") };
    let expected =
        "not now; an earlier attempt at mx.test [192.0.2.1]:25 ended with its reply unknown";
    assert_eq!(reason, expected);
}

/// 50,000 for a site that is down, and 100 for one that is well, which came last and from the
/// same sender: they do not wait for more than a few of the others.
#[tokio::test(start_paused = true)]
async fn a_dead_site_delays_nobody_else() {
    let world = World::new();
    world.script.set("dead.test", DEAD);
    for _ in 0..50_000 {
        world.put(message(&["b@dead.test"]));
    }
    for _ in 0..100 {
        world.put(message(&["b@live.test"]));
    }
    world.pass(Duration::from_secs(1)).await;
    let times = world.script.times("live.test");
    assert_eq!(times.len(), 100);
    assert!(times.iter().all(|when| *when < Duration::from_secs(1)), "{times:?}");
    assert!(world.script.times("dead.test").len() <= 5);
    // Two batches that saw what was there, the live ones, and a sweep.
    assert!(world.spool.leases() <= 500, "{}", world.spool.leases());
}

#[tokio::test(start_paused = true)]
async fn rates_are_kept() {
    let site =
        SiteLimits { messages: merpati_queue::Rate::new(10, 10 * MINUTE), ..SiteLimits::default() };
    let schedule =
        Schedule { usual: Intervals { first: MINUTE, most: MINUTE }, ..Schedule::default() };
    let world = World::with(Rules { schedule, site: Arc::new(site) });
    for _ in 0..30 {
        world.put(message(&["b@slow.test"]));
    }
    world.pass(HOUR).await;
    let times = world.script.times("slow.test");
    assert_eq!(times.len(), 30);
    for pair in times.windows(2) {
        let gap = (pair[1] - pair[0]).as_secs();
        assert!((59..=61).contains(&gap), "{gap}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_take_long_hold_up_nobody_else() {
    let world = World::new();
    world.script.slow.lock().unwrap().insert("slow.test", Duration::from_secs(20));
    for number in 0..3_000 {
        world.put(message(&[&format!("{number}@slow.test")]));
    }
    (0..10).for_each(|number| world.put(message(&[&format!("{number}@live.test")])));
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.script.times("live.test").len(), 10);
    assert_eq!(world.script.asked.lock().unwrap()[&NextHop::from_text("slow.test")], 1);
    world.script.slow.lock().unwrap().clear();
    world.pass(MINUTE).await;
    assert_eq!(world.script.times("slow.test").len(), 3_000);
    assert!(world.spool.parcels().is_empty());
}
