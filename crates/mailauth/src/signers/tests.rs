//! Which domain signs.

use bytes::Bytes;

use super::*;
use crate::fixture::ed25519;
use crate::{DkimSigner, SigningRules};

fn signers(domains: &[(&str, Scope)]) -> DkimSigners {
    let mut signers = DkimSigners::default();
    for &(domain, scope) in domains {
        let domain = Domain::parse(domain).unwrap();
        let signer = DkimSigner::new(domain, ed25519(), SigningRules::default());
        assert!(signers.insert(signer, scope).is_none());
    }
    signers
}

#[test]
fn the_closest_domain_signs() {
    let signers = signers(&[
        ("a.test", Scope::Subdomains),
        ("sub.a.test", Scope::Exact),
        ("deep.sub.a.test", Scope::Subdomains),
        ("b.test", Scope::Exact),
        ("b\u{fc}cher.test", Scope::Subdomains),
    ]);
    for (domain, expected) in [
        ("a.test", Some("a.test")),
        ("A.Test", Some("a.test")),
        ("x.a.test", Some("a.test")),
        ("1.2.3.a.test", Some("a.test")),
        ("sub.a.test", Some("sub.a.test")),
        ("x.sub.a.test", Some("a.test")),
        ("x.deep.sub.a.test", Some("deep.sub.a.test")),
        ("b.test", Some("b.test")),
        ("x.b.test", None),
        ("xa.test", None),
        ("test", None),
        ("c.test", None),
        ("xn--bcher-kva.test", Some("xn--bcher-kva.test")),
        ("x.b\u{fc}cher.test", Some("xn--bcher-kva.test")),
    ] {
        let found = signers.for_domain(&Domain::parse(domain).unwrap());
        assert_eq!(found.map(|signer| signer.domain().as_ascii()), expected, "{domain}");
    }
}

#[test]
fn the_author_chooses() {
    let signers = signers(&[
        ("a.test", Scope::Exact),
        ("b.test", Scope::Exact),
        ("b\u{fc}cher.test", Scope::Exact),
    ]);
    let check = |header: &[u8], expected: Option<&str>| {
        let header = HeaderSection::read(&Bytes::copy_from_slice(header)).unwrap();
        let found = signers.for_message(&header).map(|signer| signer.domain().as_ascii());
        assert_eq!(found, expected, "{}", header.raw().escape_ascii());
    };
    check(b"From: x@a.test\r\n", Some("a.test"));
    check(b"From: X <x@A.TEST>\r\nSender: y@b.test\r\n", Some("a.test"));
    check(b"FROM :\r\n =?utf-8?q?x=40b.test?=\r\n <x@a.test>\r\n", Some("a.test"));
    check(b"From: \"x@b.test\" <x@a.test>\r\n", Some("a.test"));
    check(b"From: x@b.test (really <y@a.test>)\r\n", Some("b.test"));
    check(b"From: \"x@b.test\"@a.test\r\n", Some("a.test"));
    check(b"From: x@c.test, y@b.test, z@a.test\r\n", Some("b.test"));
    check(b"From: Group: x@c.test, y@b.test;\r\n", Some("b.test"));
    check("From: J\u{fc}rgen <j@b\u{fc}cher.test>\r\n".as_bytes(), Some("xn--bcher-kva.test"));
    check(b"From: J\xfcrgen <j@a.test>\r\n", Some("a.test"));
    check(b"From: x@a.test", Some("a.test"));
    check(b"From: x@c.test\r\n", None);
    check(b"From: x@[192.0.2.1]\r\n", None);
    check(b"From: undisclosed:;\r\n", None);
    check(b"From: x\r\n", None);
    check(b"From:\r\n", None);
    check(b"Sender: x@a.test\r\n", None);
    check(b"From: x@a.test\r\nFrom: y@a.test\r\n", None);
    check(b"From: x@a.test\r\nSubject: s\r\nfrom: y@c.test\r\n", None);
}
