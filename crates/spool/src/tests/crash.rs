//! Every disk operation of a workload goes wrong in turn.
//!
//! Acknowledged means present and whole; not acknowledged means absent or whole;
//! a recipient whose outcome was synced is never tried again, every other is; a
//! failure and its report come together or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use merpati_plugin::spool::{
    Change, Durability, Filter, FollowUp, Lease, NextHop, NextHops, Parcel, ParcelState,
    RecipientResult, Settlement, Spool,
};
use merpati_store::MemoryStore;
use merpati_testkit::crash::{self, Tally, campaign};
use merpati_testkit::disk::{Fault, Random, SimDisk};
use merpati_testkit::spool_contract::{NOW, TTL, body, lease, message, put, read, settlement};
use merpati_types::{MessageId, ReversePath, Timestamp};

use super::{open, try_open, try_start};
use crate::spool::DiskSpool;

/// Reports go here and are never leased, so that they can be counted.
const REPORTS: &str = "reports.test";

/// What is promised of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// It is tried again.
    Pending,
    /// Whether it is over will only show: the outcome is not synced, or failed.
    Open,
    /// It is never tried again.
    Over,
}

struct Sent {
    body: Bytes,
    acknowledged: bool,
    recipients: Vec<Promise>,
}

#[derive(Default)]
struct Model {
    sent: BTreeMap<MessageId, Sent>,
    /// For each report, the recipient whose failure it tells of.
    reports: BTreeMap<Vec<u8>, (MessageId, u32)>,
    /// Reports that are promised.
    told: Vec<Vec<u8>>,
    /// Outcomes that become promises with the next sync.
    written: Vec<(MessageId, u32)>,
}

impl Model {
    async fn run(&mut self, spool: &DiskSpool, steps: u64, seed: u64) {
        let mut random = Random(seed);
        for step in 0..steps {
            let now = NOW.after(Duration::from_secs(100 * step));
            match random.below(10) {
                0..3 => self.put(spool, &mut random).await,
                3..6 => self.attempt(spool, now, &mut random).await,
                6 => spool.tick(),
                7 => self.delete(spool, &mut random).await,
                _ => self.operate(spool, now, &mut random).await,
            }
        }
    }

    async fn put(&mut self, spool: &DiskSpool, random: &mut Random) {
        let Ok(mut writer) = spool.begin().await else { return };
        let all = ["a@one.test", "b@two.test", "c@one.test"];
        let recipients = &all[..1 + random.below(3) as usize];
        // Above 300 octets it is a file.
        let len = 1 + random.below(600) as usize;
        let body = Bytes::from(vec![random.below(256) as u8; len]);
        let id = writer.id();
        let wrote = writer.write(body.clone()).await;
        let promise = vec![Promise::Pending; recipients.len()];
        self.sent.insert(id, Sent { body, acknowledged: false, recipients: promise });
        if wrote.is_ok() && writer.commit(message(recipients), Durability::Sync).await.is_ok() {
            self.sent.get_mut(&id).expect("just put").acknowledged = true;
            self.synced();
        }
    }

    async fn attempt(&mut self, spool: &DiskSpool, now: Timestamp, random: &mut Random) {
        let hops = NextHops::Except(vec![NextHop::from_text(REPORTS)]);
        let Ok(leased) = spool.lease(now, TTL, &hops, 3).await else { return };
        for (lease, parcel) in leased {
            if random.coin() {
                let _ = spool.attempt(&lease, "mx.test").await;
            }
            self.settle(spool, lease, &parcel, now, random).await;
        }
    }

    async fn settle(
        &mut self,
        spool: &DiskSpool,
        lease: Lease,
        parcel: &Parcel,
        now: Timestamp,
        random: &mut Random,
    ) {
        let id = parcel.id.message;
        let mut follow_ups = Vec::new();
        let mut over = Vec::new();
        let results = parcel.pending.iter().map(|&place| {
            let reason = "it said so".to_owned();
            let result = match random.below(4) {
                0 => RecipientResult::Deferred { reason },
                1 => {
                    let body = format!("Subject: {id}/{place}\r\n").into_bytes();
                    self.reports.insert(body.clone(), (id, place));
                    let mut report = message(&[&format!("r@{REPORTS}")]);
                    report.envelope.sender = ReversePath::Null;
                    follow_ups.push(FollowUp { message: report, body: body.into() });
                    over.push(place);
                    RecipientResult::Failed { reason }
                }
                _ => {
                    over.push(place);
                    RecipientResult::Delivered
                }
            };
            (place, result)
        });
        let results = results.collect();
        let retry_at = now.after(Duration::from_secs(60));
        let told: Vec<Vec<u8>> = follow_ups.iter().map(|report| report.body.to_vec()).collect();
        let settlement = Settlement { retry_at, follow_ups, ..settlement(results) };
        let settled = spool.settle(lease, settlement).await;
        let sent = self.sent.get_mut(&id).expect("only what was sent is leased");
        over.iter().for_each(|&place| sent.recipients[place as usize] = Promise::Open);
        if settled.is_ok() {
            self.written.extend(over.into_iter().map(|place| (id, place)));
            if !told.is_empty() {
                self.told.extend(told);
                self.synced();
            }
        }
    }

