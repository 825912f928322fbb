//! Conversations as data: what the peer sends, what it hears.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use merpati_types::{RejectCode, Rejection, Status, Timestamp};

use super::{
    Action, Auth, Channel, Protocol, Question, ServerConfig, Session, Start, StartTls, Verdict,
    XclientRight,
};

/// A driver with simple rules: `nobody@` is refused, `x` is a wrong password.
struct Driver {
    session: Session,
    now: Instant,
    said: String,
    body: Vec<u8>,
    kept: Vec<Vec<u8>>,
    closed: bool,
}

impl Driver {
    fn new(config: ServerConfig, channel: Channel) -> Self {
        let now = Instant::now();
        let time = Timestamp::from_millis(0);
        let start = Start { channel, xclient: XclientRight::Refused, time };
        let session = Session::new(now, Arc::new(config), start);
        let mut driver =
            Self { session, now, said: String::new(), body: vec![], kept: vec![], closed: false };
        driver.turn();
        driver
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(self.now, bytes);
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            match self.session.poll_action() {
                Action::Write(bytes) => self.said += std::str::from_utf8(&bytes).unwrap(),
                Action::Ask(question) => {
                    let verdict = self.verdict(question);
                    self.session.answer(self.now, verdict);
                }
                Action::Body(bytes) => self.body.extend_from_slice(&bytes),
                Action::Aborted => self.body.clear(),
                Action::StartTls => {
                    self.said += "[tls]\r\n";
                    self.session.handle_tls(self.now);
                }
                Action::Close => {
                    self.closed = true;
                    return;
                }
                Action::Wait { .. } | Action::Blocked => return,
            }
        }
    }

    fn verdict(&mut self, question: Question) -> Verdict {
        match question {
            Question::Rcpt { path, .. } if path.to_string().starts_with("<nobody@") => {
                Verdict::Reject(Rejection::permanent(Status::NO_MAILBOX, "no such user"))
            }
            Question::Message { .. } => {
                self.kept.push(std::mem::take(&mut self.body));
                Verdict::Accept
            }
            Question::AuthStart { initial: None, .. } => Verdict::Challenge(b"go".to_vec()),
            Question::AuthStart { initial: Some(data), .. } | Question::AuthData(data) => {
                if data == b"x" {
                    let status = Status::AUTH_FAILED;
                    Verdict::Reject(Rejection::with(RejectCode::C535, status, "wrong"))
                } else {
                    Verdict::Accept
                }
            }
            _ => Verdict::Accept,
        }
    }
}

fn config() -> ServerConfig {
    ServerConfig {
        hostname: "mx.test".to_owned(),
        starttls: StartTls::Offered,
        mechanisms: vec!["PLAIN".to_owned()],
        ..ServerConfig::default()
    }
}

/// Sends `input` at several chunk sizes; compares all replies but the greeting and the reply to
/// the first EHLO, and the messages kept.
fn check(input: &[u8], expected: &str, kept: &[&[u8]]) {
    check_with(&config(), Channel::Plain, input, expected, kept);
}

fn check_with(
    config: &ServerConfig,
    channel: Channel,
    input: &[u8],
    expected: &str,
    kept: &[&[u8]],
) {
    for chunk in [1, 2, 3, 7, usize::MAX] {
        let mut driver = Driver::new(config.clone(), channel);
        driver.send(b"EHLO client.test\r\n");
        let greeted = driver.said.len();
        for piece in input.chunks(chunk.min(input.len().max(1))) {
            driver.send(piece);
        }
        let said = driver.said[greeted..].replace("\r\n", "\n");
        let input = String::from_utf8_lossy(input);
        assert_eq!(said, expected, "in chunks of {chunk}: {input:?}");
        assert_eq!(driver.kept, kept, "in chunks of {chunk}: {input:?}");
    }
}

