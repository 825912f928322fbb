//! Damage to what was acknowledged is reported, set aside and stepped over.

use std::sync::Arc;
use std::time::Duration;

use merpati_journal::{Disk, Entry, Group, Log, OpenError, Options, ReadError, Record, Recovery};
use merpati_testkit::disk::{Fault, SimDisk};

const OPTIONS: Options = Options {
    segment_size: 8192,
    max_group: 1 << 20,
    max_queued: 1 << 20,
    replay_from: 0,
    spares: 2,
    back_off: Duration::from_millis(50),
    salt: 7,
};
const FIRST: &str = "0000000000000001.seg";
/// Where the first record is.
const START: usize = 128;

/// A journal of `count` synced records of two times 64 octets each.
fn journal(count: u64, sealed: bool) -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, &mut Vec::new());
    for key in 1..=count {
        let record = Record {
            kind: 9,
            key,
            meta: vec![key as u8; 20].into(),
            body: vec![vec![1; 30].into()],
        };
        assert!(log.write(&[&Group::from(record)])[0].is_ok());
        log.sync().expect("syncs");
    }
    if sealed {
        log.seal().expect("seals");
    }
    drop(log);
    disk
}

fn open(disk: &SimDisk, entries: &mut Vec<Entry>) -> (Log, Recovery) {
    Log::open(Arc::new(disk.clone()), OPTIONS, &mut |entry| entries.push(entry)).expect("opens")
}

fn keys(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.key).collect()
}

#[test]
fn one_record_is_lost_and_the_rest_served() {
    // (where, what is still known of the record)
    let places = [(0, None), (60, None), (64, Some((9, 3))), (84, Some((9, 3)))];
    for (place, about) in places {
        let disk = journal(6, false).kill();
        disk.corrupt(FIRST, START + 2 * 128 + place, &[0xff]);
        for _ in 0..2 {
            let mut entries = Vec::new();
            let (_, report) = open(&disk, &mut entries);
            assert_eq!(keys(&entries), [1, 2, 4, 5, 6], "at {place}");
            let [damage] = &report.damage[..] else { panic!("{:?}", report.damage) };
            assert_eq!((damage.first, damage.last, damage.about), (3, 3, about), "at {place}");
            assert_eq!((damage.offset, damage.len), (START as u64 + 2 * 128, 128));
            assert_eq!(disk.contents("0000000000000001-180.bad").expect("set aside").len(), 128);
            assert_eq!(report.last, 6);
        }
    }
}

#[test]
fn a_sealed_segment_knows_what_it_lost() {
    let disk = journal(6, true);
    disk.corrupt(FIRST, START + 2 * 128, &[0xff]);
    let mut entries = Vec::new();
    let (log, report) = open(&disk, &mut entries);
    assert_eq!(keys(&entries), [1, 2, 4, 5, 6]);
    assert_eq!(report.damage[0].about, Some((9, 3)));
    assert_eq!(log.synced(), 6);

    // A body is only checked when it is read.
    let disk = journal(6, true);
    disk.corrupt(FIRST, START + 2 * 128 + 90, &[0xff]);
    let mut entries = Vec::new();
    let (log, report) = open(&disk, &mut entries);
    assert_eq!(report.damage, []);
    assert_eq!(log.reader().meta(entries[2].position).expect("whole")[0], 3);
    let error = log.reader().body(entries[2].position).expect_err("damaged");
    assert!(matches!(error, ReadError::Damaged { segment: 1, offset: 384 }));
}

#[test]
fn neither_end_of_a_segment_is_needed_alone() {
    for (place, len) in [(0, START), (8192 - START, START)] {
        let disk = journal(6, true);
        disk.corrupt(FIRST, place, &vec![0xff; len]);
        let mut entries = Vec::new();
        let (_, report) = open(&disk, &mut entries);
        assert_eq!((keys(&entries).len(), report.damage.len()), (6, 0), "at {place}");
    }
}

#[test]
fn a_torn_tail_is_dropped_without_alarm() {
    // Nothing says that the last record was ever synced.
    let disk = journal(6, false).kill();
    disk.corrupt(FIRST, START + 5 * 128 + 64, &[0xff]);
    let mut entries = Vec::new();
    // `journal` ends by dropping the log, which seals nothing: the thread does that.
    let (mut log, report) = open(&disk, &mut entries);
    assert_eq!((keys(&entries), &report.damage[..]), (vec![1, 2, 3, 4, 5], &[][..]));
    assert!(report.torn.is_some());
    assert!(log.write(&[&Group::from(Record { key: 7, ..Record::default() })])[0].is_ok());
    log.sync().expect("syncs");
    drop(log);
    let mut entries = Vec::new();
    let (_, report) = open(&disk, &mut entries);
    assert_eq!((keys(&entries), &report.damage[..]), (vec![1, 2, 3, 4, 5, 7], &[][..]));
}