    async fn delete(&mut self, spool: &DiskSpool, random: &mut Random) {
        let nth = random.below(self.sent.len() as u64 + 1) as usize;
        let Some((&id, sent)) = self.sent.iter_mut().nth(nth) else { return };
        let filter = Filter { id: Some(id), ..Filter::default() };
        let open = sent.recipients.iter_mut().filter(|promise| **promise == Promise::Pending);
        open.for_each(|promise| *promise = Promise::Open);
        let changed = spool.change(&filter, &Change::Delete, None, usize::MAX).await;
        if changed.is_ok_and(|changed| changed.parcels > 0) {
            let all = 0..sent.recipients.len() as u32;
            self.written.extend(all.map(|place| (id, place)));
            self.synced();
        }
    }

    /// Holds, releases or requeues a message, which keeps every promise about it.
    async fn operate(&mut self, spool: &DiskSpool, now: Timestamp, random: &mut Random) {
        let nth = random.below(self.sent.len() as u64 + 1) as usize;
        let Some((&id, _)) = self.sent.iter().nth(nth) else { return };
        let filter = Filter { id: Some(id), ..Filter::default() };
        let change = match random.below(3) {
            0 => Change::Hold { reason: "wait".into() },
            1 => Change::Release { due: now },
            _ => Change::Requeue { due: now },
        };
        let changed = spool.change(&filter, &change, None, usize::MAX).await;
        if changed.is_ok_and(|changed| changed.parcels > 0) {
            self.synced();
        }
    }

    /// Everything written so far is on stable storage.
    fn synced(&mut self) {
        for (id, place) in self.written.drain(..) {
            let sent = self.sent.get_mut(&id).expect("sent before");
            sent.recipients[place as usize] = Promise::Over;
        }
    }

    /// Holds what the spool has against what was promised.
    async fn check(&self, spool: &DiskSpool, context: &str) {
        let listed = spool.list(&Filter::default(), None, usize::MAX).await.expect("lists");
        let mut pending: BTreeMap<MessageId, Vec<u32>> = BTreeMap::new();
        let mut reports = Vec::new();
        for listed in listed {
            let id = listed.parcel.id.message;
            let body = read(spool, id).await.expect("what is there can be read");
            match self.sent.get(&id) {
                Some(sent) => {
                    assert_eq!(body, sent.body, "{context}: {id} is whole");
                    pending.entry(id).or_default().extend(listed.parcel.pending);
                }
                None => reports.push(body),
            }
        }
        for (id, sent) in self.sent.iter().filter(|(_, sent)| sent.acknowledged) {
            let pending = pending.get(id).map(Vec::as_slice).unwrap_or_default();
            for (place, promise) in (0..).zip(&sent.recipients) {
                let there = pending.contains(&place);
                let kept = match promise {
                    Promise::Pending => there,
                    Promise::Open => true,
                    Promise::Over => !there,
                };
                assert!(kept, "{context}: {id}/{place} is {promise:?}, pending: {there}");
            }
        }
        for report in &reports {
            let (id, place) = self.reports.get(report).expect("a report we asked for");
            let there = pending.get(id).is_some_and(|pending| pending.contains(place));
            assert!(!there, "{context}: {id}/{place} was reported and is tried again");
        }
        for report in &self.told {
            assert!(reports.contains(report), "{context}: a report was promised");
        }
    }
}

/// Everything that is neither held nor leased is due.
async fn check_due(spool: &DiskSpool, context: &str) {
    let listed = spool.list(&Filter::default(), None, usize::MAX).await.expect("lists");
    let free = listed.iter().filter(|listed| listed.state != ParcelState::Held);
    let mut free: Vec<_> = free.map(|listed| listed.parcel.id).collect();
    let late = NOW.after(Duration::from_secs(1_000_000_000));
    let leased = spool.lease(late, TTL, &NextHops::All, usize::MAX).await;
    let mut leased: Vec<_> = leased.expect("leases").iter().map(|(_, parcel)| parcel.id).collect();
    free.sort();
    leased.sort();
    assert_eq!(free, leased, "{context}: all that is not held is due");
}

