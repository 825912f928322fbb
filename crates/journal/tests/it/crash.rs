//! Every disk operation of a workload goes wrong in turn, in every way there is; and long random
//! workloads live through power cuts, failures and restarts at random operations.
//!
//! Acknowledged means present and whole; not acknowledged means absent or whole,
//! and what one recovery has decided no later one undecides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use merpati_journal::{Entry, Group, Log, Options, Preparation, Record, Recovery};
use merpati_testkit::crash::{self, Plant, Tally, campaign};
use merpati_testkit::disk::{Fault, Random, SimDisk};

const OPTIONS: Options = Options {
    segment_size: 8192,
    max_group: 1 << 20,
    max_queued: 1 << 20,
    replay_from: 0,
    spares: 2,
    back_off: Duration::from_millis(50),
    salt: 7,
};

/// How many workloads are cut at every operation.
const WORKLOADS: u64 = 2;
/// How many random lives there are, unless `CRASH_SEEDS` says otherwise.
const SEEDS: u64 = 2000;

/// What is known of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Synced,
    /// It was told to have failed, or nobody was told: it is there whole or not at all.
    Failed,
    /// It was not there, or told to have failed, when something later was synced.
    Gone,
}

/// What a run of the workload has done, by group number.
#[derive(Default)]
struct Model {
    fates: BTreeMap<u64, Fate>,
    /// The sequence number of each group's last record.
    last: BTreeMap<u64, u64>,
    /// Groups of which some record was in a segment that was removed.
    removed: BTreeSet<u64>,
    by_segment: BTreeMap<u64, BTreeSet<u64>>,
    /// The planted fault: replies come before the sync.
    early: bool,
}

/// The records of group `number`: its contents follow from its number.
fn group(number: u64) -> Vec<Record> {
    let mut random = Random(number);
    let count = 1 + random.below(3);
    let record = |index: u64| {
        let fill = (number as u8).wrapping_add(index as u8);
        let meta = vec![fill; random.below(100) as usize];
        let body = (0..random.below(3)).map(|_| Bytes::from(vec![!fill; 700])).collect();
        Record { kind: index as u8, key: number, meta: meta.into(), body }
    };
    (0..count).map(record).collect()
}

impl Model {
    /// Runs `steps` writes, syncs and removals, numbered from `from`.
    fn run(&mut self, log: &mut Log, from: u64, steps: u64, seed: u64) {
        let mut random = Random(seed);
        let mut number = from;
        let mut made = None;
        for _ in 0..steps {
            match random.below(10) {
                0..5 => {
                    let batch: Vec<u64> = (number..=number + random.below(3)).collect();
                    number += batch.len() as u64;
                    self.write(log, &batch);
                }
                5..8 => {
                    let _ = log.sync();
                    self.note_synced(log);
                }
                8 => self.remove_oldest(log),
                // The next segment is made by another thread, or that is done now.
                _ => match made.take() {
                    Some(made) => log.prepared(made),
                    None => made = log.preparation().map(Preparation::run),
                },
            }
        }
    }

    fn write(&mut self, log: &mut Log, batch: &[u64]) {
        let groups: Vec<Group> = batch.iter().map(|&n| Group::new(group(n))).collect();
        let answers = log.write(&groups.iter().collect::<Vec<_>>());
        for (&number, answer) in batch.iter().zip(answers) {
            let fate = match answer {
                Ok(appended) => {
                    for position in appended.positions {
                        self.by_segment.entry(position.segment).or_default().insert(number);
                    }
                    self.last.insert(number, appended.last);
                    Fate::Written
                }
                Err(_) => Fate::Failed,
            };
            self.fates.insert(number, fate);
        }
        self.note_synced(log);
    }

    /// Marks what the log says of everything that was only written.
    fn note_synced(&mut self, log: &Log) {
        let mut newest = 0;
        for (number, fate) in &mut self.fates {
            if *fate == Fate::Written {
                let last = self.last[number];
                if last <= log.synced() || self.early {
                    *fate = Fate::Synced;
                    newest = *number;
                } else if last > log.written() {
                    *fate = Fate::Failed;
                }
            }
        }
        for (_, fate) in self.fates.range_mut(..newest) {
            if *fate == Fate::Failed {
                *fate = Fate::Gone;
            }
        }
    }

    /// The next recovery finds what was written, since only the process died.
    fn keep_written(&mut self) {
        for fate in self.fates.values_mut().filter(|fate| **fate == Fate::Written) {
            *fate = Fate::Synced;
        }
    }

    /// What a recovery has told of is there from then on, the rest is not.
    fn adopt(&mut self, seen: &BTreeMap<u64, Vec<Entry>>) {
        for (number, entry) in
            seen.iter().flat_map(|(number, all)| all.iter().map(move |e| (number, e)))
        {
            self.by_segment.entry(entry.position.segment).or_default().insert(*number);
        }
        for (number, fate) in &mut self.fates {
            *fate = match seen.contains_key(number) {
                true => Fate::Synced,
                false if matches!(fate, Fate::Gone | Fate::Synced) => *fate,
                false => Fate::Failed,
            };
        }
    }

