//! Ids of messages.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use merpati_plugin::spool::Spool;
use merpati_store::MemoryStore;
use merpati_testkit::disk::SimDisk;
use merpati_testkit::spool_contract::{body, message, put};

use super::{open, try_start};

/// Starts follow each other within a millisecond here; elsewhere the clock may be set back.
#[tokio::test]
async fn ids_of_messages_that_never_came_to_be_are_not_given_out_again() {
    const STARTS: usize = 50;
    let disk = SimDisk::new();
    let mut ids = BTreeSet::new();
    for _ in 0..STARTS {
        let spool = try_start(&disk.crash(0), &MemoryStore::with_history()).expect("starts");
        ids.insert(spool.begin().await.expect("begins").id());
    }
    assert_eq!(ids.len(), STARTS);
}

#[tokio::test]
async fn so_it_is_when_the_clock_is_behind_the_ids() {
    let (disk, index) = (SimDisk::new(), MemoryStore::with_history());
    let (spool, _) = open(&disk, &index);
    spool.inner().last_id.store(u64::MAX / 2, Ordering::Relaxed);
    let kept = put(&spool, message(&["a@one.test"]), &body(10)).await.expect("commits");
    let lost = spool.begin().await.expect("begins").id();
    let (spool, _) = open(&disk.crash(0), &index.after_cut(0, |_, _| false));
    let next = spool.begin().await.expect("begins").id();
    assert!(next > kept && next != lost, "{next} after {kept} and {lost}");
}