const MAIL: &str = "MAIL FROM:<a@client.test>\r\n";
const RCPT: &str = "RCPT TO:<bob@mx.test>\r\n";
const OK: &str = "250 2.1.0 sender ok\n250 2.1.5 recipient ok\n";
const GO: &str = "354 end with <CRLF>.<CRLF>\n";
const KEPT: &str = "250 2.0.0 message accepted\n";

#[test]
fn a_message_goes_through() {
    let input = format!("{MAIL}{RCPT}DATA\r\nA: b\r\n\r\n..c\r\n.\r\nQUIT\r\n");
    let expected = format!("{OK}{GO}{KEPT}221 2.0.0 bye\n");
    check(input.as_bytes(), &expected, &[b"A: b\r\n\r\n.c\r\n"]);
}

#[test]
fn the_hello_reply_offers_what_is_honoured() {
    let mut driver = Driver::new(config(), Channel::Plain);
    driver.send(b"EHLO client.test\r\n");
    for keyword in ["PIPELINING", "SIZE 52428800", "8BITMIME", "CHUNKING", "STARTTLS", "DSN"] {
        assert!(driver.said.contains(keyword), "{keyword} in {}", driver.said);
    }
    assert!(!driver.said.contains("AUTH"), "AUTH is offered in the clear");
    driver.said.clear();
    driver.send(b"STARTTLS\r\n");
    driver.send(b"EHLO client.test\r\n");
    assert!(driver.said.contains("AUTH PLAIN") && !driver.said.contains("STARTTLS"));
}

/// RFC 5321 §4.1.1.4: nothing but CRLF.CRLF ends a message; what looks like an end to others
/// stays inside, and what is refused is read to its true end first.
#[test]
fn nothing_else_ends_a_message() {
    let refused = format!(
        "{OK}{GO}550 5.6.0 message has a CR or LF that is not part of CRLF; only BODY=BINARYMIME \
         with BDAT can carry it\n250 2.0.0 ok\n"
    );
    for ending in ["\n.\n", "\r.\r", "\r.\n", "\n.\r", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r"] {
        let smuggled = format!("{MAIL}{RCPT}DATA\r\na{ending}MAIL FROM:<x@y>\r\n.\r\nNOOP\r\n");
        check(smuggled.as_bytes(), &refused, &[]);
    }
    let taken = format!("{OK}{GO}{KEPT}250 2.0.0 ok\n");
    for ending in ["\r\n\0.\r\n", "\r\n.\0\r\n"] {
        let message = format!("a{ending}b\r\n");
        let input = format!("{MAIL}{RCPT}DATA\r\n{message}.\r\nNOOP\r\n");
        let kept = message.replace("\r\n.\0", "\r\n\0");
        check(input.as_bytes(), &taken, &[kept.as_bytes()]);
    }
}

#[test]
fn bad_input_gets_the_right_reply() {
    let long = format!("NOOP {}\r\n", "x".repeat(5_000));
    let cases: &[(&str, &str)] = &[
        (&long, "500 5.5.2 line too long\n"),
        ("FOO\r\n", "500 5.5.1 command not recognised\n"),
        ("DATA\r\n", "503 5.5.1 MAIL and RCPT first\n"),
        ("RCPT TO:<bob@mx.test>\r\n", "503 5.5.1 MAIL first\n"),
        ("NOOP\0\r\n", "500 5.5.2 NUL in a command\n"),
        (
            "MAIL FROM:<ü@client.test>\r\n",
            "553 5.6.7 an internationalized address needs SMTPUTF8\n",
        ),
        ("MAIL FROM:<a@b> FOO=1\r\n", "555 5.5.4 parameter FOO is not recognised\n"),
        ("MAIL FROM:<a@b> SIZE=x\r\n", "501 5.5.4 parameter SIZE has a bad value\n"),
        ("MAIL FROM:<a@b> SIZE=99999999999\r\n", "552 5.3.4 message exceeds the size limit\n"),
        ("MAIL FROM:<a@b> REQUIRETLS\r\n", "555 5.5.4 parameter REQUIRETLS is not offered\n"),
        ("STARTTLS x\r\n", "501 5.5.4 syntax: STARTTLS\n"),
        ("MAIL FROM:<a@@b>\r\n", "501 5.1.7 malformed sender address\n"),
        ("AUTH PLAIN eA==\r\n", "530 5.7.0 issue STARTTLS first\n"),
        ("VRFY bob\r\n", "252 2.5.0 cannot verify, but will take a message\n"),
        ("EXPN list\r\n", "502 5.5.1 command not implemented\n"),
    ];
    for (input, expected) in cases {
        check(input.as_bytes(), expected, &[]);
    }
    let none = format!("{MAIL}DATA\r\n");
    check(none.as_bytes(), "250 2.1.0 sender ok\n503 5.5.1 RCPT first\n", &[]);
    let refused = format!("{MAIL}RCPT TO:<nobody@mx.test>\r\nDATA\r\n");
    let expected = "250 2.1.0 sender ok\n550 5.1.1 no such user\n554 5.5.1 no valid recipients\n";
    check(refused.as_bytes(), expected, &[]);
}