    fn remove_oldest(&mut self, log: &mut Log) {
        let segments = log.reader().segments();
        if let [oldest, _, _, ..] = segments[..]
            && log.active() != Some(oldest)
        {
            self.removed.extend(self.by_segment.get(&oldest).into_iter().flatten());
            let _ = log.remove(oldest);
        }
    }
}

/// What recovery tells: for each group the records it replayed, in order.
fn reopen(disk: &SimDisk) -> (Log, Recovery, BTreeMap<u64, Vec<Entry>>) {
    let mut seen: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    let mut previous = 0;
    let mut replay = |entry: Entry| {
        assert!(entry.seq > previous, "sequence numbers rise");
        previous = entry.seq;
        seen.entry(entry.key).or_default().push(entry);
    };
    let (log, report) = Log::open(Arc::new(disk.clone()), OPTIONS, &mut replay).expect("opens");
    (log, report, seen)
}

/// Holds what was recovered against what was promised.
fn check(
    model: &Model,
    log: &Log,
    report: &Recovery,
    seen: &BTreeMap<u64, Vec<Entry>>,
    context: &str,
) {
    assert_eq!(report.damage, [], "{context}: a crash is no damage");
    for (number, fate) in &model.fates {
        if *fate == Fate::Synced && !model.removed.contains(number) {
            assert!(seen.contains_key(number), "{context}: group {number} was acknowledged");
        }
        let back = *fate == Fate::Gone && seen.contains_key(number);
        assert!(!back, "{context}: group {number} is not in effect");
    }
    for (number, entries) in seen {
        let expected = group(*number);
        assert_eq!(entries.len(), expected.len(), "{context}: group {number} is whole");
        for (entry, record) in entries.iter().zip(expected) {
            let (meta, body) = log.reader().parts(entry.position).expect("reads");
            assert_eq!((entry.kind, &entry.meta), (record.kind, &record.meta), "{context}");
            assert_eq!((&meta, &body[..]), (&record.meta, &record.body.concat()[..]), "{context}");
        }
    }
}

/// Cuts the power now, recovers, goes on, and recovers twice more.
fn cut_and_check(model: &Model, disk: &SimDisk, seed: u64, context: &str) {
    let disk = disk.crash(seed);
    let (mut log, report, seen) = reopen(&disk);
    check(model, &log, &report, &seen, context);

    let mut later = Model::default();
    later.write(&mut log, &[1_000_000, 1_000_001]);
    log.sync().expect("syncs");
    later.note_synced(&log);
    drop(log);
    for round in 0..2 {
        let disk = disk.crash(seed + round);
        let (log, report, again) = reopen(&disk);
        let context = format!("{context}, again {round}");
        check(model, &log, &report, &again, &context);
        check(&later, &log, &report, &again, &context);
        assert!(seen.keys().all(|number| again.contains_key(number)), "{context}: kept");
        let extra = again.keys().filter(|&&n| n < 1_000_000 && !seen.contains_key(&n)).count();
        assert_eq!(extra, 0, "{context}: what was dropped stays dropped");
    }
}

/// Runs the workload with one fault, twice restarted in between without one.
fn run(seed: u64, fault: Option<(u64, Fault)>) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    if let Some((at, fault)) = fault {
        disk.fault(at, fault);
    }
    let mut model = Model::default();
    for restart in 0..3 {
        let mut seen: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        let mut each = |entry: Entry| seen.entry(entry.key).or_default().push(entry);
        let opened = Log::open(Arc::new(disk.clone()), OPTIONS, &mut each);
        let Ok((mut log, _)) = opened else { continue };
        model.adopt(&seen);
        model.run(&mut log, 1000 * restart, 24, seed + restart);
    }
    // What only was written may be there, or not.
    for fate in model.fates.values_mut().filter(|fate| **fate == Fate::Written) {
        *fate = Fate::Failed;
    }
    (disk, model)
}

#[test]
fn a_power_cut_at_any_operation_keeps_the_promise() {
    for seed in 0..WORKLOADS {
        let (whole, model) = run(seed, None);
        assert!(model.fates.values().filter(|fate| **fate == Fate::Synced).count() > 25);
        for at in 0..whole.operations() {
            let (disk, model) = run(seed, Some((at, Fault::Cut)));
            for crash in 0..2 {
                let context = format!("seed {seed}, cut at {at}, crash {crash}");
                cut_and_check(&model, &disk, crash, &context);
            }
        }
    }
}

