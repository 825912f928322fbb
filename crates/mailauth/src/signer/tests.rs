//! Signatures, checked by a verifier that takes the RFCs literally.

use std::collections::HashMap;

use super::*;
use crate::SignError::{BareLineEnd, NoFrom};
use crate::fixture::{ed25519, rsa, sign, signer, verify};

const PLAIN: &str = "From: Alice <alice@sender.test>\r\nTo: bob@receiver.test\r\n\
    Subject: Hello\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\r\nHello,\r\n\r\nBob.\r\n";

fn names(names: &[&str]) -> FieldNames {
    FieldNames::new(names.iter().copied()).unwrap()
}

fn rules_of(header: Canonicalization, body: Canonicalization) -> SigningRules {
    SigningRules {
        header_canonicalization: header,
        body_canonicalization: body,
        ..SigningRules::default()
    }
}

/// All four pairs.
fn every_rules() -> impl Iterator<Item = SigningRules> {
    use Canonicalization::{Relaxed, Simple};
    let pairs = [(Relaxed, Relaxed), (Relaxed, Simple), (Simple, Relaxed), (Simple, Simple)];
    pairs.into_iter().map(|(header, body)| rules_of(header, body))
}

/// Signs, sees that every signature holds, and gives back their tags.
fn signed(signer: &DkimSigner, message: &[u8]) -> Vec<HashMap<String, String>> {
    let shown = message[..message.len().min(300)].escape_ascii();
    let signed = sign(signer, message).unwrap();
    let field = signed.strip_suffix(message).unwrap();
    let lines = field.strip_suffix(b"\r\n").unwrap().split(|&octet| octet == b'\n');
    for line in lines {
        assert!(line.len() <= 200 && line.is_ascii(), "{}", line.escape_ascii());
    }
    let verified = verify(signer, &signed);
    assert_eq!(verified.len(), signer.keys().len(), "{shown}");
    let tags = |(tags, result)| {
        assert_eq!(result, Ok(()), "{shown}");
        tags
    };
    verified.into_iter().map(tags).collect()
}

#[test]
fn messages_of_all_sorts_are_signed() {
    let long =
        format!("From: a@b\r\nTo: {}c@d\r\n\r\nx\r\n", "x@receiver.test,\r\n ".repeat(30_000));
    let wide = format!("From: a@b\r\nSubject: {}\r\n\r\nx\r\n", "y".repeat(100_000));
    let many = format!("From: a@b\r\n{}\r\nx\r\n", "To: c@d\r\n".repeat(900));
    let names = format!("From: a@b\r\n{}\r\n", "Xyz-0123456789: 1\r\n".repeat(20));
    let messages: &[&[u8]] = &[
        PLAIN.as_bytes(),
        b"From: a@b\r\n\r\n",
        b"From: a@b\r\n",
        b"From: a@b\r\n\r\nno line end",
        b"From: a@b\r\n\r\ntext\r\n \t\r\n\t\r\n",
        b"From: a@b\r\n\r\n \r\n",
        b"From: a@b\r\n\r\n\r\n\r\ntext  with   space \t\r\n\r\n\r\n",
        b"From: a@b\r\nSubject: \xff\xfe caf\xe9\r\n\r\n8 bit: \xe9\x00\r\n",
        "From: J\u{fc}rgen <j\u{fc}rgen@b\u{fc}cher.test>\r\nSubject: \u{bb}\u{1f54a}\u{ab}\r\n\r\n\u{e9}\r\n".as_bytes(),
        b"From: a@b\r\nFrom: c@d\r\nFROM: e@f\r\n\r\nthree authors\r\n",
        b"fRoM : a@b\r\nSubject\t: spaced name\r\nTo:\r\nCc: \r\nReply-To: \t \r\n\r\nx\r\n",
        b"From:a@b\r\nSubject:\r\n folded\r\n\t  twice  \r\n\r\nx\r\n",
        b"From: a@b\r\nSubject: form\x0cfeed \x0b and tab\r\n\r\nx\r\n",
        b"From: a@b\r\nDKIM-Signature-Not: b=c; bh=d\r\n\r\nx\r\n",
        long.as_bytes(),
        wide.as_bytes(),
        many.as_bytes(),
        names.as_bytes(),
    ];
    for rules in every_rules() {
        let domain = Domain::parse("sender.test").unwrap();
        let signer = DkimSigner::new(domain, rsa(), rules).with_key(ed25519());
        for message in messages {
            let tags = signed(&signer, message);
            assert_eq!((&*tags[0]["a"], &*tags[0]["s"]), ("rsa-sha256", "rsa"));
            assert_eq!((&*tags[1]["a"], &*tags[1]["s"]), ("ed25519-sha256", "ed"));
            assert_eq!(tags[0]["bh"], tags[1]["bh"]);
        }
    }
}

