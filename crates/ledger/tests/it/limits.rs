//! What a ledger refuses, and that it takes space back.

use std::sync::Arc;

use merpati_journal::{Log, Options, Record};
use merpati_ledger::{Change, Ledger, LedgerError, Limits, MAX_KEY, MAX_VALUE};
use merpati_testkit::disk::SimDisk;

fn open(disk: &SimDisk, limits: Limits) -> Result<Ledger, LedgerError> {
    Ledger::open(Arc::new(disk.clone()), limits).map(|(ledger, _)| ledger)
}

#[test]
fn what_is_too_much_is_refused_and_changes_nothing() {
    let limits = Limits { facts: 1000, ..Limits::default() };
    let mut ledger = open(&SimDisk::new(), limits).unwrap();
    ledger.commit(&[Change::put("a", vec![1; 500])]).unwrap();
    let check = |ledger: &mut Ledger, changes: &[Change], expected: &str| {
        let error =
            ledger.commit(changes).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(error, expected);
        assert_eq!(ledger.with_prefix(b"").count(), 1);
    };
    let too_long = "a fact is longer than 1024 octets of key or 262144 of value";
    check(&mut ledger, &[Change::put("b", ""), Change::put("c", vec![0; MAX_VALUE + 1])], too_long);
    check(&mut ledger, &[Change::remove(vec![0; MAX_KEY + 1])], too_long);
    let full = "the ledger holds 1000 octets and no more";
    check(&mut ledger, &[Change::put("b", vec![2; 500])], full);
    check(&mut ledger, &[], "");
    ledger.commit(&[Change::remove("a")]).unwrap();
    ledger.commit(&[Change::put("b", vec![2; 500])]).unwrap();
}

#[test]
fn space_comes_back_and_old_facts_stay() {
    let disk = SimDisk::new();
    let limits = Limits { segment: 4096, ..Limits::default() };
    let mut ledger = open(&disk, limits).unwrap();
    ledger.commit(&[Change::put("old", "kept"), Change::put("gone", "")]).unwrap();
    ledger.commit(&[Change::remove("gone")]).unwrap();
    for round in 0..500_u32 {
        let value = round.to_le_bytes().repeat(100);
        ledger.commit(&[Change::put("counter", value)]).unwrap();
    }
    drop(ledger);
    let (log, _) = Log::open(Arc::new(disk.clone()), Options::default(), &mut |_| ()).unwrap();
    assert!(log.reader().segments().len() <= 5, "{:?}", log.reader().segments());
    drop(log);
    let ledger = open(&disk, limits).unwrap();
    let facts: Vec<_> = ledger.with_prefix(b"").map(|(key, value)| (key, value[0])).collect();
    assert_eq!(facts, [(&b"counter"[..], 243), (&b"old"[..], b'k')]);
}

#[test]
fn records_of_a_later_version_are_not_misread() {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(Arc::new(disk.clone()), Options::default(), &mut |_| ()).unwrap();
    let record = Record { kind: 9, ..Record::default() };
    log.write(&[&record.into()]).pop().unwrap().unwrap();
    log.sync().unwrap();
    drop(log);
    assert!(matches!(open(&disk, Limits::default()), Err(LedgerError::Unknown)));
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let disk = || Arc::new(merpati_journal::OsDisk::open(dir.path()).unwrap());
    let first = Ledger::open(disk(), Limits::default()).unwrap();
    assert!(matches!(Ledger::open(disk(), Limits::default()), Err(LedgerError::Open(_))));
    drop(first);
    Ledger::open(disk(), Limits::default()).unwrap();
}
