//! Answers are remembered, bridged and shared as configured.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// Answers `v<n>` to the n-th query for any key that begins with `k`.
#[derive(Default)]
struct Script {
    asked: AtomicUsize,
    down: AtomicBool,
    /// If present, a query waits until it gets a permit.
    gate: Option<Semaphore>,
}

#[async_trait]
impl Table for Script {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(TableError::Unavailable("it is down".into()));
        }
        assert_ne!(key, "panic");
        Ok(key.starts_with('k').then(|| format!("v{number}")))
    }

    fn knows_parts(&self) -> bool {
        false
    }
}

fn cached(script: &Arc<Script>, config: CacheConfig) -> Arc<Cached> {
    Arc::new(Cached::new(Arc::clone(script) as Arc<dyn Table>, config))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn check(table: &Cached, key: &str, expected: Result<Option<&str>, &str>) {
    let found = table.find(key).await.map_err(|error| error.to_string());
    assert_eq!(found, expected.map(|v| v.map(str::to_owned)).map_err(str::to_owned), "{key}");
}

#[tokio::test(start_paused = true)]
async fn answers_count_for_their_time() {
    let script = Arc::new(Script::default());
    let table = cached(&script, CacheConfig::default());
    check(&table, "k", Ok(Some("v1"))).await;
    check(&table, "n", Ok(None)).await;
    tokio::time::advance(seconds(59)).await;
    check(&table, "k", Ok(Some("v1"))).await;
    check(&table, "n", Ok(None)).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 2);
    tokio::time::advance(seconds(1)).await;
    check(&table, "n", Ok(None)).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 3);
    tokio::time::advance(seconds(240)).await;
    check(&table, "k", Ok(Some("v4"))).await;
    assert!(!table.knows_parts());
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_remembered_and_nothing_stands_in_by_default() {
    let script = Arc::new(Script::default());
    let table = cached(&script, CacheConfig::default());
    check(&table, "k", Ok(Some("v1"))).await;
    script.down.store(true, Ordering::SeqCst);
    tokio::time::advance(seconds(299)).await;
    check(&table, "k", Ok(Some("v1"))).await;
    tokio::time::advance(seconds(1)).await;
    check(&table, "k", Err("table is unavailable: it is down")).await;
    check(&table, "k", Err("table is unavailable: it is down")).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 3);
    script.down.store(false, Ordering::SeqCst);
    check(&table, "k", Ok(Some("v4"))).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_value_stands_in_for_a_bounded_time() {
    let script = Arc::new(Script::default());
    let table = cached(&script, CacheConfig { stale: seconds(60), ..CacheConfig::default() });
    check(&table, "k", Ok(Some("v1"))).await;
    check(&table, "n", Ok(None)).await;
    script.down.store(true, Ordering::SeqCst);
    tokio::time::advance(seconds(300)).await;
    check(&table, "n", Err("table is unavailable: it is down")).await;
    check(&table, "k", Ok(Some("v1"))).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 4);
    // The table is left alone for a while …
    tokio::time::advance(seconds(4)).await;
    check(&table, "k", Ok(Some("v1"))).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 4);
    // … and asked again then.
    tokio::time::advance(seconds(2)).await;
    check(&table, "k", Ok(Some("v1"))).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), 5);
    tokio::time::advance(seconds(54)).await;
    check(&table, "k", Err("table is unavailable: it is down")).await;
    script.down.store(false, Ordering::SeqCst);
    check(&table, "k", Ok(Some("v7"))).await;
}

#[tokio::test(start_paused = true)]
async fn one_query_serves_all_who_wait_and_outlives_them() {
    let script = Arc::new(Script { gate: Some(Semaphore::new(0)), ..Script::default() });
    let table = cached(&script, CacheConfig::default());
    let ask = || {
        let table = Arc::clone(&table);
        tokio::spawn(async move { table.find("k").await.unwrap() })
    };
    let first = ask();
    while script.asked.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let others: Vec<_> = (0..50).map(|_| ask()).collect();
    script.gate.as_ref().unwrap().add_permits(100);
    for other in others {
        assert_eq!(other.await.unwrap().as_deref(), Some("v1"));
    }
    assert_eq!(script.asked.load(Ordering::SeqCst), 1);
    check(&table, "k", Ok(Some("v1"))).await;
}

#[tokio::test(start_paused = true)]
async fn flights_are_bounded() {
    let script = Arc::new(Script { gate: Some(Semaphore::new(0)), ..Script::default() });
    let table = cached(&script, CacheConfig::default());
    let mut asking = Vec::new();
    for number in 0..MAX_FLIGHTS {
        let table = Arc::clone(&table);
        asking.push(tokio::spawn(async move { table.find(&format!("k{number}")).await }));
    }
    while script.asked.load(Ordering::SeqCst) < MAX_FLIGHTS {
        tokio::task::yield_now().await;
    }
    check(&table, "k", Err("table is unavailable: too many look-ups are under way")).await;
    script.gate.as_ref().unwrap().add_permits(MAX_FLIGHTS + 1);
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    check(&table, "k", Ok(Some("v1001"))).await;
}

#[tokio::test]
async fn a_panic_is_an_error_and_ends_its_flight() {
    let script = Arc::new(Script::default());
    let table = cached(&script, CacheConfig::default());
    for _ in 0..2 {
        check(&table, "panic", Err("table is unavailable: the look-up panicked")).await;
    }
    assert_eq!(script.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_too_long_is_not_remembered() {
    let script = Arc::new(Script::default());
    let table = cached(&script, CacheConfig::default());
    let key = "k".repeat(MAX_KEY + 1);
    check(&table, &key, Ok(Some("v1"))).await;
    check(&table, &key, Ok(Some("v2"))).await;
}
