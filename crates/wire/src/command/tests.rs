//! Tables of command lines, and what is read in them.

use bytes::BytesMut;
use merpati_types::{BodyType, Notify, NotifyOn};

use super::*;
use crate::line::{Line as Framed, LineFramer};

/// What a line is read as: the command as it would be written, or `!` and the name of the error.
fn read(line: &[u8]) -> String {
    match Command::parse(line) {
        Ok(command) => {
            let written = command.to_string();
            assert_eq!(Command::parse(written.as_bytes()), Ok(command), "{written:?} changes");
            written
        }
        Err(error) => match error {
            CommandError::Unknown => "!unknown".to_owned(),
            CommandError::HttpVerb => "!http".to_owned(),
            CommandError::Nul => "!nul".to_owned(),
            CommandError::BareLineEnd => "!bare".to_owned(),
            CommandError::Syntax { .. } => "!syntax".to_owned(),
            CommandError::Sender(_) => "!sender".to_owned(),
            CommandError::Recipient(_) => "!recipient".to_owned(),
            CommandError::Utf8Address => "!utf8".to_owned(),
            CommandError::UnknownParameter { name } => format!("!unknown {name}"),
            CommandError::BadParameter { name } => format!("!bad {name}"),
            CommandError::Initial(_) => "!initial".to_owned(),
        },
    }
}

/// Checks lines, first alone, then as one stream in pieces of every size. `=` means that a line is
/// written as it is read.
fn check(cases: &[(&[u8], &str)]) {
    let mut stream = Vec::new();
    let mut all = Vec::new();
    for (line, expected) in cases {
        let expected = match *expected {
            "=" => String::from_utf8_lossy(line).into_owned(),
            other => other.to_owned(),
        };
        assert_eq!(read(line), expected, "{}", line.escape_ascii());
        stream.extend_from_slice(line);
        stream.extend_from_slice(b"\r\n");
        all.push(expected);
    }
    for step in 1..=stream.len().min(200) {
        let mut framer = LineFramer::new(2048);
        let mut buffer = BytesMut::new();
        let mut results = Vec::new();
        for piece in stream.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(Framed::Complete(line)) = framer.next_line(&mut buffer) {
                results.push(read(&line));
            }
        }
        assert_eq!(results, all, "in pieces of {step}");
    }
}

#[test]
fn verbs() {
    check(&[
        (b"DATA", "="),
        (b"data", "DATA"),
        (b"dAtA", "DATA"),
        (b"DATA ", "DATA"),
        (b"DATA \t ", "DATA"),
        (b"DATA now", "!syntax"),
        (b"RSET", "="),
        (b"RSET x", "!syntax"),
        (b"QUIT", "="),
        (b"QUIT bye", "!syntax"),
        (b"STARTTLS", "="),
        (b"starttls", "STARTTLS"),
        (b"STARTTLS now", "!syntax"),
        (b"NOOP", "="),
        (b"NOOP whatever <>\xff", "NOOP"),
        (b"HELP", "="),
        (b"HELP MAIL", "="),
        (b"HELP \xff", "!syntax"),
        (b"VRFY bob", "="),
        (b"VRFY  Bob Builder", "VRFY Bob Builder"),
        (b"VRFY", "!syntax"),
        (b"VRFY \x07", "!syntax"),
        (b"EXPN staff", "="),
        (b"EXPN", "!syntax"),
        (b"", "!unknown"),
        (b" ", "!unknown"),
        (b" DATA", "!unknown"),
        (b"\tDATA", "!unknown"),
        (b"DATA\tnow", "!unknown"),
        (b"DAT", "!unknown"),
        (b"DATAX", "!unknown"),
        (b"STARTTLSX", "!unknown"),
        (b"TURN", "!unknown"),
        (b"ETRN example.org", "!unknown"),
        (b"SEND FROM:<a@b>", "!unknown"),
        (b"\xff\xfe", "!unknown"),
        (b"averyverylongverbthatnobodyknows x", "!unknown"),
        (b"HTTP/1.1 200 OK", "!unknown"),
        (b"Host: example.org", "!unknown"),
        (b"MAIL\xc3\xa9 FROM:<a@b>", "!unknown"),
    ]);
}