#[test]
fn a_lost_segment_in_the_middle_is_damage() {
    let disk = journal(100, false);
    let mut entries = Vec::new();
    let (log, report) = open(&disk, &mut entries);
    assert_eq!((entries.len(), report.damage.len()), (100, 0));
    let segments = log.reader().segments();
    assert!(segments.len() >= 2, "{segments:?}");
    drop(log);
    disk.corrupt(FIRST, 0, &vec![0; 8192]);
    let lost = entries.iter().filter(|entry| entry.position.segment == 1).count() as u64;
    let mut entries = Vec::new();
    let (_, report) = open(&disk, &mut entries);
    assert_eq!(entries.len() as u64, 100 - lost);
    assert_eq!((report.damage[0].first, report.damage[0].last), (1, lost));
}

#[test]
fn a_later_version_is_refused_and_not_touched() {
    let disk = journal(2, true);
    let mut end = disk.contents(FIRST).expect("there")[..START].to_vec();
    end[12] = 3;
    let crc = crc32fast::hash(&end[12..]);
    end[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.corrupt(FIRST, 0, &end);
    let before = disk.operations();
    let opened = Log::open(Arc::new(disk.clone()), OPTIONS, &mut |_| ());
    assert!(matches!(opened, Err(OpenError::Version { found: 3, supported: 2, .. })));
    assert_eq!(disk.operations(), before);
}

#[test]
fn there_is_one_writer() {
    let disk = journal(1, true);
    let (_log, _) = open(&disk, &mut Vec::new());
    let second = Log::open(Arc::new(disk.clone()), OPTIONS, &mut |_| ());
    assert!(matches!(second, Err(OpenError::Locked)));
    assert!(disk.list().expect("lists").contains(&FIRST.to_owned()));
}

#[test]
fn known_records_of_sealed_segments_need_not_be_told_again() {
    let disk = journal(6, true);
    let options = Options { replay_from: 4, ..OPTIONS };
    let mut entries = Vec::new();
    let (log, report) =
        Log::open(Arc::new(disk), options, &mut |entry| entries.push(entry)).expect("opens");
    assert_eq!((keys(&entries), report.records, log.synced()), (vec![4, 5, 6], 6, 6));
}

/// Records of three sizes in groups of up to two, some voided by a failed sync.
fn many(disk: &SimDisk) -> Log {
    let (mut log, _) = open(disk, &mut Vec::new());
    for key in 1..=200_u64 {
        let record = |part: u64| Record {
            kind: part as u8,
            key,
            meta: vec![key as u8; 20].into(),
            body: vec![vec![1; [30, 300, 3000][key as usize % 3]].into()],
        };
        let group = Group::new((0..=key % 2).map(record).collect());
        assert!(log.write(&[&group])[0].is_ok());
        if key % 50 == 7 {
            disk.fault(disk.operations(), Fault::Io);
            log.sync().expect_err("the fault");
        } else {
            log.sync().expect("syncs");
        }
    }
    log
}

#[test]
fn what_opening_did_not_tell_is_read_later() {
    let disk = SimDisk::new();
    drop(many(&disk));
    let mut all = Vec::new();
    drop(open(&disk.kill(), &mut all));
    assert!(!keys(&all).contains(&57) && keys(&all).contains(&58));

    let options = Options { replay_from: u64::MAX, ..OPTIONS };
    let told = &mut |entry: Entry| panic!("told of {}", entry.seq);
    let (mut log, report) = Log::open(Arc::new(disk), options, told).expect("opens");
    assert_eq!((report.records, report.highest_key), (all.len() as u64, 200));
    assert_eq!(report.last, all.last().expect("some").seq);
    let reader = log.reader();
    assert!(log.write(&[&Group::from(Record::default())])[0].is_ok());
    log.sync().expect("syncs");
    let last = report.last;
    for (from, to) in [(0, last), (90, 100), (100, 100), (250, u64::MAX), (90, 80)] {
        let mut some = Vec::new();
        let damage = reader.replay(from, to, &mut |entry| some.push(entry)).expect("reads");
        assert_eq!(damage, []);
        let mut expected = all.clone();
        expected.retain(|entry| entry.seq >= from && entry.seq <= to);
        if to > last {
            assert_eq!(some.pop().map(|entry| entry.seq), Some(log.synced()));
        }
        assert!(some == expected, "{from} to {to}: {} of {}", some.len(), expected.len());
    }
    let contents = |segment| reader.contents(segment).expect("reads");
    let listed: Vec<_> = reader.segments().into_iter().flat_map(contents).collect();
    let expected = all.iter().map(|e| (e.seq, e.kind, e.key, e.position));
    let listed = listed.iter().map(|c| (c.seq, c.kind, c.key, c.position));
    assert!(listed.take(all.len()).eq(expected));

    let oldest = reader.segments()[0];
    log.remove(oldest).expect("removes");
    assert!(matches!(reader.contents(oldest), Err(ReadError::Gone { .. })));
}

#[test]
fn a_replay_serves_what_is_beside_the_damage() {
    for place in [0, 70] {
        let disk = journal(6, true);
        let options = Options { replay_from: u64::MAX, ..OPTIONS };
        let (log, report) = Log::open(Arc::new(disk.clone()), options, &mut |_| ()).expect("opens");
        assert_eq!(report.records, 6);
        disk.corrupt(FIRST, START + 2 * 128 + place, &[0xff]);
        let mut entries = Vec::new();
        let damage = log.reader().replay(2, 5, &mut |entry| entries.push(entry)).expect("reads");
        assert_eq!(keys(&entries), [2, 4, 5]);
        assert_eq!((damage.len(), damage[0].about), (1, Some((9, 3))));
        assert!(disk.contents("0000000000000001-180.bad").is_some());
        // Without its table the segment is read from the front.
        disk.corrupt(FIRST, 8192 - 40, &[0xff]);
        let mut entries = Vec::new();
        let damage = log.reader().replay(2, 5, &mut |entry| entries.push(entry)).expect("reads");
        assert_eq!((keys(&entries), damage.len()), (vec![2, 4, 5], 1));
        assert_eq!(log.reader().contents(1).expect("reads").len(), 5);
    }
}

#[test]
fn the_largest_key_outlives_its_segment() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, &mut Vec::new());
    let put = |log: &mut Log, key| {
        assert!(log.write(&[&Group::from(Record { key, ..Record::default() })])[0].is_ok());
        log.sync().expect("syncs");
    };
    put(&mut log, 99);
    log.seal().expect("seals");
    put(&mut log, 1);
    log.seal().expect("seals");
    log.remove(1).expect("removes");
    for _ in 0..3 {
        drop(log);
        let (opened, report) = open(&disk, &mut Vec::new());
        assert_eq!(report.highest_key, 99);
        log = opened;
        put(&mut log, 2);
        let oldest = log.reader().segments()[0];
        log.remove(oldest).expect("removes");
    }
}

