//! The spool on a real directory keeps the contract, and a few promises of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use merpati_plugin::spool::{RecipientResult, Spool, SpoolError};
use merpati_spool::{DiskSpool, OpenError, Options, Report};
use merpati_testkit::spool_contract::{
    NOW, Storage, body, check, lease, message, put, read, settlement,
};
use merpati_types::Timestamp;
use tempfile::TempDir;

fn options() -> Options {
    let journal = merpati_journal::Options { segment_size: 1 << 20, ..Default::default() };
    let checkpoint_every = Duration::from_millis(1);
    Options { min_free: 0, journal, checkpoint_every, ..Options::default() }
}

fn open(directory: &Path) -> (DiskSpool, Report) {
    DiskSpool::open(directory, options()).expect("opens")
}

struct Directory(TempDir);

#[async_trait]
impl Storage for Directory {
    async fn open(&self) -> Arc<dyn Spool> {
        let (spool, report) = open(self.0.path());
        assert_eq!((report.journal.damage, report.missing_bodies), (vec![], vec![]));
        Arc::new(spool)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    check(|| Directory(tempfile::tempdir().expect("a directory"))).await;
}

fn files(directory: &Path, sub: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join(sub)).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn body_files_go_when_their_messages_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = open(dir.path());
    put(&spool, message(&["b@c.test"]), &body(1_000_000)).await.expect("commits");
    let mut writer = spool.begin().await.expect("begins");
    writer.write(body(1_000_000)).await.expect("writes");
    assert_eq!(files(dir.path(), "bodies").len(), 2);
    drop(writer);
    let (leased, _) = lease(&spool, NOW).await.remove(0);
    let delivered = settlement(vec![(0, RecipientResult::Delivered)]);
    spool.settle(leased, delivered).await.expect("settles");
    spool.close().await;
    assert!(files(dir.path(), "bodies").is_empty());
}

#[tokio::test]
async fn orphans_are_swept_and_missing_files_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = open(dir.path());
    let id = put(&spool, message(&["b@c.test"]), &body(1_000_000)).await.expect("commits");
    drop(spool);
    std::fs::write(dir.path().join("bodies/orphan"), "x").expect("writes");
    let (spool, report) = open(dir.path());
    assert_eq!((report.swept, report.messages), (1, 1));
    drop(spool);
    std::fs::remove_file(dir.path().join("bodies").join(id.to_string())).expect("removes");
    let (spool, report) = open(dir.path());
    assert_eq!(report.missing_bodies, [id]);
    assert!(matches!(spool.message(id).await.err(), Some(SpoolError::Corrupt { .. })));
}

#[tokio::test]
async fn the_index_may_be_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = open(dir.path());
    let id = put(&spool, message(&["b@c.test"]), &body(1000)).await.expect("commits");
    let (leased, _) = lease(&spool, NOW).await.remove(0);
    let deferred = RecipientResult::Deferred { reason: "later".into() };
    spool.settle(leased, settlement(vec![(0, deferred)])).await.expect("settles");
    spool.close().await;
    drop(spool);
    let (spool, _) = open(dir.path());
    drop(spool);
    std::fs::remove_dir_all(dir.path().join("index")).expect("removes");
    let (spool, report) = open(dir.path());
    assert_eq!(report.messages, 1);
    let (_, parcel) = lease(&spool, Timestamp::MAX).await.remove(0);
    assert_eq!((parcel.id.message, parcel.attempts), (id, 1));
    assert_eq!(read(&spool, id).await.expect("reads"), body(1000));
}

#[tokio::test]
async fn limits_of_space_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let full = Options { min_free: u64::MAX, ..options() };
    let (spool, _) = DiskSpool::open(dir.path(), full).expect("opens");
    assert!(matches!(spool.begin().await.err(), Some(SpoolError::Full { .. })));
    let second = DiskSpool::open(dir.path(), options());
    assert!(matches!(second.err(), Some(OpenError::Journal(_))));
    drop(spool);

    // Small bodies beyond the budget go through files.
    let (spool, _) =
        DiskSpool::open(dir.path(), Options { memory: 1000, ..options() }).expect("opens");
    let first = put(&spool, message(&["b@c.test"]), &body(1000)).await.expect("commits");
    let second = put(&spool, message(&["b@c.test"]), &body(1001)).await.expect("commits");
    assert_eq!(files(dir.path(), "bodies").len(), 1);
    assert_eq!(read(&spool, first).await.expect("reads"), body(1000));
    assert_eq!(read(&spool, second).await.expect("reads"), body(1001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_given_up_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (spool, _) = open(dir.path());
    for _ in 0..50 {
        let body = body(100);
        let put = put(&spool, message(&["b@c.test"]), &body);
        // Polled once at most, then dropped.
        let _ = tokio::time::timeout(Duration::ZERO, put).await;
    }
    spool.close().await;
    let known = spool.stats().await.expect("counts").messages;
    drop(spool);
    assert_eq!(open(dir.path()).1.messages, known, "what is there is known");
}
