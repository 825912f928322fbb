//! Space comes back, and what stays is moved out of its way.

use merpati_plugin::spool::RecipientResult;
use merpati_plugin::spool::Spool;
use merpati_store::MemoryStore;
use merpati_testkit::disk::SimDisk;
use merpati_testkit::spool_contract::{NOW, body, lease, message, put, read, settlement};

use super::open;

#[tokio::test]
async fn segments_are_freed_although_a_few_messages_stay() {
    let disk = SimDisk::new();
    let index = MemoryStore::with_history();
    let (spool, _) = open(&disk, &index);
    let mut stay = Vec::new();
    for round in 0..200 {
        if round % 50 == 0 {
            let id = put(&spool, message(&["stay@late.test"]), &body(200)).await;
            stay.push(id.expect("commits"));
        }
        put(&spool, message(&["go@now.test"]), &body(250)).await.expect("commits");
        for (leased, parcel) in lease(&spool, NOW).await {
            let result = match parcel.next_hop.as_str() {
                "now.test" => RecipientResult::Delivered,
                _ => RecipientResult::Deferred { reason: "later".into() },
            };
            spool.settle(leased, settlement(vec![(0, result)])).await.expect("settles");
        }
    }
    let segments = |spool: &crate::DiskSpool| spool.inner().journal.reader().segments().len();
    let before = segments(&spool);
    (0..10).for_each(|_| spool.tick());
    let after = segments(&spool);
    assert!(before > 20 && after <= 5, "{before} segments, then {after}");
    drop(spool);
    // Neither the newest index nor the oldest brings anything else back.
    for checkpoint in 0..index.checkpoints() {
        let index = index.after_cut(checkpoint, |_, _| false);
        let (spool, report) = open(&disk.kill(), &index);
        assert_eq!((report.messages, report.journal.damage), (4, vec![]));
        for id in &stay {
            assert_eq!(read(&spool, *id).await.expect("reads"), body(200));
        }
    }
}
