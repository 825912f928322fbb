//! Tables of EHLO replies.

use super::*;

fn read(lines: &[&str]) -> Capabilities {
    let code = ReplyCode::new(250).unwrap();
    let lines = std::iter::once("mx.test greets you").chain(lines.iter().copied());
    Capabilities::from_reply(&Reply::with_lines(code, None, lines))
}

/// Checks that `lines` are read as `expected`, and that this is stable.
fn check(lines: &[&str], expected: &[&str]) {
    let capabilities = read(lines);
    assert_eq!(capabilities.lines(), expected, "{lines:?}");
    assert_eq!(read(expected), capabilities);
    let reply = capabilities.to_reply("mx.test");
    assert_eq!(Capabilities::from_reply(&reply), capabilities);
}

#[test]
fn keywords() {
    check(&[], &[]);
    check(&[""], &[]);
    for keyword in [
        "PIPELINING",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "STARTTLS",
        "REQUIRETLS",
        "SIZE",
        "SIZE 1000",
        "LIMITS",
        "LIMITS RCPTMAX=100",
        "AUTH PLAIN LOGIN",
        "XCLIENT NAME ADDR",
        "XFORWARD NAME",
        "HELP",
        "ETRN",
        "VRFY",
        "FUTURERELEASE 604800 2026-11-30T08:00:00Z",
        "DELIVERBY",
        "DELIVERBY 240",
        "MT-PRIORITY",
        "MT-PRIORITY STANAG4406",
    ] {
        check(&[keyword], &[keyword]);
    }
    check(&["pipelining", "8bitMime", "starttls"], &["PIPELINING", "8BITMIME", "STARTTLS"]);
    check(&["deliverby 240", "xclient name"], &["DELIVERBY 240", "XCLIENT NAME"]);
    check(&["DELIVERBY 0", "DELIVERBY"], &["DELIVERBY"]);
    for malformed in [
        "FUTURERELEASE",
        "FUTURERELEASE 604800",
        "FUTURERELEASE 1 2",
        "FUTURERELEASE 0 2026-11-30T08:00:00Z",
        "FUTURERELEASE 1000000000 2026-11-30T08:00:00Z",
        "DELIVERBY -1",
    ] {
        check(&[malformed], &[]);
    }
    check(&["X-FOO  a   b"], &["X-FOO a b"]);
    check(&["DSN", "DSN", "PIPELINING extra"], &["PIPELINING", "DSN"]);
}

#[test]
fn the_greeting_offers_nothing() {
    let code = ReplyCode::new(250).unwrap();
    let reply = Reply::new(code, None, "STARTTLS");
    assert_eq!(Capabilities::from_reply(&reply), Capabilities::default());
}

#[test]
fn sizes() {
    for (line, expected) in [
        ("SIZE", SizeLimit::Unstated),
        ("SIZE 0", SizeLimit::Unstated),
        ("SIZE 000", SizeLimit::Unstated),
        ("SIZE x", SizeLimit::Unstated),
        ("SIZE -1", SizeLimit::Unstated),
        ("SIZE 1", SizeLimit::Octets(1)),
        ("SIZE 26214400", SizeLimit::Octets(26_214_400)),
        ("SIZE 99999999999999999999", SizeLimit::Octets(u64::MAX)),
    ] {
        assert_eq!(read(&[line]).size, Some(expected), "{line}");
    }
    assert_eq!(read(&[]).size, None);
}

#[test]
fn mechanisms() {
    check(&["AUTH plain LOGIN"], &["AUTH PLAIN LOGIN"]);
    check(&["AUTH=PLAIN LOGIN"], &["AUTH PLAIN LOGIN"]);
    check(&["AUTH LOGIN PLAIN", "AUTH=LOGIN PLAIN XOAUTH2"], &["AUTH LOGIN PLAIN XOAUTH2"]);
    check(&["AUTH"], &[]);
    check(&["AUTH="], &[]);
    assert!(read(&["AUTH plain"]).offers_auth("PLAIN"));
    assert!(!read(&["AUTH PLAIN"]).offers_auth("LOGIN"));
}

#[test]
fn limits() {
    for (line, mail, rcpt, domain) in [
        ("LIMITS", None, None, None),
        ("LIMITS MAILMAX=1 RCPTMAX=20 RCPTDOMAINMAX=3", Some(1), Some(20), Some(3)),
        ("limits rcptmax=20", None, Some(20), None),
        ("LIMITS RCPTMAX=999999", None, Some(999_999), None),
        ("LIMITS RCPTMAX=1000000", None, None, None),
        ("LIMITS RCPTMAX=0 MAILMAX=01 RCPTDOMAINMAX=", None, None, None),
        ("LIMITS RCPTMAX MAILMAX=5", Some(5), None, None),
        ("LIMITS FOO=1 RCPTMAX=-1 MAILMAX=1x", None, None, None),
    ] {
        let limits = read(&[line]).limits.unwrap();
        assert_eq!(limits.mail_max, mail, "{line}");
        assert_eq!(limits.rcpt_max, rcpt, "{line}");
        assert_eq!(limits.rcpt_domain_max, domain, "{line}");
    }
    check(&["LIMITS FOO=1 RCPTMAX=5 mailmax=2"], &["LIMITS MAILMAX=2 RCPTMAX=5"]);
}
