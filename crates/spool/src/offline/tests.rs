//! A real spool with damage planted in it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use merpati_plugin::spool::{Filter, ParcelState, SpoolError};
use merpati_testkit::spool_contract::{message, put};
use merpati_types::{ReversePath, Timestamp};
use tokio::runtime::Runtime;

use super::*;

const SMALL: usize = 40;

/// A closed spool: messages with small bodies, and two with body files.
struct Planted {
    runtime: Runtime,
    directory: tempfile::TempDir,
    ids: Vec<MessageId>,
    large: Vec<MessageId>,
}

fn options() -> Options {
    let journal = merpati_journal::Options { segment_size: 8 << 10, ..Default::default() };
    Options { min_free: 0, small_body: 1_000, journal, ..Options::default() }
}

fn body(number: usize, octets: usize) -> String {
    format!("Subject: {number}\r\n\r\n{}\r\n", "x".repeat(octets))
}

impl Planted {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (mut ids, mut large) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            let (spool, _) = DiskSpool::open(directory.path(), options()).unwrap();
            for number in 0..SMALL + 2 {
                let octets = if number < SMALL { 100 } else { 5_000 };
                let mut message = message(&["bob@receiver.test"]);
                message.envelope.sender = ReversePath::Null;
                message.arrived = Timestamp::from_millis(1_700_000_000_000);
                let id = put(&spool, message, &body(number, octets).into()).await.unwrap();
                if number < SMALL { &mut ids } else { &mut large }.push(id);
            }
            spool.close().await;
        });
        Self { runtime, directory, ids, large }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self) -> Offline {
        Offline::open(self.directory.path()).unwrap()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.open().check(&mut |problem| problems.push(problem)).unwrap();
        problems
    }

    /// Flips a bit in the record of a message, so many octets from its beginning.
    fn flip(&self, id: MessageId, octets: u64) -> String {
        let position = self.open().inner().core().view(id).unwrap().unwrap().base;
        let name = format!("{:016x}.seg", position.segment);
        let path = self.path("journal").join(&name);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut octet = [0];
        file.read_exact_at(&mut octet, position.offset + octets).unwrap();
        file.write_all_at(&[octet[0] ^ 1], position.offset + octets).unwrap();
        format!("journal/{name} at {}", position.offset)
    }

    /// The last octet of a body is so far from its record's beginning.
    fn end_of_body(&self, id: MessageId) -> u64 {
        let position = self.open().inner().core().view(id).unwrap().unwrap().base;
        64 + u64::from(position.meta_len) + u64::from(position.body_len) - 1
    }

    /// Which messages can be read whole.
    fn readable(&self) -> Vec<MessageId> {
        let offline = self.open();
        let mut whole = Vec::new();
        for id in offline.messages().unwrap() {
            let read = async {
                let message = offline.spool().message(id).await?;
                let mut reader = message.open().await?;
                let mut octets = 0;
                while let Some(piece) = reader.next().await.map_err(SpoolError::Unavailable)? {
                    octets += piece.len() as u64;
                }
                assert_eq!(octets, message.size());
                Ok::<(), SpoolError>(())
            };
            if self.runtime.block_on(read).is_ok() {
                whole.push(id);
            }
        }
        whole
    }
}

