//! Tables in a directory, without one: `tests/peers` has a real one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use merpati_plugin::Table;
use merpati_plugin::options::{Kind, Options, Span, Value};
use merpati_tables::stock;
use tokio::net::TcpListener;

fn options(others: &[(&str, Value)]) -> Options {
    let usual: [(&str, Value); 4] = [
        ("url", "ldap://127.0.0.1:1".into()),
        ("base", "dc=example".into()),
        ("filter", "(mail={key})".into()),
        ("attribute", "maildrop".into()),
    ];
    let kept = usual.into_iter().filter(|(key, _)| others.iter().all(|(other, _)| other != key));
    Options::new(kept.chain(others.iter().cloned()))
}

fn table(url: &str, timeout: &str) -> Arc<dyn Table> {
    let options = options(&[
        ("url", url.into()),
        ("timeout", timeout.into()),
        ("tls", "none".into()),
        ("connections", 1.into()),
    ]);
    stock("ldap", &options).unwrap().unwrap_or_else(|_| panic!("{:?}", options.errors().sorted()))
}

#[tokio::test]
async fn a_directory_that_is_silent_or_away_is_unavailable_in_bounded_time() {
    let check = async |table: &dyn Table, expected: &str| {
        let begun = Instant::now();
        let error = table.find("bob@example.org").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("ldap://{}", listener.local_addr().unwrap());
    let silent = table(&url, "100ms");
    // Each is given up, and leaves its turn to the next.
    for _ in 0..3 {
        check(&*silent, "no answer of the directory within 100ms").await;
    }
    drop(listener);
    check(&*table(&url, "5s"), "refused").await;
    check(&*table("ldapi://%2fnowhere", "5s"), "No such file").await;
    // What is no key is not even asked for.
    assert_eq!(silent.find("a\0").await.unwrap(), None);
    assert_eq!(silent.find(&"x".repeat(10_240)).await.unwrap(), None);
}

#[test]
fn mistakes_in_options_are_told() {
    let check = |others: &[(&str, Value)], expected: &str| {
        let options = options(others);
        assert!(stock("ldap", &options).unwrap().is_err(), "{expected}");
        let errors: Vec<_> = options.errors().sorted().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected), "{errors:?}");
    };
    for url in ["http://x", "ldap:x", "ldap://", "ldap:///", "ldapi://"] {
        check(&[("url", url.into())], "url: expected ldap://, ldaps:// or ldapi:// and a host");
    }
    for url in ["ldap://x/dc=example", "ldap://u@x", "ldaps://x?y"] {
        check(&[("url", url.into())], "url: only a host and perhaps a port");
    }
    check(&[("url", "ldaps://x".into()), ("tls", "none".into())], "tls: an ldaps:// URL has TLS");
    check(&[("tls", "maybe".into())], "tls: `maybe` is not known here");
    check(&[("ca", "/nowhere".into())], "ca: /nowhere cannot be used");
    check(&[("ca", "/dev/null".into())], "ca: /dev/null cannot be used: there is no certificate");
    check(&[("scope", "tree".into())], "scope: `tree` is not known here");
    check(&[("filter", "(mail=*)".into())], "filter: the filter names none of {key}");
    check(&[("filter", "(mail={user})".into())], "filter: `{user}` is not known");
    check(&[("filter", "(mail={key}".into())], "filter: this is no filter");
    check(&[("bind_dn", "cn=x".into())], "bind_dn: `bind_dn` and `password` go together");
    check(&[("connections", 0.into())], "connections: 0 is not between 1 and 100");
    check(&[("bsae", "x".into())], "bsae: unknown key");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let file = merpati_plugin::options::Entry {
        key: "file".to_owned(),
        key_span: Span::default(),
        value: empty.path().to_str().unwrap().into(),
    };
    let password = Value { kind: Kind::Table(vec![file]), span: Span::default() };
    check(
        &[("bind_dn", "cn=x".into()), ("password", password)],
        "password: the password is empty: such a bind succeeds for everybody",
    );
}