/// Runs the workload with at most one fault and two restarts.
async fn run(seed: u64, fault: Option<(u64, Fault)>) -> (SimDisk, MemoryStore, Model) {
    let disk = SimDisk::new();
    let index = MemoryStore::with_history();
    if let Some((at, fault)) = fault {
        disk.fault(at, fault);
    }
    let mut model = Model::default();
    for restart in 0..2 {
        let Ok((spool, _)) = try_open(&disk, &index) else { continue };
        model.run(&spool, 16, seed * 10 + restart).await;
    }
    (disk, index, model)
}

/// Cuts the power, and the index back to any of its checkpoints, short of an entry or not.
async fn cut_and_check(
    disk: &SimDisk,
    index: &MemoryStore,
    model: &Model,
    seed: u64,
    context: &str,
) {
    let mut random = Random(seed);
    let checkpoint = random.below(index.checkpoints() as u64 + 1) as usize;
    let lossy = random.below(3) == 0;
    let index = index.after_cut(checkpoint, |_, _| lossy && random.coin());
    let disk = disk.crash(seed);
    let context = format!("{context}, crash {seed}, checkpoint {checkpoint}, lossy {lossy}");
    for round in 0..2 {
        let (spool, report) = open(&disk, &index);
        let context = format!("{context}, round {round}");
        assert_eq!(report.journal.damage, [], "{context}: a cut is no damage");
        assert_eq!((report.malformed, report.missing_bodies), (vec![], vec![]), "{context}");
        model.check(&spool, &context).await;
        spool.tick();
        model.check(&spool, &context).await;
        check_due(&spool, &context).await;
        spool.close().await;
    }
}

/// A long random life: power cuts at random operations, an index that forgets, and work in
/// between.
async fn live(seed: u64, tally: &Tally) {
    let mut random = Random(seed);
    let (mut disk, mut index) = (crash::disk(), MemoryStore::with_history());
    let mut model = Model::default();
    for life in 0..4 {
        let begins = disk.operations();
        disk.fault(begins + random.below(120), Fault::Cut);
        let Ok(spool) = try_start(&disk, &index) else { break };
        model.run(&spool, 30, seed * 10 + life).await;
        drop(spool);
        tally.cut();
        let checkpoint = random.below(index.checkpoints() as u64 + 1) as usize;
        let lossy = random.below(3) == 0;
        index = index.after_cut(checkpoint, |_, _| lossy && random.coin());
        disk = disk.crash(random.below(u64::MAX));
        // What was not synced may be undone.
        model.written.clear();
        let context = format!("seed {seed}, life {life}, checkpoint {checkpoint}, lossy {lossy}");
        let (spool, report) = open(&disk, &index);
        tally.recovery();
        assert_eq!(report.journal.damage, [], "{context}: a cut is no damage");
        assert_eq!((report.malformed, report.missing_bodies), (vec![], vec![]), "{context}");
        model.check(&spool, &context).await;
        check_due(&spool, &context).await;
        spool.close().await;
    }
}

#[test]
fn campaign_of_random_lives() {
    campaign("merpati-spool", SEEDS, |seed, tally| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(live(seed, tally));
    });
}

/// How many workloads are cut at every operation.
const WORKLOADS: u64 = 1;
/// How many random lives there are, unless `CRASH_SEEDS` says otherwise.
const SEEDS: u64 = 2000;

#[tokio::test]
async fn any_one_fault_keeps_the_promises() {
    for seed in 0..WORKLOADS {
        let (whole, index, model) = run(seed, None).await;
        let over = |sent: &Sent| sent.recipients.contains(&Promise::Over);
        assert!(model.sent.values().filter(|sent| over(sent)).count() > 0, "seed {seed}");
        assert!(index.checkpoints() > 1, "seed {seed}");
        for at in 0..whole.operations() {
            let error = if at % 2 == 0 { Fault::Io } else { Fault::Full };
            for fault in [Fault::Cut, error] {
                let (disk, index, model) = run(seed, Some((at, fault))).await;
                let context = format!("seed {seed}, {fault:?} at {at}");
                cut_and_check(&disk, &index, &model, at, &context).await;
            }
        }
    }
}

#[tokio::test]
async fn a_body_file_outlives_its_message_never_the_other_way_round() {
    for cut in 0..4 {
        let disk = SimDisk::new();
        let index = MemoryStore::with_history();
        let (spool, _) = open(&disk, &index);
        put(&spool, message(&["a@one.test"]), &body(1000)).await.expect("commits");
        let (leased, _) = lease(&spool, NOW).await.remove(0);
        let delivered = settlement(vec![(0, RecipientResult::Delivered)]);
        spool.settle(leased, delivered).await.expect("settles");
        disk.fault(disk.operations() + cut, Fault::Cut);
        spool.tick();
        for seed in 0..30 {
            let (_, report) = open(&disk.crash(seed), &index.after_cut(0, |_, _| false));
            assert_eq!(report.missing_bodies, [], "cut after {cut}, seed {seed}");
        }
    }
}