#[test]
fn hostile_lines() {
    check(&[
        (b"GET / HTTP/1.1", "!http"),
        (b"POST /x HTTP/1.0", "!http"),
        (b"CONNECT mx.test:25 HTTP/1.1", "!http"),
        (b"PRI * HTTP/2.0", "!http"),
        (b"PUT", "!http"),
        (b"HEAD /", "!http"),
        (b"DELETE /", "!http"),
        (b"OPTIONS *", "!http"),
        (b"TRACE /", "!http"),
        (b"PATCH /", "!http"),
        (b"get /", "!unknown"),
        (b"NOOP\0", "!nul"),
        (b"\0", "!nul"),
        (b"GET /\0", "!nul"),
        (b"MAIL FROM:<a\0@b.test>", "!nul"),
        (b"NOOP\0\nx", "!nul"),
        (b"NOOP\nQUIT", "!bare"),
        (b"NOOP\rQUIT", "!bare"),
        (b"NOOP\r", "!bare"),
        (b"\nNOOP", "!bare"),
        (b"MAIL FROM:<a@b.test>\nRCPT TO:<c@d.test>", "!bare"),
    ]);
}

#[test]
fn hello() {
    check(&[
        (b"EHLO client.test", "="),
        (b"ehlo client.test", "EHLO client.test"),
        (b"HELO client.test", "="),
        (b"LHLO client.test", "="),
        (b"EHLO   client.test  ", "EHLO client.test"),
        (b"EHLO [192.0.2.1]", "="),
        (b"EHLO [IPv6:2001:db8::1]", "="),
        (b"EHLO my_host", "="),
        (b"EHLO two words", "="),
        (b"EHLO b\xc3\xbccher.test", "="),
        (b"EHLO caf\xe9", "EHLO caf\u{fffd}"),
        (b"EHLO *", "="),
        (b"EHLO", "!syntax"),
        (b"HELO", "!syntax"),
        (b"LHLO ", "!syntax"),
        (b"EHLO a\x01b", "!syntax"),
        (b"EHLO a\tb", "!syntax"),
    ]);
    let long = format!("EHLO {}", "x".repeat(255));
    assert_eq!(read(long.as_bytes()), long);
    assert_eq!(read(format!("{long}x").as_bytes()), "!syntax");
    let host = |line: &str| match Command::parse(line.as_bytes()) {
        Ok(Command::Ehlo(name)) => name.host().map(ToString::to_string),
        other => panic!("{other:?}"),
    };
    assert_eq!(host("EHLO client.test"), Some("client.test".to_owned()));
    assert_eq!(host("EHLO [192.0.2.1]"), Some("[192.0.2.1]".to_owned()));
    assert_eq!(host("EHLO two words"), None);
    assert_eq!(host("EHLO 192.0.2.1"), None);
}

