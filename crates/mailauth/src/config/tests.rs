//! Options and the mistakes in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use merpati_plugin::options::{Entry, Kind, Value};

use super::*;
use crate::fixture::{ED25519_KEY, RSA, pem};

struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.put("rsa.pem", &RSA, 0o600);
        keys.put("ed.pem", &ED25519_KEY, 0o600);
        keys.put("open.pem", &ED25519_KEY, 0o644);
        keys
    }

    fn put(&self, name: &str, der: &[u8], mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, pem("PRIVATE KEY", der)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> Value {
        self.0.path().join(name).display().to_string().as_str().into()
    }

    /// Reads options; what is wrong with them comes back with `KEYS` for the directory.
    fn read(&self, entries: &[(&str, Value)]) -> Result<DkimSigners, Vec<String>> {
        let options = Options::new(entries.iter().cloned());
        let read = DkimSigners::from_options(&options);
        let told = options.errors().sorted();
        let directory = self.0.path().display().to_string();
        let told: Vec<_> =
            told.iter().map(|error| error.to_string().replace(&directory, "KEYS")).collect();
        assert_eq!(read.is_ok(), told.is_empty(), "{told:?}");
        read.map_err(|_| told)
    }
}

fn table(entries: &[(&str, Value)]) -> Value {
    let entry = |(key, value): &(&str, Value)| Entry {
        key: (*key).to_owned(),
        key_span: value.span,
        value: value.clone(),
    };
    Kind::Table(entries.iter().map(entry).collect()).into()
}

fn one(signers: &DkimSigners) -> &DkimSigner {
    let mut all = signers.iter();
    let (Some(signer), None) = (all.next(), all.next()) else { panic!("not one signer") };
    signer
}

#[test]
fn one_domain_needs_three_options() {
    let keys = Keys::new();
    let least = [
        ("domain", "Sender.test".into()),
        ("selector", "2026a".into()),
        ("key_file", keys.path("rsa.pem")),
    ];
    let signers = keys.read(&least).unwrap();
    let signer = one(&signers);
    assert_eq!(signer.domain().as_ascii(), "sender.test");
    assert_eq!(signer.keys()[0].selector().as_str(), "2026a");
    assert_eq!(*signer.rules(), SigningRules::default());
    assert!(signers.for_domain(&Domain::parse("sub.sender.test").unwrap()).is_none());
}

#[test]
fn every_option_counts() {
    let keys = Keys::new();
    let key = |selector: &str, file| {
        table(&[("selector", selector.into()), ("key_file", keys.path(file))])
    };
    let signers = keys.read(&[
        ("domain", "sender.test".into()),
        ("subdomains", true.into()),
        ("keys", [key("a", "rsa.pem"), key("b", "ed.pem")].into()),
        ("headers", ["From", "To"].into()),
        ("oversign", "Subject".into()),
        ("expire", "14d".into()),
        ("canonicalization", "relaxed/simple".into()),
    ]);
    let signers = signers.unwrap();
    let signer = signers.for_domain(&Domain::parse("sub.sender.test").unwrap()).unwrap();
    let selectors: Vec<_> = signer.keys().iter().map(|key| key.selector().as_str()).collect();
    assert_eq!(selectors, ["a", "b"]);
    let expected = SigningRules {
        headers: FieldNames::new(["From", "To"]).unwrap(),
        oversign: FieldNames::new(["Subject"]).unwrap(),
        header_canonicalization: Canonicalization::Relaxed,
        body_canonicalization: Canonicalization::Simple,
        expire: Some(Duration::from_secs(14 * 86_400)),
    };
    assert_eq!(*signer.rules(), expected);
}

#[test]
fn several_domains_are_tables() {
    let keys = Keys::new();
    let domain = |domain: &str, file| {
        let domain = ("domain", domain.into());
        table(&[domain, ("selector", "s".into()), ("key_file", keys.path(file))])
    };
    let tables = [domain("a.test", "rsa.pem"), domain("b.test", "ed.pem")];
    let signers = keys.read(&[("domains", tables.into()), ("expire", "7d".into())]).unwrap();
    for name in ["a.test", "b.test"] {
        let signer = signers.for_domain(&Domain::parse(name).unwrap()).unwrap();
        assert_eq!(signer.rules().expire, Some(Duration::from_secs(7 * 86_400)));
    }
    let twice = [domain("a.test", "rsa.pem"), domain("A.test", "ed.pem")];
    let told = keys.read(&[("domains", twice.into())]).unwrap_err();
    assert_eq!(told, ["domains[1]: `a.test` has a table already"]);
}

