//! Tables from their options, as a configuration has them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "sql-sqlite")]
mod sqlite;

use std::fs;
use std::sync::Arc;

use merpati_plugin::Table;
use merpati_plugin::options::Options;
use merpati_tables::stock;

/// A table of this kind whose file has this text, or what is wrong with it.
fn open(kind: &str, text: impl AsRef<[u8]>) -> Result<Arc<dyn Table>, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table");
    fs::write(&path, text).unwrap();
    let options = Options::new([("path", path.to_str().unwrap().into())]);
    stock(kind, &options).unwrap().map_err(|_| {
        let errors = options.errors().sorted();
        assert_eq!(errors.len(), 1);
        errors[0].to_string().replace(path.to_str().unwrap(), "T")
    })
}

/// What nobody has a row for, and nothing must break on.
fn hostile() -> Vec<String> {
    [
        "",
        " ",
        "' OR 1=1",
        "' OR '1'='1' --",
        "\" OR \"\"=\"",
        "*)(uid=*",
        "*",
        "%",
        "\\",
        "\0",
        "a\0b",
        "bob@example.org\0",
        "bob@example.org\n",
        "../../etc/passwd",
        "$1",
        ":key",
        "{key}",
        "\u{202e}\u{0}\u{ffff}",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["x".repeat(10_240), "'".repeat(10_240), "(".repeat(10_240), "\u{10ffff}".repeat(3_000)])
    .collect()
}

#[tokio::test]
async fn a_file_has_its_rows() {
    let text = "# comment\n\nbob@example.org: one\r\n  # indented comment\n.Example.ORG\ttwo  words \n\
                \"a b\"@x three\nbücher.example vier\n";
    let table = open("file", text).unwrap();
    for (key, expected) in [
        ("bob@example.org", Some("one")),
        ("BOB@example.org", Some("one")),
        (".example.org", Some("two  words")),
        ("\"a b\"@x", Some("three")),
        ("BÜCHER.example", Some("vier")),
        ("example.org", None),
        ("#", None),
    ] {
        assert_eq!(table.find(key).await.unwrap().as_deref(), expected, "{key}");
    }
    for key in hostile() {
        assert_eq!(table.find(&key).await.unwrap(), None, "{key:?}");
    }
    assert!(table.knows_parts());
}

#[test]
fn a_kind_that_is_not_built_in_is_a_mistake() {
    assert!(stock("flie", &Options::new([])).is_none());
    if cfg!(not(any(feature = "sql-mysql", feature = "sql-postgres", feature = "sql-sqlite"))) {
        let options = Options::new([]);
        assert!(stock("sql", &options).unwrap().is_err());
        assert!(options.errors().sorted()[0].message.contains("built without databases"));
    }
    if cfg!(not(feature = "ldap")) {
        let options = Options::new([]);
        assert!(stock("ldap", &options).unwrap().is_err());
        assert!(options.errors().sorted()[0].message.contains("built without directories"));
    }
}

#[test]
fn a_wrong_file_says_where() {
    let check = |kind: &str, text: &[u8], expected: &str| {
        let Err(found) = open(kind, text) else { panic!("{expected}: is taken") };
        assert_eq!(found, format!("path: {expected}"));
    };
    check("file", b"a b\n# c\nA d\n", "T:3:1: `A` has a row already, in line 1");
    check("file", b"\xc3\xa4\xc3\xb6\n", "T:1:3: `\u{e4}\u{f6}` has no value");
    check("file", b"a b\n c d\n", "T:2:1: a row begins at the first column, and is one line long");
    check("file", b"a b\nc \0\n", "T:2:3: a NUL octet");
    check("file", b"a \xff\n", "cannot read T: stream did not contain valid UTF-8");
    let long = [b"a ".as_slice(), &[b'x'; 16 << 10]].concat();
    check("file", &long, "T:1:16385: the line is longer than 16384 octets");
    check("regex", b"/a/ b\n/(/ c\n", "T:2:2: unclosed group");
    check("regex", b"/\xc3\xa4/ $1\n", "T:1:5: the pattern has no group 1");
    check("regex", &b"/a/ b\n".repeat(1_001), "T has more than 1000 rows");
    let options = Options::new([("path", "/nowhere/at/all".into())]);
    assert!(stock("file", &options).unwrap().is_err());
    assert!(options.errors().sorted()[0].message.starts_with("cannot read /nowhere/at/all: "));
}

#[tokio::test]
async fn the_first_pattern_that_matches_counts() {
    let text = "# first\n/^(.*)-list@lists\\.example\\.org$/ list+$1\n\
                /@lists\\.example\\.org$/\tnobody\n/(?-i)^ROOT@/ root\n";
    let table = open("regex", text).unwrap();
    for (key, expected) in [
        ("A-B-list@lists.example.org", Some("list+A-B")),
        ("x@LISTS.example.org", Some("nobody")),
        ("x@lists.example.orga", None),
        ("ROOT@x", Some("root")),
        ("root@x", None),
    ] {
        assert_eq!(table.find(key).await.unwrap().as_deref(), expected, "{key}");
    }
    for key in hostile() {
        assert_eq!(table.find(&key).await.unwrap(), None, "{key:?}");
    }
    assert!(!table.knows_parts());
}
