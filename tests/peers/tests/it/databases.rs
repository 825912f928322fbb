//! Tables in real databases and a real directory.

mod mariadb;
mod postgres;
mod slapd;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use merpati_plugin::options::{Entry, Kind, Options, Span, Value};
use merpati_plugin::{Table, lookup_address};
use merpati_tables::stock;
use tokio::runtime::Runtime;

use crate::room::{NOBODY, Room};

const PASSWORD: &str = "open 'sesame'";

/// What is in each of them, by address and home; the second and third have one address.
const ROWS: [(&str, &str); 4] = [
    ("bob@example.org", "first"),
    ("twin@example.org", "second"),
    ("twin@example.org", "third"),
    ("o'hara@example.org", "quoted"),
];

/// Keys that nobody has, and that are more than a key where text becomes part of a query.
fn hostile() -> Vec<String> {
    [
        "",
        "' OR 1=1 --",
        "' OR '1'='1",
        "\\' OR 1=1 #",
        "\" OR \"\"=\"",
        "x'; DROP TABLE users; --",
        "\"' OR 1=1 --\"@example.org",
        "\"*)(uid=*\"@example.org",
        "*",
        "*)(uid=*",
        "*)(objectClass=*))(|(uid=*",
        "b*@example.org",
        "\\2a",
        "%",
        "_ob@example.org",
        "$1",
        "?",
        "{key}",
        ":key",
        "bob@example.org\0",
        "\0",
        "\u{ffff}\u{10ffff}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["x".repeat(10_240), "'".repeat(4_000), "(".repeat(4_000)])
    .collect()
}

/// A copy of an unpacked package where nobody can run it.
fn unpacked(room: &Room, name: &str) -> PathBuf {
    let root = std::env::var_os("MERPATI_PEERS_ROOT")
        .expect("`cargo xtask test --peers` says where packages were unpacked");
    let copy =
        Command::new("cp").arg("-r").arg(Path::new(&root).join(name)).arg(room.path()).status();
    assert!(copy.unwrap().success(), "{name} is not unpacked in {}", root.display());
    room.path().join(name)
}

/// A command that nobody runs.
fn as_nobody(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.uid(NOBODY).gid(NOBODY).env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// Runs to the end, with this text for its input.
fn demand(mut command: Command, input: &str) {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("ERROR"), "{command:?}: {told}");
}

/// What a test asks by.
struct Bench {
    room: Room,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Self {
        let room = Room::new();
        std::fs::write(room.path().join("password"), PASSWORD).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { room, runtime }
    }

    /// A table with the password, the room's roots and these options.
    fn table(&self, kind: &str, others: &[(&str, &str)]) -> Arc<dyn Table> {
        let file = Entry {
            key: "file".to_owned(),
            key_span: Span::default(),
            value: self.room.path().join("password").to_str().unwrap().into(),
        };
        let password = Value { kind: Kind::Table(vec![file]), span: Span::default() };
        let ca = self.room.ca();
        let mut usual = vec![("password", password)];
        if others.iter().all(|(key, _)| !["ca", "tls"].contains(key)) {
            usual.push(("ca", ca.to_str().unwrap().into()));
        }
        let others = others.iter().filter(|(_, value)| !value.is_empty());
        let others = others.map(|(key, value)| match *value {
            "true" => (*key, true.into()),
            value => (*key, Value::from(value)),
        });
        let options = Options::new(usual.into_iter().chain(others));
        let made = stock(kind, &options).unwrap();
        made.unwrap_or_else(|_| panic!("{:?}", options.errors().sorted()))
    }

    fn check(&self, table: &Arc<dyn Table>, key: &str, expected: Result<Option<&str>, &str>) {
        let begun = Instant::now();
        let found = self.runtime.block_on(table.find(key));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{key:?}"),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{key:?}: {error}");
            }
            _ => panic!("{key:?}: {found:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    /// What holds for a table that is asked for the whole key …
    fn holds(&self, table: &Arc<dyn Table>) {
        self.check(table, "bob@example.org", Ok(Some("first")));
        self.check(table, "o'hara@example.org", Ok(Some("quoted")));
        self.check(table, "nobody@example.org", Ok(None));
        self.check(table, "twin@example.org", Err("several"));
        for key in hostile() {
            self.check(table, &key, Ok(None));
        }
        self.check(table, "bob@example.org", Ok(Some("first")));
    }

    /// … and for one that is asked for its parts, and wants all values.
    fn holds_by_parts(&self, table: &Arc<dyn Table>) {
        let find = |address: &str| {
            let address = address.parse().unwrap();
            let hit = self.runtime.block_on(lookup_address(&**table, &address)).unwrap();
            hit.map(|hit| hit.value)
        };
        assert_eq!(find("bob+news@Example.ORG").as_deref(), Some("first"));
        assert_eq!(find("nobody@example.org"), None);
        let twins = find("twin@example.org").unwrap();
        assert!(["second, third", "third, second"].contains(&twins.as_str()), "{twins}");
        for key in hostile() {
            self.check(table, &key, Ok(None));
        }
    }
}
