//! Ids of messages.

use std::collections::BTreeSet;

use merpati_plugin::spool::Spool;
use merpati_store::MemoryStore;
use merpati_testkit::disk::SimDisk;

use super::try_start;

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
