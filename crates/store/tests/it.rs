//! Both stores do the same; only one forgets on purpose.

use std::ops::Bound;
use std::thread;
use std::time::Duration;

use merpati_store::{
    Batch, MAX_VALUE, MemoryStore, Options, Scan, SledStore, Space, Store, StoreError, Swap,
};

fn each(run: impl Fn(&dyn Store)) {
    run(&MemoryStore::new());
    let dir = tempfile::tempdir().expect("a directory");
    run(&SledStore::open(dir.path(), Options::default()).expect("opens"));
}

fn insert(space: &dyn Space, key: &str, value: &str) {
    let mut batch = Batch::default();
    batch.insert(key, value);
    space.apply(batch).expect("applies");
}

fn keys(space: &dyn Space, from: Bound<&str>, to: Bound<&str>) -> Vec<String> {
    let mut keys = Vec::new();
    let (from, to) = (from.map(str::as_bytes), to.map(str::as_bytes));
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(String::from_utf8_lossy(key).into_owned());
        Scan::Next
    };
    space.scan(from, to, visit).expect("scans");
    keys
}

#[test]
fn ranges_are_ordered_and_bounded() {
    use Bound::{Excluded, Included, Unbounded};
    let cases: [(Bound<&str>, Bound<&str>, &[&str]); 7] = [
        (Unbounded, Unbounded, &["a", "b", "c", "d"]),
        (Included("b"), Unbounded, &["b", "c", "d"]),
        (Excluded("b"), Included("c"), &["c"]),
        (Included("b"), Excluded("d"), &["b", "c"]),
        (Included("bb"), Included("bz"), &[]),
        (Included("c"), Included("b"), &[]),
        (Excluded("b"), Excluded("b"), &[]),
    ];
    each(|store| {
        let space = store.space("s").expect("a space");
        ["c", "a", "d", "b"].iter().for_each(|key| insert(&*space, key, "v"));
        for (from, to, expected) in cases {
            assert_eq!(keys(&*space, from, to), expected, "{from:?} {to:?}");
        }
        let mut first = None;
        let visit = &mut |key: &[u8], _: &[u8]| {
            assert_eq!(first.replace(key.to_vec()), None, "stopped");
            Scan::Stop
        };
        space.scan(Unbounded, Unbounded, visit).expect("scans");
    });
}

#[test]
fn changes_are_made_as_one_and_seen_at_once() {
    each(|store| {
        let space = store.space("s").expect("a space");
        let other = store.space("t").expect("a space");
        insert(&*space, "a", "1");
        let mut batch = Batch::default();
        batch.insert("b", "2");
        batch.remove("a");
        batch.remove("none");
        batch.insert("b", "3");
        space.apply(batch).expect("applies");
        assert_eq!(space.value(b"a").expect("reads"), None);
        assert_eq!(space.value(b"b").expect("reads").as_deref(), Some(&b"3"[..]));
        assert_eq!(other.value(b"b").expect("reads"), None);

        let mut batch = Batch::default();
        batch.insert("c", "1");
        batch.insert("d", vec![0; MAX_VALUE + 1]);
        assert!(matches!(space.apply(batch), Err(StoreError::TooLarge { .. })));
        assert_eq!(space.value(b"c").expect("reads"), None);

        assert_eq!(space.swap(b"b", Some(b"3"), Some(b"4")).expect("swaps"), Swap::Done);
        let changed = Swap::Changed(Some(b"4".to_vec()));
        assert_eq!(space.swap(b"b", Some(b"3"), None).expect("swaps"), changed);
        assert_eq!(space.swap(b"e", None, Some(b"5")).expect("swaps"), Swap::Done);
        space.clear().expect("clears");
        assert_eq!(keys(&*space, Bound::Unbounded, Bound::Unbounded), [""; 0]);
    });
}

#[test]
fn sled_keeps_a_checkpoint_and_has_one_opener() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || SledStore::open(dir.path(), Options::default());
    let impatient = Options { patience: Duration::ZERO, ..Options::default() };
    let store = open().expect("opens");
    let space = store.space("s").expect("a space");
    insert(&*space, "a", "1");
    store.checkpoint().expect("flushes");
    let second = SledStore::open(dir.path(), impatient).err();
    assert!(matches!(second, Some(StoreError::Unavailable(_))), "{second:?}");
    // Who waits gets it once the first one is gone.
    let store = thread::scope(|scope| {
        let waiting = scope.spawn(open);
        drop((space, store));
        waiting.join().expect("does not panic").expect("opens again")
    });
    let space = store.space("s").expect("a space");
    assert_eq!(space.value(b"a").expect("reads").as_deref(), Some(&b"1"[..]));
    drop((space, store));
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("writes");
    let blocked = SledStore::open(&file, Options::default()).err();
    assert!(matches!(blocked, Some(StoreError::Unavailable(_))), "{blocked:?}");
}

#[test]
fn the_memory_store_forgets_what_it_is_told_to() {
    let store = MemoryStore::with_history();
    let space = store.space("s").expect("a space");
    insert(&*space, "a", "1");
    insert(&*space, "b", "1");
    store.checkpoint().expect("checkpoint");
    insert(&*space, "c", "1");
    assert_eq!(store.checkpoints(), 2);
    for (checkpoint, lost, expected) in
        [(1, "", &["a", "b"][..]), (1, "a", &["b"]), (0, "", &[]), (9, "", &[])]
    {
        let cut = store.after_cut(checkpoint, |_, key| key == lost.as_bytes());
        let space = cut.space("s").expect("a space");
        assert_eq!(keys(&*space, Bound::Unbounded, Bound::Unbounded), expected);
    }
}