#[test]
fn a_failed_operation_is_told_and_survived() {
    for seed in 0..WORKLOADS {
        let operations = run(seed, None).0.operations();
        for at in 0..operations {
            for fault in [Fault::Io, Fault::Full] {
                let (disk, model) = run(seed, Some((at, fault)));
                let context = format!("seed {seed}, {fault:?} at {at}");
                cut_and_check(&model, &disk, at, &context);
            }
        }
    }
}

#[test]
fn the_death_of_the_process_alone_loses_nothing_written() {
    let disk = SimDisk::new();
    let (mut log, _, _) = reopen(&disk);
    let mut model = Model::default();
    model.write(&mut log, &[1, 2, 3]);
    let (log, report, seen) = reopen(&disk.kill());
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    check(&model, &log, &report, &seen, "killed");
    drop(log);
    // What recovery has told of is on the disk from then on.
    let killed = disk.kill();
    let (_, _, seen) = reopen(&killed);
    for seed in 0..20 {
        let (log, report, again) = reopen(&killed.crash(seed));
        check(&model, &log, &report, &again, "cut after a kill");
        assert_eq!(again.len(), seen.len(), "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_left_behind_is_void() {
    let disk = SimDisk::new();
    let (mut log, _, _) = reopen(&disk);
    let mut model = Model::default();
    model.write(&mut log, &[1]);
    log.sync().expect("syncs");
    model.write(&mut log, &[2]);
    disk.fault(disk.operations(), Fault::Io);
    log.sync().expect_err("the fault");
    model.note_synced(&log);
    model.write(&mut log, &[3]);
    log.sync().expect("syncs in a new segment");
    model.note_synced(&log);
    assert_eq!(
        model.fates.values().copied().collect::<Vec<_>>(),
        [Fate::Synced, Fate::Gone, Fate::Synced]
    );
    for seed in 0..20 {
        let (log, report, seen) = reopen(&disk.crash(seed));
        check(&model, &log, &report, &seen, "void");
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1, 3], "seed {seed}");
    }
}

/// Long lives with many faults; a failed seed is run again alone by its number.
#[test]
fn campaign_of_random_faults() {
    campaign("merpati-journal", SEEDS, lives);
}

fn lives(seed: u64, tally: &Tally) {
    let mut random = Random(seed);
    let mut disk = crash::disk();
    let mut model = Model { early: crash::plant() == Some(Plant::EarlyReply), ..Model::default() };
    let mut killed = false;
    for life in 0..4 {
        let context = format!("seed {seed}, life {life}");
        // Recovery meets faults too. What only was written is promised to the next one alone.
        for _ in 0..if killed { 0 } else { random.below(3) } {
            let fault = [Fault::Cut, Fault::Cut, Fault::Io, Fault::Full][random.below(4) as usize];
            disk.fault(random.below(12), fault);
            drop(Log::open(Arc::new(disk.clone()), OPTIONS, &mut |_| ()));
            tally.recovery();
            disk = disk.crash(random.draw());
            tally.cut();
        }
        let (mut log, report, seen) = reopen(&disk);
        tally.recovery();
        check(&model, &log, &report, &seen, &context);
        check_later_reading(&log, &report, &seen, &context);
        model.adopt(&seen);
        let number = life * 1000;
        model.write(&mut log, &[number]);
        log.sync().expect("nothing is wrong yet");
        model.note_synced(&log);

        let soon = |random: &mut Random| disk.operations() + random.below(150);
        for _ in 0..random.below(4) {
            let fault = [Fault::Io, Fault::Full, Fault::ReadOnly][random.below(3) as usize];
            disk.fault(soon(&mut random), fault);
        }
        let cut = soon(&mut random);
        disk.fault(cut, Fault::Cut);
        model.run(&mut log, number + 1, 60, random.draw());
        drop(log);
        killed = disk.operations() <= cut && random.coin();
        if killed {
            model.keep_written();
            disk = disk.kill();
        } else {
            disk = disk.crash(random.draw());
            tally.cut();
        }
    }
    let (log, report, seen) = reopen(&disk);
    tally.recovery();
    check(&model, &log, &report, &seen, &format!("seed {seed}, at the end"));
}

/// What is read later is what opening tells of.
fn check_later_reading(
    log: &Log,
    report: &Recovery,
    seen: &BTreeMap<u64, Vec<Entry>>,
    context: &str,
) {
    let mut again: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    let reader = log.reader();
    let mut each = |entry: Entry| again.entry(entry.key).or_default().push(entry);
    let damage = reader.replay(0, report.last, &mut each).expect("reads");
    assert_eq!(damage, [], "{context}: reading later");
    assert!(again == *seen, "{context}: reading later tells the same");
    let contents = |segment| reader.contents(segment).expect("reads").len() as u64;
    let listed: u64 = reader.segments().into_iter().map(contents).sum();
    assert_eq!(listed, report.records, "{context}: the tables list the same");
}
