//! Every disk operation of a workload goes wrong in turn, in every way there is.
//!
//! Acknowledged means present and whole; not acknowledged means absent or whole,
//! and what one recovery has decided no later one undecides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use merpati_journal::{Entry, Group, Log, Options, Record, Recovery};
use merpati_testkit::disk::{Fault, Random, SimDisk};

const OPTIONS: Options = Options {
    segment_size: 8192,
    max_group: 1 << 20,
    max_queued: 1 << 20,
    replay_from: 0,
    salt: 7,
};

/// What is known of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Synced,
    Failed,
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
        for _ in 0..steps {
            match random.below(8) {
                0..4 => {
                    let batch: Vec<u64> = (number..=number + random.below(3)).collect();
                    number += batch.len() as u64;
                    self.write(log, &batch);
                }
                4..7 => {
                    let _ = log.sync();
                    self.note_synced(log);
                }
                _ => self.remove_oldest(log),
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
        for (number, fate) in &mut self.fates {
            if *fate == Fate::Written {
                let last = self.last[number];
                if last <= log.synced() {
                    *fate = Fate::Synced;
                } else if last > log.written() {
                    *fate = Fate::Failed;
                }
            }
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
        let opened = Log::open(Arc::new(disk.clone()), OPTIONS, &mut |_| ());
        let Ok((mut log, _)) = opened else { continue };
        model.run(&mut log, 1000 * restart, 18, seed + restart);
        // What only was written may be synced by the next recovery: it may be there.
        for fate in model.fates.values_mut().filter(|fate| **fate == Fate::Written) {
            *fate = Fate::Failed;
        }
    }
    (disk, model)
}

/// One workload by default; `CRASH_SEEDS=20` tries twenty.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("CRASH_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(1)
}

#[test]
fn a_power_cut_at_any_operation_keeps_the_promise() {
    for seed in seeds() {
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
    for seed in seeds() {
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
        [Fate::Synced, Fate::Failed, Fate::Synced]
    );
    for seed in 0..20 {
        let (log, report, seen) = reopen(&disk.crash(seed));
        check(&model, &log, &report, &seen, "void");
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1, 3], "seed {seed}");
    }
}