#[test]
fn every_short_value_is_made_canonical_by_the_rules() {
    let mut values = vec![String::new()];
    let mut from = 0;
    for _ in 0..4 {
        let to = values.len();
        for place in from..to {
            let value = values[place].clone();
            let parts = [" ", "\t", "\r\n ", "a", "\x0c"];
            values.extend(parts.map(|part| format!("{value}{part}")));
        }
        from = to;
    }
    for header in [Canonicalization::Relaxed, Canonicalization::Simple] {
        let signer = signer(rules_of(header, Canonicalization::Relaxed));
        for value in &values {
            signed(&signer, format!("From: a@b\r\nSubject:{value}\r\n\r\n").as_bytes());
        }
    }
}

/// The fault that [`Covered::of`] works around, so that it is seen when it is gone.
#[test]
fn the_library_alone_takes_form_feeds_for_white_space() {
    let mut alone = Vec::new();
    let field = (&b"Subject"[..], &b"form\x0cfeed\r\n"[..]);
    let relaxed = Canonicalization::Relaxed.theirs();
    relaxed.canonicalize_headers([field].into_iter(), &mut alone);
    assert_ne!(alone, b"subject:form\x0cfeed\r\n");
    let tags =
        signed(&signer(SigningRules::default()), b"From: a@b\r\nSubject: form\x0cfeed\r\n\r\n");
    assert_eq!(tags[0]["c"], "simple/relaxed");
}

#[test]
fn signers_and_hashers_may_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<DkimSigner>();
    check::<crate::DkimSigners>();
    check::<BodyHasher>();
}

#[test]
fn changes_are_noticed() {
    let whole = |rules| sign(&signer(rules), PLAIN.as_bytes()).unwrap();
    let check = |rules: &SigningRules, from: &str, to: &str, expected: Result<(), &str>| {
        let message = String::from_utf8(whole(rules.clone())).unwrap();
        assert_eq!(message.matches(from).count(), 1, "{from:?}");
        let verified = verify(&signer(rules.clone()), message.replace(from, to).as_bytes());
        assert_eq!(verified[0].1, expected, "{from:?} -> {to:?} {rules:?}");
    };
    let second = "From: mallory@sender.test\r\nTo: bob@";
    for rules in every_rules() {
        let relaxed = |form| match form {
            Canonicalization::Relaxed => Ok(()),
            Canonicalization::Simple => Err("signature"),
        };
        let header = relaxed(rules.header_canonicalization);
        let body = relaxed(rules.body_canonicalization).map_err(|_| "body");
        check(&rules, "Hello\r\n", "Hello!\r\n", Err("signature"));
        check(&rules, "Alice <", "Eve <", Err("signature"));
        check(&rules, "To: bob@", second, Err("signature"));
        check(&rules, "To: bob@", "X-Other: 1\r\nTo: bob@", Ok(()));
        check(&rules, "Bob.", "Eve.", Err("body"));
        check(&rules, "Bob.", "Bob. ", body);
        check(&rules, "Bob.\r\n", "Bob.\r\n\r\n", Ok(()));
        check(&rules, "Subject: Hello", "SUBJECT:  Hello", header);
        check(&rules, "; t=1795420800;", "; t=1795420801;", Err("signature"));
    }
}