#[test]
fn mistakes_are_told_where_they_are() {
    let keys = Keys::new();
    let good = || {
        [
            ("domain", Value::from("sender.test")),
            ("selector", "s".into()),
            ("key_file", keys.path("ed.pem")),
        ]
    };
    let check = |entries: &[(&str, Value)], expected: &[&str]| {
        assert_eq!(keys.read(entries).map(|_| ()).unwrap_err(), expected);
    };
    let with = |entries: &[(&'static str, Value)]| [&good()[..], entries].concat();
    check(
        &[],
        &[
            "domain: `domain` is missing",
            "selector: `selector` is missing",
            "key_file: `key_file` is missing",
        ],
    );
    let open = "key_file: KEYS/open.pem can be read or written by others than its owner \
        (mode 644); use mode 600 or 400";
    let [domain, selector, _] = good();
    check(&[domain.clone(), selector.clone(), ("key_file", keys.path("open.pem"))], &[open]);
    let none = "key_file: cannot read KEYS/none.pem: No such file or directory (os error 2)";
    check(&[domain.clone(), selector, ("key_file", keys.path("none.pem"))], &[none]);
    check(
        &[domain, ("selector", "a b".into()), ("key_file", keys.path("ed.pem"))],
        &["selector: `a b`: not a selector such as 2026a or s1.mail"],
    );
    check(
        &with(&[("headers", ["To", "Return-Path"].into())]),
        &["headers: `Return-Path` does not stay as it is, and cannot be signed"],
    );
    check(&with(&[("oversign", "a b".into())]), &["oversign: `a b` is no name of a header field"]);
    check(&with(&[("expire", "1m".into())]), &["expire: 1m is not between 1h and 365d"]);
    check(
        &with(&[("canonicalization", "relaxed".into())]),
        &["canonicalization: `relaxed` is not known here (known: `relaxed/relaxed`, \
            `relaxed/simple`, `simple/relaxed`, `simple/simple`)"],
    );
    check(
        &with(&[("expires", "7d".into())]),
        &["expires: unknown key `expires` (did you mean `expire`?)"],
    );
}

#[test]
fn options_for_one_do_not_go_with_tables_for_several() {
    let keys = Keys::new();
    let check = |entries: &[(&str, Value)], expected: &[&str]| {
        assert_eq!(keys.read(entries).map(|_| ()).unwrap_err(), expected);
    };
    let domain = || ("domain", Value::from("a.test"));
    let key = |selector: &str| [("selector", selector.into()), ("key_file", keys.path("ed.pem"))];
    let tables = |selectors: &[&str]| {
        let tables = selectors.iter().map(|selector| table(&key(selector)));
        ("keys", Value::from(Kind::Array(tables.collect())))
    };
    let [selector, file] = key("s");
    check(
        &[domain(), selector.clone(), file.clone(), tables(&["a"])],
        &[
            "selector: belongs into the tables of `keys`",
            "key_file: belongs into the tables of `keys`",
        ],
    );
    check(&[domain(), tables(&["a", "b", "A"])], &["keys: selector `a` has two keys"]);
    check(
        &[domain(), ("domains", [table(&[domain(), selector, file])].into())],
        &["domain: belongs into the tables of `domains`"],
    );
    check(
        &[("domains", [table(&[("domains", 1.into())])].into())],
        &[
            "domains[0].domain: `domain` is missing",
            "domains[0].selector: `selector` is missing",
            "domains[0].key_file: `key_file` is missing",
            "domains[0].domains: unknown key `domains` (did you mean `domain`?)",
        ],
    );
}

#[test]
fn relative_paths_begin_where_the_file_is() {
    let keys = Keys::new();
    let entry = |key: &str, value: &str| Entry {
        key: key.to_owned(),
        key_span: Value::from(0).span,
        value: value.into(),
    };
    let entries =
        vec![entry("domain", "a.test"), entry("selector", "s"), entry("key_file", "ed.pem")];
    let directory: &Path = keys.0.path();
    let options = Options::root(entries, merpati_plugin::options::Errors::default(), directory);
    assert!(DkimSigners::from_options(&options).is_ok());
}