#[test]
fn mail_paths() {
    check(&[
        (b"MAIL FROM:<a@b.test>", "="),
        (b"mail from:<a@b.test>", "MAIL FROM:<a@b.test>"),
        (b"MAIL From:<A@B.test>", "MAIL FROM:<A@B.test>"),
        (b"MAIL FROM: <a@b.test>", "MAIL FROM:<a@b.test>"),
        (b"MAIL FROM:   <a@b.test>  ", "MAIL FROM:<a@b.test>"),
        (b"MAIL   FROM:<a@b.test>", "MAIL FROM:<a@b.test>"),
        (b"MAIL FROM:<>", "="),
        (b"MAIL FROM: <>", "MAIL FROM:<>"),
        (b"MAIL FROM:<@x.test,@y.test:a@b.test>", "MAIL FROM:<a@b.test>"),
        (b"MAIL FROM:<\"a b\"@b.test>", "="),
        (b"MAIL FROM:<\"a>b\"@b.test>", "="),
        (b"MAIL FROM:<\"a\\\"> b\"@b.test> SIZE=1", "="),
        (b"MAIL FROM:<\"a\"@b.test>", "MAIL FROM:<a@b.test>"),
        (b"MAIL FROM:<a@[192.0.2.1]>", "="),
        (b"MAIL FROM:<a@[IPv6:2001:db8::1]>", "="),
        (b"MAIL FROM:<a=b@c.test>", "="),
        (b"MAIL", "!syntax"),
        (b"MAIL FROM", "!syntax"),
        (b"MAIL FROM:", "!syntax"),
        (b"MAIL FROM <a@b.test>", "!syntax"),
        (b"MAIL FROM :<a@b.test>", "!syntax"),
        (b"MAIL TO:<a@b.test>", "!syntax"),
        (b"MAIL FROM:a@b.test", "!syntax"),
        (b"MAIL FROM:<a@b.test", "!syntax"),
        (b"MAIL FROM:a@b.test>", "!syntax"),
        (b"MAIL FROM:<a@b.test>SIZE=1", "!syntax"),
        (b"MAIL FROM:<a@b.test>>", "!syntax"),
        (b"MAIL FROM:\t<a@b.test>", "!syntax"),
        (b"MAIL FROM:Bob <a@b.test>", "!syntax"),
        (b"MAIL FROM:<\"a@b.test>", "!syntax"),
        (b"MAIL FROM:<caf\xe9@b.test> SMTPUTF8", "!syntax"),
        (b"MAIL FROM:\xc3\xa9", "!syntax"),
        (b"MAIL FROM\xc3\xa9:", "!syntax"),
        (b"MAIL FROM:<<a@b.test>>", "!syntax"),
        (b"MAIL FROM:<<a@b.test>", "!sender"),
        (b"MAIL FROM:<a>", "!sender"),
        (b"MAIL FROM:<postmaster>", "!sender"),
        (b"MAIL FROM:< a@b.test >", "!sender"),
        (b"MAIL FROM:<a@b..test>", "!sender"),
        (b"MAIL FROM:<a@>", "!sender"),
        (b"MAIL FROM:<@b.test>", "!sender"),
        (b"MAIL FROM:<a@b@c.test>", "!sender"),
        (b"MAIL FROM:<a b@c.test>", "!sender"),
        (b"MAIL FROM:<a@[1.2.3]>", "!sender"),
        (b"MAIL FROM:<a\x7f@b.test>", "!sender"),
    ]);
    let long = format!("MAIL FROM:<{}@b.test>", "a".repeat(65));
    assert_eq!(read(long.as_bytes()), "!sender");
}