/// What a directory holds, names and contents.
fn snapshot(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_sound_spool_has_no_problems_and_is_not_touched() {
    let planted = Planted::new();
    let before = snapshot(planted.directory.path());
    assert_eq!(planted.problems(), []);
    assert_eq!(planted.readable().len(), SMALL + 2);
    let usage = planted.open().usage().unwrap();
    assert_eq!((usage.body_files, usage.body_octets > 10_000), (2, true));
    assert!(usage.segments > 1 && usage.live_octets > SMALL as u64 * 100, "{usage:?}");
    assert!(snapshot(planted.directory.path()) == before);
}

#[test]
fn a_server_keeps_others_out() {
    let planted = Planted::new();
    let (spool, _) = DiskSpool::open(planted.directory.path(), options()).unwrap();
    let refused = Offline::open(planted.directory.path());
    assert!(matches!(refused, Err(OfflineError::Running)));
    drop(spool);
    let offline = planted.open();
    assert!(DiskSpool::open(planted.directory.path(), options()).is_err());
    drop(offline);
    let nothing = Offline::open(&planted.path("bodies"));
    assert!(matches!(nothing, Err(OfflineError::Nothing { .. })));
}

#[test]
fn names_every_damage_and_mends_what_can_be() {
    let planted = Planted::new();
    let (in_body, in_header, in_meta) = (planted.ids[3], planted.ids[11], planted.ids[17]);
    let (missing, short) = (planted.large[0], planted.large[1]);
    let places = [
        planted.flip(in_body, planted.end_of_body(in_body)),
        planted.flip(in_header, 20),
        planted.flip(in_meta, 70),
    ];
    std::fs::remove_file(planted.path("bodies").join(missing.to_string())).unwrap();
    let file = planted.path("bodies").join(short.to_string());
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(1_000).unwrap();
    std::fs::write(planted.path("bodies/0000000000001"), "x").unwrap();

    let problems = planted.problems();
    let check = |place: &str, severity: Severity, id: Option<MessageId>, says: &str| {
        let here: Vec<_> = problems.iter().filter(|problem| problem.place == place).collect();
        let [problem] = here[..] else { panic!("{place}: {here:?}\n{problems:#?}") };
        assert_eq!((problem.severity, problem.message), (severity, id), "{problem}");
        assert!(problem.what.contains(says), "{problem}");
    };
    check(&places[0], Severity::Damage, Some(in_body), "the message record is damaged");
    check(&places[1], Severity::Damage, Some(in_header), "a message record");
    check(&places[2], Severity::Damage, Some(in_meta), "a message record");
    check(&format!("bodies/{missing}"), Severity::Damage, Some(missing), "it is missing");
    let says = "it has 1000 octets instead of 50";
    check(&format!("bodies/{short}"), Severity::Damage, Some(short), says);
    check("bodies/0000000000001", Severity::Leftover, None, "no message names it");
    assert_eq!(problems.len(), 6, "{problems:#?}");

    // All else is served.
    let whole: Vec<_> = planted
        .ids
        .iter()
        .copied()
        .filter(|id| ![in_body, in_header, in_meta].contains(id))
        .collect();
    assert_eq!(planted.readable(), whole);

    let plan = Repair::plan(&planted.open()).unwrap();
    let held: Vec<_> = plan.hold.iter().map(|(id, _)| *id).collect();
    assert_eq!(held, [in_body, missing, short]);
    let mended = planted.runtime.block_on(repair(planted.directory.path(), &plan));
    assert_eq!(mended.unwrap().0, 3);
    // It may be the body of a message whose record is lost.
    assert!(!planted.path("bodies/0000000000001").exists());
    assert!(planted.path("set-aside/0000000000001").exists());
    let log = std::fs::read_to_string(planted.path("damage.log")).unwrap();
    assert!(log.lines().count() == 2 && places[1..].iter().all(|place| log.contains(place)));
    let bad = std::fs::read_dir(planted.path("journal")).unwrap();
    let is_bad = |name: &str| name.ends_with(".bad");
    let bad = bad.filter(|entry| is_bad(entry.as_ref().unwrap().file_name().to_str().unwrap()));
    assert_eq!(bad.count(), 2);
    let filter = Filter { state: Some(ParcelState::Held), ..Filter::default() };
    let offline = planted.open();
    let held = planted.runtime.block_on(offline.spool().list(&filter, None, 10)).unwrap();
    let reasons: Vec<_> = held.iter().filter_map(|held| held.parcel.last_reason.clone()).collect();
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons[0], format!("damaged: {}: the message record is damaged", places[0]));
    drop(offline);
    assert_eq!(planted.readable(), whole);
    // Nothing is left to be done but for the operator.
    let plan = Repair::plan(&planted.open()).unwrap();
    assert!(plan.rescue.is_empty() && plan.sweep.is_empty(), "{plan:?}");
}

#[test]
fn a_bad_index_is_noticed_and_made_anew() {
    let planted = Planted::new();
    let index = planted.path("index");
    for (path, octets) in snapshot(&index).into_iter().filter(|(_, octets)| !octets.is_empty()) {
        std::fs::write(path, vec![0xa5; octets.len()]).unwrap();
    }
    let before = snapshot(planted.directory.path());
    let problems = planted.problems();
    assert!(problems.len() == 1 && problems[0].severity == Severity::Index, "{problems:?}");
    assert!(snapshot(planted.directory.path()) == before);
    let plan = Repair::plan(&planted.open()).unwrap();
    assert!(plan.index.is_some() && plan.hold.is_empty());
    planted.runtime.block_on(repair(planted.directory.path(), &plan)).unwrap();
    assert_eq!(planted.problems(), []);
    assert_eq!(planted.readable().len(), SMALL + 2);
}
