//! The committer's thread: one sync for many, every waiter answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use merpati_journal::{AppendError, Disk, Durability, Journal, OpenError, Options, OsDisk, Record};
use merpati_testkit::disk::{Fault, SimDisk};

const OPTIONS: Options = Options {
    segment_size: 64 << 10,
    max_group: 32 << 10,
    max_queued: 16 << 10,
    replay_from: 0,
    spares: 2,
    back_off: Duration::from_millis(50),
    salt: 7,
};

fn record(key: u64, octets: usize) -> Record {
    let body = vec![vec![key as u8; octets].into()];
    Record { kind: 1, key, meta: key.to_le_bytes().to_vec().into(), body }
}

#[test]
fn many_writers_share_syncs_and_find_everything_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = || Arc::new(OsDisk::open(dir.path()).expect("opens"));
    let (journal, _) = Journal::open(disk(), OPTIONS, |_| ()).expect("opens");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let journal = &journal;
            scope.spawn(move || {
                for index in 0..50 {
                    let key = writer * 1000 + index;
                    let durability = match index % 3 {
                        0 => Durability::Sync,
                        1 => Durability::Group { within: Duration::from_millis(1) },
                        _ => Durability::Written,
                    };
                    let ticket = journal.append(record(key, 3000), durability);
                    let appended = ticket.wait().expect("appended");
                    let body = journal.reader().body(appended.positions[0]).expect("reads");
                    assert_eq!(&body[..], &[key as u8; 3000][..]);
                    if !matches!(durability, Durability::Written) {
                        assert!(journal.synced() >= appended.last);
                    }
                }
            });
        }
    });
    let counts = journal.counts();
    assert_eq!((counts.appends, counts.failed), (400, 0));
    assert!(counts.syncs < 400 * 2 / 3, "{counts:?}");
    let second = Journal::open(disk(), OPTIONS, |_| ());
    assert!(matches!(second, Err(OpenError::Locked)));
    drop(journal);

    let mut keys = BTreeSet::new();
    let (journal, report) =
        Journal::open(disk(), OPTIONS, |entry| assert!(keys.insert(entry.key))).expect("opens");
    assert_eq!((keys.len(), report.records, report.torn), (400, 400, None));
    for segment in report.segments {
        journal.remove(segment).wait().expect("removes");
    }
    drop(journal);
    let (_, report) = Journal::open(disk(), OPTIONS, |_| ()).expect("opens");
    assert_eq!((report.records, report.segments.len()), (0, 1));
    assert_eq!((report.last, report.highest_key), (400, 7049));
}

#[test]
fn everyone_is_told_of_a_failed_sync_and_the_next_append_works() {
    let disk = SimDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
    journal.append(record(1, 10), Durability::Sync).wait().expect("appended");
    // The next operations are one write and one sync.
    disk.fault(disk.operations() + 1, Fault::Io);
    let error = journal.append(record(2, 10), Durability::Sync).wait().expect_err("told");
    assert!(matches!(error, AppendError::Failed(_)));
    journal.append(record(3, 10), Durability::Sync).wait().expect("in a new segment");
    drop(journal);
    let mut keys = Vec::new();
    Journal::open(Arc::new(disk.crash(3)), OPTIONS, |entry| keys.push(entry.key)).expect("opens");
    assert_eq!(keys, [1, 3]);
}

#[test]
fn a_full_disk_is_told_as_such_and_passes() {
    let disk = SimDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
    disk.fault(disk.operations() + 1, Fault::Full);
    let error = journal.append(record(1, 10), Durability::Sync).wait().expect_err("told");
    assert!(matches!(error, AppendError::Full));
    journal.append(record(2, 10), Durability::Sync).wait().expect("there is room again");
    let error = journal.append(record(3, 40 << 10), Durability::Sync).wait().expect_err("told");
    assert!(matches!(error, AppendError::TooLarge { limit: 32768, .. }));
}

#[test]
fn a_group_waits_for_company_no_longer_than_it_said() {
    let disk = SimDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
    let patient = Durability::Group { within: Duration::from_secs(3600) };
    let first = journal.append(record(1, 10), patient);
    let second = journal.append(record(2, 10), patient);
    let third = journal.append(record(3, 10), Durability::Sync);
    for ticket in [first, second, third] {
        ticket.wait().expect("appended");
    }
    assert_eq!(journal.counts().syncs, 1);
    let brief = Durability::Group { within: Duration::from_millis(1) };
    journal.append(record(4, 10), brief).wait().expect("alone after a while");
    assert_eq!(journal.counts().syncs, 2);
    // Closing answers those who still wait.
    let last = journal.append(record(5, 10), patient);
    drop(journal);
    last.wait().expect("synced on closing");
}