#[test]
fn rcpt_paths() {
    check(&[
        (b"RCPT TO:<a@b.test>", "="),
        (b"rcpt to: <a@b.test>", "RCPT TO:<a@b.test>"),
        (b"RCPT TO:<Postmaster>", "="),
        (b"RCPT TO:<POSTMASTER>", "RCPT TO:<Postmaster>"),
        (b"RCPT TO:<@x.test:a@b.test>", "RCPT TO:<a@b.test>"),
        (b"RCPT TO:<\xd0\xbf@b.test>", "="),
        (b"RCPT TO:<a@b\xc3\xbccher.test>", "="),
        (b"RCPT", "!syntax"),
        (b"RCPT TO", "!syntax"),
        (b"RCPT TO:", "!syntax"),
        (b"RCPT FROM:<a@b.test>", "!syntax"),
        (b"RCPT TO:a@b.test", "!syntax"),
        (b"RCPT TO:<a@b.test", "!syntax"),
        (b"RCPT TO:<>", "!recipient"),
        (b"RCPT TO:<a>", "!recipient"),
        (b"RCPT TO:<a@b.test,c@d.test>", "!recipient"),
        (b"RCPT TO:<a@b.test> SIZE=1", "!unknown SIZE"),
        (b"RCPT TO:<a@b.test> FOO=bar", "!unknown FOO"),
        (b"RCPT TO:<a@b.test> NOTIFY=NEVER", "="),
        (b"RCPT TO:<a@b.test> notify=never", "RCPT TO:<a@b.test> NOTIFY=NEVER"),
        (b"RCPT TO:<a@b.test> NOTIFY=SUCCESS,FAILURE,DELAY", "="),
        (b"RCPT TO:<a@b.test> NOTIFY=DELAY,SUCCESS", "RCPT TO:<a@b.test> NOTIFY=SUCCESS,DELAY"),
        (b"RCPT TO:<a@b.test> NOTIFY=NEVER,SUCCESS", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> NOTIFY=SUCCESS,", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> NOTIFY=", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> NOTIFY", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> NOTIFY=SOMETIMES", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> NOTIFY=NEVER NOTIFY=NEVER", "!bad NOTIFY"),
        (b"RCPT TO:<a@b.test> ORCPT=rfc822;c@d.test", "="),
        (b"RCPT TO:<a@b.test> ORCPT=rfc822;c+2Bx@d.test", "="),
        (b"RCPT TO:<a@b.test> NOTIFY=FAILURE ORCPT=rfc822;c@d.test", "="),
        (b"RCPT TO:<a@b.test> ORCPT=rfc822", "!bad ORCPT"),
        (b"RCPT TO:<a@b.test> ORCPT=;x", "!bad ORCPT"),
        (b"RCPT TO:<a@b.test> ORCPT=rfc822;c+0D+0Ax", "!bad ORCPT"),
        (b"RCPT TO:<a@b.test> ORCPT=rfc822;c+zz", "!bad ORCPT"),
    ]);
}

#[test]
fn mail_parameters() {
    check(&[
        (b"MAIL FROM:<a@b.test> SIZE=1000", "="),
        (b"MAIL FROM:<a@b.test> size=0", "MAIL FROM:<a@b.test> SIZE=0"),
        (b"MAIL FROM:<a@b.test>  SIZE=1   BODY=7BIT ", "MAIL FROM:<a@b.test> SIZE=1 BODY=7BIT"),
        (
            b"MAIL FROM:<a@b.test> SIZE=99999999999999999999",
            "MAIL FROM:<a@b.test> SIZE=18446744073709551615",
        ),
        (b"MAIL FROM:<a@b.test> SIZE=999999999999999999999", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE=", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE=-1", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE=+1", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE=1k", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> SIZE=1 SIZE=1", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> BODY=8BITMIME", "="),
        (b"MAIL FROM:<a@b.test> body=binarymime", "MAIL FROM:<a@b.test> BODY=BINARYMIME"),
        (b"MAIL FROM:<a@b.test> BODY=9BIT", "!bad BODY"),
        (b"MAIL FROM:<a@b.test> BODY", "!bad BODY"),
        (b"MAIL FROM:<a@b.test> SMTPUTF8", "="),
        (b"MAIL FROM:<a@b.test> SMTPUTF8=yes", "!bad SMTPUTF8"),
        (b"MAIL FROM:<a@b.test> SMTPUTF8 smtputf8", "!bad SMTPUTF8"),
        (b"MAIL FROM:<\xd0\xbf@b.test> SMTPUTF8", "="),
        (b"MAIL FROM:<a@b\xc3\xbccher.test> SMTPUTF8", "="),
        (b"MAIL FROM:<\xd0\xbf@b.test>", "!utf8"),
        (b"MAIL FROM:<a@b\xc3\xbccher.test>", "!utf8"),
        (b"MAIL FROM:<\xd0\xbf@b.test> BODY=8BITMIME", "!utf8"),
        (b"MAIL FROM:<a@xn--bcher-kva.test>", "="),
        (b"MAIL FROM:<a@b.test> RET=FULL", "="),
        (b"MAIL FROM:<a@b.test> ret=hdrs", "MAIL FROM:<a@b.test> RET=HDRS"),
        (b"MAIL FROM:<a@b.test> RET=SOME", "!bad RET"),
        (b"MAIL FROM:<a@b.test> ENVID=QQ314159", "="),
        (b"MAIL FROM:<a@b.test> ENVID=a+20b", "="),
        (b"MAIL FROM:<a@b.test> ENVID=a+2", "!bad ENVID"),
        (b"MAIL FROM:<a@b.test> ENVID=", "!bad ENVID"),
        (b"MAIL FROM:<a@b.test> ENVID=a+0Ab", "!bad ENVID"),
        (b"MAIL FROM:<a@b.test> AUTH=<>", "="),
        (b"MAIL FROM:<a@b.test> AUTH=e+3Dmc2@c.test", "="),
        (b"MAIL FROM:<a@b.test> AUTH=", "!bad AUTH"),
        (b"MAIL FROM:<a@b.test> AUTH=nobody", "!bad AUTH"),
        (b"MAIL FROM:<a@b.test> REQUIRETLS", "="),
        (b"MAIL FROM:<a@b.test> REQUIRETLS=1", "!bad REQUIRETLS"),
        (b"MAIL FROM:<> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x AUTH=<> REQUIRETLS", "="),
        (b"MAIL FROM:<a@b.test> x-foo", "!unknown X-FOO"),
        (b"MAIL FROM:<a@b.test> NOTIFY=NEVER", "!unknown NOTIFY"),
        (b"MAIL FROM:<a@b.test> FOO=1 SIZE=x", "!unknown FOO"),
        (b"MAIL FROM:<a@b.test> SIZE=x FOO=1", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> =x", "!syntax"),
        (b"MAIL FROM:<a@b.test> -x", "!syntax"),
        (b"MAIL FROM:<a@b.test> a_b=1", "!syntax"),
        (b"MAIL FROM:<a@b.test> SIZE=1\tBODY=7BIT", "!bad SIZE"),
        (b"MAIL FROM:<a@b.test> \xd0\xbf", "!syntax"),
    ]);
    let envid = |length| format!("MAIL FROM:<a@b.test> ENVID={}", "x".repeat(length));
    assert_eq!(read(envid(100).as_bytes()), envid(100));
    assert_eq!(read(envid(101).as_bytes()), "!bad ENVID");
}

#[test]
fn parameters_of_when_and_how_urgent() {
    check(&[
        (b"MAIL FROM:<a@b.test> HOLDFOR=30", "="),
        (b"MAIL FROM:<a@b.test> HOLDFOR=0", "!bad HOLDFOR"),
        (b"MAIL FROM:<a@b.test> HOLDFOR", "!bad HOLDFOR"),
        (b"MAIL FROM:<a@b.test> HOLDUNTIL=2026-11-23T08:00:00Z", "="),
        (b"MAIL FROM:<a@b.test> HOLDUNTIL=tomorrow", "!bad HOLDUNTIL"),
        (b"MAIL FROM:<a@b.test> HOLDFOR=1 HOLDFOR=1", "!bad HOLDFOR"),
        (b"MAIL FROM:<a@b.test> HOLDFOR=1 HOLDUNTIL=2026-11-23T08:00:00Z", "!bad HOLDUNTIL"),
        (b"MAIL FROM:<a@b.test> BY=120;R", "="),
        (b"MAIL FROM:<a@b.test> BY=-60;NT", "="),
        (b"MAIL FROM:<a@b.test> by=120;r", "MAIL FROM:<a@b.test> BY=120;R"),
        (b"MAIL FROM:<a@b.test> BY=120", "!bad BY"),
        (b"MAIL FROM:<a@b.test> BY=1;R BY=1;R", "!bad BY"),
        (b"MAIL FROM:<a@b.test> MT-PRIORITY=-9", "="),
        (b"MAIL FROM:<a@b.test> MT-PRIORITY=10", "!bad MT-PRIORITY"),
        (b"MAIL FROM:<a@b.test> MT-PRIORITY", "!bad MT-PRIORITY"),
        (b"MAIL FROM:<a@b.test> HOLDFOR=30 BY=60;RT MT-PRIORITY=3", "="),
    ]);
}

#[test]
fn parameters_as_values() {
    let line = b"MAIL FROM:<a@b.test> SIZE=12 BODY=BINARYMIME SMTPUTF8 ENVID=a+2Bb";
    let Ok(Command::Mail { path, params }) = Command::parse(line) else { panic!() };
    assert_eq!(path.mailbox().unwrap().to_string(), "a@b.test");
    assert_eq!(params.size, Some(12));
    assert_eq!(params.body, Some(BodyType::BinaryMime));
    assert!(params.smtputf8 && !params.requiretls);
    assert_eq!(params.envid.unwrap().as_str(), "a+b");
    assert_eq!((params.ret, params.auth), (None, None));

    let line = b"RCPT TO:<a@b.test> NOTIFY=DELAY ORCPT=rfc822;c+40d.test";
    let Ok(Command::Rcpt { params, .. }) = Command::parse(line) else { panic!() };
    let on = NotifyOn { success: false, failure: false, delay: true };
    assert_eq!(params.notify, Notify::On(on));
    assert_eq!(params.orcpt.unwrap().address(), "c@d.test");
}

#[test]
fn bdat() {
    check(&[
        (b"BDAT 0", "="),
        (b"BDAT 1000", "="),
        (b"bdat 1000 last", "BDAT 1000 LAST"),
        (b"BDAT 0 LAST", "="),
        (b"BDAT  10   LAST ", "BDAT 10 LAST"),
        (b"BDAT 007", "BDAT 7"),
        (b"BDAT 18446744073709551615", "="),
        (b"BDAT 18446744073709551616", "BDAT 18446744073709551615"),
        (b"BDAT 99999999999999999999 LAST", "BDAT 18446744073709551615 LAST"),
        (b"BDAT 100000000000000000000", "!syntax"),
        (b"BDAT", "!syntax"),
        (b"BDAT LAST", "!syntax"),
        (b"BDAT -1", "!syntax"),
        (b"BDAT +1", "!syntax"),
        (b"BDAT 1.5", "!syntax"),
        (b"BDAT 0x10", "!syntax"),
        (b"BDAT 10 LAST LAST", "!syntax"),
        (b"BDAT 10 MORE", "!syntax"),
        (b"BDAT 10LAST", "!syntax"),
        (b"BDAT \xd9\xa1", "!syntax"),
    ]);
}

#[test]
fn auth() {
    check(&[
        (b"AUTH PLAIN", "="),
        (b"auth plain", "AUTH PLAIN"),
        (b"AUTH PLAIN AGEAYg==", "="),
        (b"AUTH PLAIN =", "="),
        (b"AUTH scram-sha-256 biws", "AUTH SCRAM-SHA-256 biws"),
        (b"AUTH X_Y", "="),
        (b"AUTH   PLAIN   AGEAYg==  ", "AUTH PLAIN AGEAYg=="),
        (b"AUTH", "!syntax"),
        (b"AUTH PLAIN AGEAYg== x", "!syntax"),
        (b"AUTH PL=AIN", "!syntax"),
        (b"AUTH PL\xc3\xa4IN", "!syntax"),
        (b"AUTH ABCDEFGHIJKLMNOPQRST", "="),
        (b"AUTH ABCDEFGHIJKLMNOPQRSTU", "!syntax"),
        (b"AUTH PLAIN AGEAYg", "!initial"),
        (b"AUTH PLAIN *", "!initial"),
        (b"AUTH PLAIN AGEA\xffYg=", "!initial"),
    ]);
}

#[test]
fn internationalized_commands_are_known() {
    let check = |line: &str, expected: bool| {
        let command = Command::parse(line.as_bytes()).unwrap();
        assert_eq!(command.is_internationalized(), expected, "{line}");
    };
    check("RCPT TO:<a@b.test>", false);
    check("RCPT TO:<Postmaster>", false);
    check("RCPT TO:<a@xn--bcher-kva.test>", false);
    check("RCPT TO:<a@b\u{fc}cher.test>", true);
    check("RCPT TO:<\u{43f}@b.test>", true);
    check("RCPT TO:<\"\u{43f} x\"@b.test>", true);
    check("MAIL FROM:<>", false);
    check("MAIL FROM:<\u{43f}@b.test> SMTPUTF8", true);
    check("VRFY bob", false);
    check("VRFY \u{43f}", true);
    check("EXPN \u{43f}", true);
    check("EHLO b\u{fc}cher.test", false);
}

#[test]
fn commands_are_written_with_their_line_end() {
    let mut out = BytesMut::new();
    for line in ["EHLO client.test", "MAIL FROM:<> SIZE=3", "RCPT TO:<a@b.test>", "DATA"] {
        Command::parse(line.as_bytes()).unwrap().encode(&mut out);
    }
    assert_eq!(out, "EHLO client.test\r\nMAIL FROM:<> SIZE=3\r\nRCPT TO:<a@b.test>\r\nDATA\r\n");
}

#[test]
fn xclient() {
    check(&[
        (b"XCLIENT NAME=a.test ADDR=192.0.2.1 PORT=12345 PROTO=ESMTP HELO=a.test LOGIN=bob", "="),
        (b"xclient addr=192.0.2.1", "XCLIENT ADDR=192.0.2.1"),
        (b"XCLIENT ADDR=IPV6:2001:db8::1", "="),
        (b"XCLIENT ADDR=ipv6:2001:DB8::1", "XCLIENT ADDR=IPV6:2001:db8::1"),
        (b"XCLIENT PORT=1 ADDR=192.0.2.1", "XCLIENT ADDR=192.0.2.1 PORT=1"),
        (b"XCLIENT NAME=[UNAVAILABLE]", "="),
        (b"XCLIENT NAME=[tempunavail]", "XCLIENT NAME=[TEMPUNAVAIL]"),
        (b"XCLIENT LOGIN=a+20b", "="),
        (b"XCLIENT LOGIN=a+2Bb", "="),
        (b"XCLIENT LOGIN=a+2bb", "!syntax"),
        (b"XCLIENT DESTADDR=192.0.2.2 DESTPORT=25", "="),
        (b"XCLIENT PROTO=smtp", "XCLIENT PROTO=SMTP"),
        (b"XCLIENT", "!syntax"),
        (b"XCLIENT NAME", "!syntax"),
        (b"XCLIENT NAME=", "!syntax"),
        (b"XCLIENT FOO=1", "!syntax"),
        (b"XCLIENT IDENT=1", "!syntax"),
        (b"XCLIENT ADDR=2001:db8::1", "!syntax"),
        (b"XCLIENT ADDR=example.org", "!syntax"),
        (b"XCLIENT PORT=65536", "!syntax"),
        (b"XCLIENT PORT=+1", "!syntax"),
        (b"XCLIENT PROTO=LMTP", "!syntax"),
        (b"XCLIENT NAME=a NAME=b", "!syntax"),
        (b"XCLIENT NAME=a+0D+0Ab", "!syntax"),
        (b"XCLIENT NAME=a+FFb", "!syntax"),
        (b"XCLIENT NAME=a+0", "!syntax"),
        (b"XCLIENT NAME=a=b", "!syntax"),
        (b"XCLIENT NAME=\xff", "!syntax"),
        (b"XFORWARD NAME=a.test IDENT=Q1 SOURCE=LOCAL", "="),
        (b"XFORWARD ADDR=192.0.2.1 PORT=1 PROTO=ESMTP HELO=x SOURCE=REMOTE", "="),
        (b"XFORWARD LOGIN=bob", "!syntax"),
        (b"XFORWARD SOURCE=ELSEWHERE", "!syntax"),
        (b"XFORWARD", "!syntax"),
    ]);
    let long = format!("XCLIENT NAME={}", "x".repeat(255));
    assert_eq!(read(long.as_bytes()), long);
    assert_eq!(read(format!("{long}x").as_bytes()), "!syntax");
}

#[test]
fn secrets_do_not_show() {
    let command = Command::parse(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==").unwrap();
    let shown = format!("{command:?}");
    assert!(!shown.contains("secret") && !shown.contains("AGFs"), "{shown}");
}