#[test]
fn what_the_disk_cannot_read_hides_nothing_else() {
    // Records are 128 octets, and the disk reads or does not by sectors of 512: the one that
    // holds numbers 6 to 9, the near end with the first three, the table, the far end.
    let sectors: [(u64, &[u64], &[u64]); 4] = [
        (1, &[1, 2, 3, 8, 9, 10, 11, 12], &[4, 5, 6, 7]),
        (0, &[4, 5, 6, 7, 8, 9, 10, 11, 12], &[1, 2, 3]),
        (3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[12]),
        (15, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[]),
    ];
    for sealed in [false, true] {
        for (sector, kept, lost) in sectors {
            let disk = journal(12, sealed).kill();
            disk.unreadable(FIRST, sector * 512..sector * 512 + 512);
            let mut entries = Vec::new();
            let (mut log, report) = open(&disk, &mut entries);
            let context = format!("sector {sector}, sealed {sealed}: {:?}", report.damage);
            assert_eq!(keys(&entries), kept, "{context}");
            let damaged: Vec<u64> = report.damage.iter().flat_map(|d| d.first..=d.last).collect();
            // Nobody knows that the last record of all was there: that is said once.
            let unknown = !sealed && lost == [12];
            assert!(damaged == lost || (unknown && !report.damage.is_empty()), "{context}");
            assert!(log.write(&[&Group::from(Record { key: 77, ..Record::default() })])[0].is_ok());
            log.sync().expect("syncs");
            drop(log);
            let mut entries = Vec::new();
            let (_, report) = open(&disk, &mut entries);
            assert_eq!(keys(&entries), [kept, &[77]].concat(), "{context}");
            assert_eq!(report.damage.is_empty(), lost.is_empty() || unknown, "{context}");
        }
    }
    let disk = journal(12, true).kill();
    disk.unreadable(FIRST, 0..8192);
    let opened = Log::open(Arc::new(disk), OPTIONS, &mut |_| ());
    assert!(matches!(opened, Err(OpenError::Io(_))), "a dead disk is no empty journal");
}