#[test]
fn fields_that_must_not_be_added_are_named_once_more() {
    let rules = |headers, oversign| SigningRules {
        headers: names(headers),
        oversign: names(oversign),
        ..SigningRules::default()
    };
    let message = b"From: a@b\r\nTo: c@d\r\nFrom: e@f\r\nX-A: 1\r\n\r\n";
    let check = |rules: SigningRules, expected: &str, added: &[(&str, bool)]| {
        let signer = signer(rules);
        let tags = signed(&signer, message);
        assert_eq!(tags[0]["h"], expected);
        for &(field, holds) in added {
            let more = [field.as_bytes(), b"\r\n", &sign(&signer, message).unwrap()].concat();
            assert_eq!(verify(&signer, &more)[0].1.is_ok(), holds, "{expected} with {field}");
        }
    };
    let fields = [("From: g@h", false), ("To: g@h", true), ("Subject: g", true)];
    check(SigningRules::default(), "From:From:From:To", &fields);
    let fields = [("From: g@h", true), ("To: g@h", true), ("Subject: g", true)];
    check(rules(&["From", "To", "Subject"], &[]), "From:From:To", &fields);
    let fields = [("From: g@h", true), ("To: g@h", false), ("Subject: g", false)];
    let both = ["to", "SUBJECT", "from"];
    check(rules(&both, &["Subject", "To"]), "From:From:to:to:SUBJECT", &fields);
    check(rules(&[], &["Subject", "X-A"]), "From:From:Subject:X-A:X-A", &[("X-A: 2", false)]);
}

#[test]
fn signatures_say_when_and_for_how_long_and_never_how_much() {
    let day = Duration::from_secs(86_400);
    let check = |expire, expected: Option<&str>| {
        let tags =
            signed(&signer(SigningRules { expire, ..SigningRules::default() }), PLAIN.as_bytes());
        assert_eq!(tags[0]["t"], "1795420800");
        assert_eq!(tags[0].get("x").map(String::as_str), expected);
        assert_eq!((&*tags[0]["v"], &*tags[0]["c"]), ("1", "relaxed/relaxed"));
        assert_eq!((tags[0].get("l"), tags[0].get("i")), (None, None));
    };
    check(None, None);
    check(Some(day), Some("1795507200"));
}

#[test]
fn domains_and_selectors_may_be_long_and_international() {
    let label = "a".repeat(63);
    let long = [&*label, &label, &label, "test"].join(".");
    for (domain, expected) in [("b\u{fc}cher.test", "xn--bcher-kva.test"), (&long, &long)] {
        let domain = Domain::parse(domain).unwrap();
        let signer = DkimSigner::new(domain, ed25519(), SigningRules::default());
        let signed = sign(&signer, PLAIN.as_bytes()).unwrap();
        let (tags, result) = &verify(&signer, &signed)[0];
        assert_eq!((&*tags["d"], *result), (expected, Ok(())));
        let field = &signed[..signed.len() - PLAIN.len()];
        let line = field.split(|&octet| octet == b'\n').map(<[u8]>::len).max();
        assert!(line.unwrap() < 998);
    }
}

#[test]
fn what_cannot_be_signed_is_told() {
    let check = |message: &str, expected: SignError| {
        let result = sign(&signer(SigningRules::default()), message.as_bytes());
        assert_eq!(result, Err(expected), "{message:?}");
    };
    check("", NoFrom);
    check("\r\n", NoFrom);
    check("To: a@b\r\n\r\nx\r\n", NoFrom);
    check("From: a@b", BareLineEnd);
    check("From: a@b\n\nx\n", BareLineEnd);
    check("From: a@b\r\nX: 1\nY: 2\r\n\r\nx\r\n", BareLineEnd);
    check("From: a\r@b\r\n\r\nx\r\n", BareLineEnd);
    check("From: a@b\r\n\r\nx\ny\r\n", BareLineEnd);
    check("From: a@b\r\n\r\nx\r", BareLineEnd);
}

#[test]
fn names_of_fields_are_checked() {
    assert_eq!(names(&["To", "Cc", "tO"]), names(&["To", "Cc"]));
    for (name, fleeting) in [
        ("DKIM-Signature", true),
        ("return-path", true),
        ("Bcc", true),
        ("", false),
        ("To:", false),
        ("T o", false),
        ("a;b", false),
        ("\u{e9}", false),
    ] {
        let owned = name.to_owned();
        let expected = match fleeting {
            true => FieldError::Fleeting { name: owned },
            false => FieldError::Name { name: owned },
        };
        assert_eq!(FieldNames::new([name]), Err(expected));
    }
}