#[test]
fn what_was_answered_early_survives_a_failed_sync() {
    let disk = SimDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
    journal.append(record(1, 10), Durability::Sync).wait().expect("appended");
    let soon = Durability::Soon { within: Duration::from_secs(3600) };
    journal.append_urgent(record(2, 10), soon).wait().expect("written");
    assert_eq!(journal.counts().syncs, 1);
    disk.fault(disk.operations(), Fault::Io);
    journal.flush().wait().expect_err("told");
    journal.flush().wait().expect("nothing is left to sync");
    for seed in 0..8 {
        let mut keys = Vec::new();
        Journal::open(Arc::new(disk.crash(seed)), OPTIONS, |e| keys.push(e.key)).expect("opens");
        assert_eq!(keys, [1, 2], "seed {seed}");
    }
}

#[test]
fn a_disk_that_keeps_failing_is_not_pressed_and_forgiven() {
    let soon = Durability::Soon { within: Duration::from_secs(3600) };
    for fault in [Fault::Io, Fault::Full, Fault::ReadOnly] {
        let disk = SimDisk::new();
        let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
        journal.append(record(1, 10), Durability::Sync).wait().expect("appended");
        journal.append(record(2, 10), soon).wait().expect("written");
        assert_eq!(journal.trouble(), None);
        disk.trouble(Some(fault));
        for _ in 0..1000 {
            journal.append(record(3, 10), Durability::Sync).wait().expect_err("told");
        }
        assert!(journal.trouble().is_some());
        journal.flush().wait().expect_err("what was answered early is not kept");
        // Only a few of all these attempts have reached the disk.
        assert!(disk.operations() < 150, "{fault:?}: {}", disk.operations());
        disk.trouble(None);
        while journal.trouble().is_some() {
            std::thread::yield_now();
        }
        journal.flush().wait().expect("all is kept");
        journal.append(record(4, 10), Durability::Sync).wait().expect("appended");
        drop(journal);
        let mut keys = Vec::new();
        let crashed = Arc::new(disk.crash(7));
        Journal::open(crashed, OPTIONS, |entry| keys.push(entry.key)).expect("opens");
        keys.sort_unstable();
        assert_eq!(keys, [1, 2, 4], "{fault:?}");
    }
}

#[test]
fn a_full_disk_takes_appends_again_once_there_is_room() {
    let disk = SimDisk::new();
    let (journal, _) = Journal::open(Arc::new(disk.clone()), OPTIONS, |_| ()).expect("opens");
    disk.limit(Some(150 << 10));
    let mut kept = 0;
    while journal.append(record(kept, 3000), Durability::Sync).wait().is_ok() {
        kept += 1;
    }
    assert_eq!(disk.room().expect("told").octets, (150 << 10) - 2 * (64 << 10));
    assert!(journal.trouble().expect("told").contains("space"));
    // The room of a segment that nobody needs is enough.
    let oldest = journal.reader().segments()[0];
    journal.remove(oldest).wait().expect("removes");
    while journal.append(record(kept, 3000), Durability::Sync).wait().is_err() {
        std::thread::yield_now();
    }
    assert_eq!(journal.trouble(), None);
}

#[test]
fn the_next_segment_is_made_ahead_and_old_files_live_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = || Arc::new(OsDisk::open(dir.path()).expect("opens"));
    let options = Options { segment_size: 1 << 20, max_group: 1 << 20, ..OPTIONS };
    let (journal, _) = Journal::open(disk(), options, |_| ()).expect("opens");
    let mut last = 0;
    for key in 0..200 {
        let appended = journal.append(record(key, 30_000), Durability::Sync).wait().expect("kept");
        assert!(appended.last > last);
        last = appended.last;
        for old in journal.reader().segments().into_iter().rev().skip(2) {
            journal.remove(old).wait().expect("removes");
        }
    }
    drop(journal);
    let names = disk().list().expect("lists");
    assert!(names.iter().any(|name| name.ends_with(".spare")), "{names:?}");
    let mut keys = Vec::new();
    let (journal, report) =
        Journal::open(disk(), options, |entry| keys.push(entry.key)).expect("opens");
    assert_eq!((report.damage, report.torn, report.last), (vec![], None, last));
    assert!(keys.is_sorted() && keys.len() > 30 && keys.last() == Some(&199), "{keys:?}");
    drop(journal);
    assert!(disk().list().expect("lists").iter().all(|name| name.ends_with(".seg")));
}
