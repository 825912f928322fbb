//! Every disk operation of a workload goes wrong in turn, and random workloads are cut short.
//!
//! What was committed is there; what was not is there whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use merpati_ledger::{Change, Ledger, Limits};
use merpati_testkit::crash::{self, Plant, Tally, campaign};
use merpati_testkit::disk::{Fault, Random, SimDisk};

const LIMITS: Limits = Limits { facts: 1 << 20, segment: 4096 };
const SEEDS: u64 = 500;
/// Commits that fail one after another until the power is taken to be off.
const FAILURES: u32 = 3;

type Facts = BTreeMap<Bytes, Bytes>;

/// What may be found after a crash; the last commit that was answered is in each of them.
struct Model {
    possible: Vec<Facts>,
    /// The planted fault: replies come before the commit.
    early: bool,
}

impl Model {
    fn of(facts: Facts) -> Self {
        Self { possible: vec![facts], early: crash::plant() == Some(Plant::EarlyReply) }
    }

    /// Makes `count` commits that follow from the seed.
    fn run(&mut self, ledger: &mut Ledger, seed: u64, count: u64) {
        let mut random = Random(seed);
        let mut failures = 0;
        for _ in 0..count {
            let changes: Vec<_> = (0..1 + random.below(4)).map(|_| change(&mut random)).collect();
            let committed = ledger.commit(&changes).is_ok();
            let mut with = self.possible.clone();
            with.iter_mut().for_each(|facts| apply(facts, &changes));
            if committed {
                // What failed before is not in effect once something later is, so the ledger
                // knows in which state it is.
                let now = facts(ledger);
                assert!(with.contains(&now), "seed {seed}: not as committed");
                self.possible = vec![now];
            } else if self.early {
                self.possible = with;
            } else {
                self.possible.extend(with);
            }
            failures = if committed { 0 } else { failures + 1 };
            if failures == FAILURES {
                break;
            }
        }
    }

    fn check(&self, disk: &SimDisk, context: &str) -> Facts {
        let opened = Ledger::open(Arc::new(disk.clone()), LIMITS);
        let (ledger, recovery) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(recovery.damage, [], "{context}: a crash is no damage");
        let found = facts(&ledger);
        assert!(self.possible.contains(&found), "{context}: something committed is not there");
        found
    }
}

fn change(random: &mut Random) -> Change {
    let key = format!("key {}", random.below(20));
    match random.below(3) {
        0 => Change::remove(key),
        _ => Change::put(key, vec![random.below(256) as u8; random.below(600) as usize]),
    }
}

fn apply(facts: &mut Facts, changes: &[Change]) {
    for change in changes {
        match change.clone() {
            Change::Put { key, value } => facts.insert(key, value),
            Change::Remove { key } => facts.remove(&key),
        };
    }
}

fn facts(ledger: &Ledger) -> Facts {
    let copy = |(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    ledger.with_prefix(b"").map(copy).collect()
}

/// Two lives on one disk, with one fault.
fn run(disk: &SimDisk, seed: u64, fault: Option<(u64, Fault)>) -> Model {
    if let Some((at, fault)) = fault {
        disk.fault(at, fault);
    }
    let mut model = Model::of(Facts::new());
    for life in 0..2 {
        let Ok((mut ledger, _)) = Ledger::open(Arc::new(disk.clone()), LIMITS) else { continue };
        model.run(&mut ledger, seed * 2 + life, 40);
    }
    model
}

fn cut_and_check(model: &Model, disk: &SimDisk, seed: u64, context: &str) {
    let disk = disk.crash(seed);
    let found = model.check(&disk, context);
    // What one recovery has found, the next finds too, whatever happens meanwhile.
    let mut later = Model::of(found);
    let disk = disk.crash(seed + 1);
    if let Ok((mut ledger, _)) = Ledger::open(Arc::new(disk.clone()), LIMITS) {
        later.run(&mut ledger, seed, 3);
    }
    later.check(&disk.crash(seed + 2), &format!("{context}, again"));
}

#[test]
fn a_fault_at_any_operation_keeps_what_was_committed() {
    let whole = SimDisk::new();
    let model = run(&whole, 1, None);
    assert_eq!(model.possible.len(), 1);
    for at in 0..whole.operations() {
        for fault in [Fault::Cut, Fault::Io, Fault::Full] {
            let disk = SimDisk::new();
            let model = run(&disk, 1, Some((at, fault)));
            cut_and_check(&model, &disk, at, &format!("{fault:?} at {at}"));
        }
    }
}

#[test]
fn campaign_of_power_cuts() {
    campaign("merpati-ledger", SEEDS, |seed, tally: &Tally| {
        let whole = SimDisk::new();
        run(&whole, seed, None);
        let mut random = Random(seed);
        for round in 0..4 {
            let disk = crash::disk();
            let at = random.below(whole.operations());
            let model = run(&disk, seed, Some((at, Fault::Cut)));
            tally.cut();
            cut_and_check(&model, &disk, seed + round, &format!("seed {seed}, cut at {at}"));
            tally.recovery();
        }
    });
}
