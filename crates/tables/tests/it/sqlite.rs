//! Tables in a SQLite database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use merpati_plugin::options::{Options, Value};
use merpati_plugin::{Table, lookup_address};
use merpati_tables::{CacheConfig, Cached, STOCK, stock};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

use crate::hostile;

const ROWS: &str = "\
    CREATE TABLE users (address TEXT, local TEXT, domain TEXT, home TEXT, number INTEGER);
    INSERT INTO users VALUES
        ('bob@example.org', 'bob', 'example.org', 'first', 1),
        ('twin@example.org', 'twin', 'example.org', 'second', 2),
        ('twin@example.org', 'twin', 'example.org', 'third', 3),
        ('null@example.org', 'null', 'example.org', NULL, 4),
        ('long@example.org', 'long', 'example.org', printf('%.70000c', 'x'), 5),
        ('o''hara@example.org', 'o''hara', 'example.org', 'quoted', 6),
        ('', '', '', 'the empty key has a row that nobody may find by accident', 7);";

struct Database {
    home: TempDir,
    /// Writes what the table reads.
    writer: SqliteConnection,
}

impl Database {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let options =
            SqliteConnectOptions::new().filename(home.path().join("db")).create_if_missing(true);
        let mut writer = options.connect().await.unwrap();
        writer.execute(ROWS).await.unwrap();
        Self { home, writer }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.home.path().join("db").display())
    }

    fn table(&self, query: &str, others: &[(&str, Value)]) -> Arc<dyn Table> {
        let options = [("url", self.url().as_str().into()), ("query", query.into())];
        let options = Options::new(options.into_iter().chain(others.iter().cloned()));
        let made = stock("sql", &options).unwrap();
        made.unwrap_or_else(|_| panic!("{:?}", options.errors().sorted()))
    }
}

async fn check(table: &dyn Table, key: &str, expected: Result<Option<&str>, &str>) {
    let found = table.find(key).await;
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{key}"),
        (Err(error), Err(expected)) => {
            assert!(error.to_string().contains(expected), "{key}: {error}");
        }
        _ => panic!("{key}: {found:?}"),
    }
}

#[tokio::test]
async fn values_are_found_by_the_key_and_its_parts() {
    let database = Database::new().await;
    let whole = database.table("SELECT home FROM users WHERE address = :key", &[]);
    check(&*whole, "bob@example.org", Ok(Some("first"))).await;
    check(&*whole, "o'hara@example.org", Ok(Some("quoted"))).await;
    check(&*whole, "null@example.org", Ok(None)).await;
    check(&*whole, "nobody@example.org", Ok(None)).await;
    check(&*whole, "twin@example.org", Err("several rows, and `multiple` is not set")).await;
    check(&*whole, "long@example.org", Err("a value of 70000 octets is too long")).await;
    // After an error the pool goes on.
    check(&*whole, "bob@example.org", Ok(Some("first"))).await;

    let parts = "SELECT home /* :key */ FROM users WHERE local = :local AND domain = :domain";
    let parts = database.table(parts, &[("multiple", true.into())]);
    check(&*parts, "bob@EXAMPLE.org", Ok(Some("first"))).await;
    check(&*parts, "twin@example.org", Ok(Some("second, third"))).await;
    check(&*parts, "example.org", Ok(None)).await;
    check(&*parts, "@example.org", Ok(None)).await;
    let address = "Bob+news@Example.org".parse().unwrap();
    let hit = lookup_address(&*parts, &address).await.unwrap().unwrap();
    assert_eq!((hit.key.as_str(), hit.value.as_str()), ("bob@example.org", "first"));

    let number = database.table("SELECT number FROM users WHERE address = :key", &[]);
    check(&*number, "bob@example.org", Err("INTEGER")).await;
    check(&*number, "nobody@example.org", Ok(None)).await;
    let broken = database.table("SELECT home FROM nowhere WHERE address = :key", &[]);
    check(&*broken, "bob@example.org", Err("no such table")).await;
}