#[test]
fn bytes_behind_starttls_are_refused_and_dropped() {
    let mut driver = Driver::new(config(), Channel::Plain);
    driver.send(b"EHLO client.test\r\n");
    driver.said.clear();
    driver.send(b"STARTTLS\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(driver.said, "503 5.5.1 nothing may be sent behind STARTTLS\r\n");
}

#[test]
fn chunks_are_a_message() {
    let input = format!("{MAIL}{RCPT}BDAT 3\r\na\r\nBDAT 0\r\nBDAT 4 LAST\r\n.\r\n\nNOOP\r\n");
    let expected = format!("{OK}250 2.0.0 ok\n250 2.0.0 ok\n");
    let bare = "550 5.6.0 message has a CR or LF that is not part of CRLF; only BODY=BINARYMIME \
                with BDAT can carry it\n250 2.0.0 ok\n";
    check(input.as_bytes(), &format!("{expected}{bare}"), &[]);

    let binary = "MAIL FROM:<a@client.test> BODY=BINARYMIME\r\n";
    let input = format!("{binary}{RCPT}DATA\r\nBDAT 3\r\n\r\n\nBDAT 1 LAST\r\n\0");
    let expected = format!("{OK}503 5.5.1 BODY=BINARYMIME needs BDAT\n250 2.0.0 ok\n{KEPT}");
    check(input.as_bytes(), &expected, &[b"\r\n\n\0"]);
}

#[test]
fn a_refused_chunk_spoils_the_message_until_rset() {
    let input = b"BDAT 5 LAST\r\nNOOP\nRSET\r\n";
    check(input, "503 5.5.1 MAIL and RCPT first\n250 2.0.0 flushed\n", &[]);

    let mut small = config();
    small.limits.message = 8;
    let input = format!("{MAIL}{RCPT}BDAT 9\r\n123456789BDAT 1\r\nxNOOP\r\nRSET\r\n{MAIL}");
    let expected = format!(
        "{OK}552 5.3.4 message exceeds the size limit\n503 5.5.1 an earlier chunk was refused; \
         RSET first\n250 2.0.0 ok\n250 2.0.0 flushed\n250 2.1.0 sender ok\n"
    );
    check_with(&small, Channel::Plain, input.as_bytes(), &expected, &[]);
}

/// The rest of a message whose beginning is lost must not pass for a message.
#[test]
fn a_chunk_before_any_recipient_spoils_the_message_too() {
    let input = format!("{MAIL}BDAT 1\r\na{RCPT}BDAT 1 LAST\r\nbRSET\r\n{MAIL}");
    let expected = "250 2.1.0 sender ok\n503 5.5.1 RCPT first\n503 5.5.1 MAIL first\n503 5.5.1 an \
                    earlier chunk was refused; RSET first\n250 2.0.0 flushed\n250 2.1.0 sender ok\n";
    check(input.as_bytes(), expected, &[]);
    // A whole message in one chunk loses nothing but itself.
    let input = format!("{MAIL}BDAT 1 LAST\r\na{RCPT}BDAT 3 LAST\r\nb\r\n");
    let expected =
        format!("250 2.1.0 sender ok\n503 5.5.1 RCPT first\n250 2.1.5 recipient ok\n{KEPT}");
    check(input.as_bytes(), &expected, &[b"b\r\n"]);
}

/// One read may hold the end of a line, and more octets than may wait for an answer.
#[test]
fn what_can_be_worked_off_at_once_is_not_waiting() {
    let mut driver = Driver::new(config(), Channel::Plain);
    driver.send(b"NOOP\r\nNO");
    driver.said.clear();
    let noops = 128 * 1024 / 6;
    driver.send(format!("OP\r\n{}", "NOOP\r\n".repeat(noops)).as_bytes());
    assert_eq!(driver.said.matches("250 2.0.0 ok").count(), noops + 1);

    // While the machine is blocked they do wait.
    let now = Instant::now();
    let time = Timestamp::from_millis(0);
    let start = Start { channel: Channel::Plain, xclient: XclientRight::Refused, time };
    let mut session = Session::new(now, Arc::new(config()), start);
    assert!(matches!(session.poll_action(), Action::Ask(Question::Connect { .. })));
    session.handle_bytes(now, &[b'x'; 128 * 1024]);
    assert!(matches!(session.poll_action(), Action::Blocked));
    session.handle_bytes(now, b"x");
    assert!(matches!(session.poll_action(), Action::Write(_)));
    assert!(matches!(session.poll_action(), Action::Close));
}

#[test]
fn sizes_are_bounded() {
    let mut small = config();
    small.limits.message = 8;
    // Found out while reading: refused at the end, and the session goes on.
    let input = format!("{MAIL}{RCPT}DATA\r\n12345678\r\n.\r\nNOOP\r\n");
    let expected = format!("{OK}{GO}552 5.3.4 message exceeds the size limit\n250 2.0.0 ok\n");
    check_with(&small, Channel::Plain, input.as_bytes(), &expected, &[]);
    // Far beyond: it is not read to the end.
    let input = format!("{MAIL}{RCPT}DATA\r\n123456789012345678");
    let expected = format!("{OK}{GO}421 4.3.4 message is far too big\n");
    check_with(&small, Channel::Plain, input.as_bytes(), &expected, &[]);
    let input = format!("{MAIL}{RCPT}BDAT 17\r\n");
    let expected = format!("{OK}552 5.3.4 message exceeds the size limit\n");
    check_with(&small, Channel::Plain, input.as_bytes(), &expected, &[]);
}

#[test]
fn authentication_follows_its_rules() {
    let mut needed = config();
    needed.auth = Auth::Required;
    let run = |input: &str, expected: &str| {
        check_with(&needed, Channel::Encrypted, input.as_bytes(), expected, &[]);
    };
    run(MAIL, "530 5.7.0 authentication is required\n");
    run(
        "AUTH PLAIN eQ==\r\nAUTH PLAIN eQ==\r\n",
        "235 2.7.0 authenticated\n503 5.5.1 already authenticated\n",
    );
    run("AUTH PLAIN\r\neQ==\r\n", "334 Z28=\n235 2.7.0 authenticated\n");
    run(
        "AUTH PLAIN\r\n*\r\nNOOP\r\n",
        "334 Z28=\n501 5.7.0 authentication cancelled\n250 2.0.0 ok\n",
    );
    run("AUTH PLAIN\r\n!\r\n", "334 Z28=\n501 5.5.2 not base64\n");
    run("AUTH PLAIN eA==\r\n", "535 5.7.8 wrong\n");
    let longer = "A".repeat(8_000);
    run(&format!("AUTH PLAIN {longer}\r\n"), "235 2.7.0 authenticated\n");
    run(&format!("AUTH PLAIN\r\n{longer}\r\n"), "334 Z28=\n235 2.7.0 authenticated\n");
    run(&format!("NOOP {longer}\r\n"), "500 5.5.2 line too long\n");
    run(
        &format!("AUTH PLAIN\r\n{longer}{longer}\r\nNOOP\r\n"),
        "334 Z28=\n500 5.5.6 authentication line too long\n250 2.0.0 ok\n",
    );
    run("AUTH NTLM\r\n", "504 5.5.4 mechanism is not offered\n");
}

#[test]
fn too_many_errors_end_the_session() {
    let expected =
        format!("{}421 4.7.0 too many errors\n", "500 5.5.1 command not recognised\n".repeat(9));
    check("FOO\r\n".repeat(11).as_bytes(), &expected, &[]);
    let input = format!("{MAIL}{}", "RCPT TO:<nobody@mx.test>\r\n".repeat(101));
    let expected = format!(
        "250 2.1.0 sender ok\n{}421 4.7.0 too many refused recipients\n",
        "550 5.1.1 no such user\n".repeat(99)
    );
    check(input.as_bytes(), &expected, &[]);
    check(b"GET / HTTP/1.1\r\nNOOP\r\n", "421 4.7.0 this is a mail server\n", &[]);
}

#[test]
fn silence_and_drain_end_the_session() {
    let mut driver = Driver::new(config(), Channel::Plain);
    driver.said.clear();
    driver.session.handle_timeout(driver.now + Duration::from_secs(299));
    driver.turn();
    assert_eq!(driver.said, "");
    driver.session.handle_timeout(driver.now + Duration::from_secs(300));
    driver.turn();
    assert_eq!(driver.said, "421 4.4.2 timed out waiting for you\r\n");
    assert!(driver.closed);

    let mut driver = Driver::new(config(), Channel::Plain);
    driver.send(format!("EHLO c\r\n{MAIL}{RCPT}").as_bytes());
    driver.said.clear();
    driver.session.handle_drain(driver.now);
    driver.turn();
    assert_eq!(driver.said, "");
    driver.send(b"DATA\r\n.\r\n");
    let expected = format!("{GO}{KEPT}421 4.3.2 the server is going down\n").replace('\n', "\r\n");
    assert_eq!(driver.said, expected);
    assert!(driver.closed && driver.kept == [b""]);

    // A transaction that is spoilt is not worth waiting for, nor is one not begun.
    for input in ["", &format!("EHLO c\r\n{MAIL}BDAT 1\r\na")] {
        let mut driver = Driver::new(config(), Channel::Plain);
        driver.send(input.as_bytes());
        driver.said.clear();
        driver.session.handle_drain(driver.now);
        driver.turn();
        assert_eq!(driver.said, "421 4.3.2 the server is going down\r\n");
    }
}

/// Over SMTP one reply answers for all, so that it cannot be one of many.
#[test]
fn an_answer_that_does_not_fit_is_a_temporary_failure() {
    for (protocol, hello, expected) in [
        (Protocol::Smtp, "EHLO c\r\n", "451 4.3.0 temporary failure, try again later\r\n"),
        (Protocol::Lmtp, "LHLO c\r\n", "250 2.0.0 message accepted\r\n"),
    ] {
        let config = ServerConfig { protocol, ..config() };
        let mut driver = Driver::new(config, Channel::Plain);
        driver.send(format!("{hello}{MAIL}{RCPT}DATA\r\n").as_bytes());
        driver.said.clear();
        driver.session.handle_bytes(driver.now, b".\r\n");
        assert!(matches!(driver.session.poll_action(), Action::Ask(Question::Message { .. })));
        driver.session.answer(driver.now, Verdict::PerRecipient(vec![Ok(())]));
        driver.turn();
        assert_eq!(driver.said, expected);
    }
}