#[tokio::test]
async fn no_key_becomes_part_of_a_query() {
    let mut database = Database::new().await;
    let queries = [
        "SELECT home FROM users WHERE address = :key AND address <> ''",
        "SELECT home FROM users WHERE local = :local AND domain = :domain",
    ];
    for query in queries {
        let table = database.table(query, &[]);
        let own = ["x'; DROP TABLE users; --@example.org", "\"' OR 1=1 --\"@example.org"];
        for key in hostile().into_iter().chain(own.map(str::to_owned)) {
            check(&*table, &key, Ok(None)).await;
        }
        check(&*table, "bob@example.org", Ok(Some("first"))).await;
    }
    // Nor may a query write.
    let write = "UPDATE users SET home = :key RETURNING home";
    check(&*database.table(write, &[]), "x", Err("readonly")).await;
    let rows = sqlx::query("SELECT * FROM users").fetch_all(&mut database.writer).await.unwrap();
    assert_eq!(rows.len(), 7);
}

#[tokio::test]
async fn many_ask_at_once() {
    let database = Database::new().await;
    let query = "SELECT home FROM users WHERE address = :key";
    let table = database.table(query, &[("connections", 2.into())]);
    let ask = |number: u32| {
        let table = Arc::clone(&table);
        tokio::spawn(async move {
            let key = if number.is_multiple_of(3) { "nobody" } else { "bob" };
            let found = table.find(&format!("{key}@example.org")).await.unwrap();
            assert_eq!(found.is_some(), key == "bob");
            // Some go away while they wait.
            let waiting = table.find("bob@example.org");
            let _ = tokio::time::timeout(Duration::from_micros(number.into()), waiting).await;
        })
    };
    let asking: Vec<_> = (0..200).map(ask).collect();
    for asked in asking {
        asked.await.unwrap();
    }
    check(&*table, "bob@example.org", Ok(Some("first"))).await;
}

#[tokio::test]
async fn what_is_down_is_unavailable_in_bounded_time() {
    let database = Database::new().await;
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000) \
                SELECT :key || max(i) FROM n";
    let slow = database.table(slow, &[("timeout", "100ms".into()), ("connections", 1.into())]);
    let begun = Instant::now();
    check(&*slow, "a", Err("no answer of the database within 100ms")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let mut database = Database::new().await;
    let table = database.table("SELECT home FROM users WHERE address = :key", &[]);
    let cached = Cached::new(
        Arc::clone(&table),
        CacheConfig {
            ttl: Duration::ZERO,
            stale: Duration::from_secs(60),
            ..CacheConfig::default()
        },
    );
    check(&cached, "bob@example.org", Ok(Some("first"))).await;
    database.writer.execute("DROP TABLE users").await.unwrap();
    check(&*table, "bob@example.org", Err("no such table")).await;
    check(&cached, "bob@example.org", Ok(Some("first"))).await;
    check(&cached, "nobody@example.org", Err("no such table")).await;
    database.writer.execute(ROWS).await.unwrap();
    check(&*table, "bob@example.org", Ok(Some("first"))).await;
    database.writer.close().await.unwrap();

    let gone = "sqlite:/nowhere/at/all";
    let options = Options::new([("url", gone.into()), ("query", "SELECT :key".into())]);
    let gone = stock("sql", &options).unwrap().unwrap();
    check(&*gone, "a", Err("unable to open database file")).await;
}

#[test]
fn mistakes_in_options_are_told() {
    assert!(STOCK.contains(&"sql"));
    let check = |url: &str, query: &str, other: (&str, Value), expected: &str| {
        let options = Options::new([("url", url.into()), ("query", query.into()), other]);
        assert!(stock("sql", &options).unwrap().is_err(), "{url} {query}");
        let errors: Vec<_> = options.errors().sorted().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected), "{errors:?}");
        assert!(!errors[0].contains("sesame"), "{errors:?}");
    };
    let fine = ("connections", 1.into());
    let query = "SELECT :key";
    check("oracle:x", query, fine.clone(), "url: expected a URL with sqlite:");
    check("/var/db", query, fine.clone(), "url: expected a URL with sqlite:");
    check("sqlite:x?mode=none", query, fine.clone(), "url: ");
    check("postgres://u:sesame@h/d", query, fine.clone(), "url: a secret does not stand");
    check("mysql://u@h/d?password=sesame", query, fine.clone(), "url: a secret does not stand");
    check("sqlite:x", "SELECT :user", fine.clone(), "query: `:user` is no parameter");
    check("sqlite:x", "SELECT 'x'", fine, "query: the query names none");
    check("sqlite:x", query, ("connections", 0.into()), "connections: 0 is not between 1 and 100");
    check("sqlite:x", query, ("timeout", "2m".into()), "timeout: 2m is not between");
    check("sqlite:x", query, ("tls", "maybe".into()), "tls: `maybe` is not known");
    check("sqlite:x", query, ("qery", 1.into()), "qery: unknown key");
}
