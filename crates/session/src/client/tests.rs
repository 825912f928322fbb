//! The client against scripted servers, and against our own.
#![expect(clippy::disallowed_methods, reason = "a test needs some instant to begin with")]

mod model;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use merpati_types::{BodyType, ByMode, Mailbox, Recipient, ReversePath};
use merpati_wire::{By, Priority};

use super::{
    Channel, Client, ClientAction, ClientConfig, Event, Mismatch, Outcome, Outgoing, Protocol, Tls,
};

fn outgoing(recipients: &[&str], body: &'static [u8]) -> Outgoing {
    let mailbox = |text: &&str| Recipient::new(Mailbox::parse(text).unwrap());
    Outgoing {
        sender: ReversePath::parse("<a@client.test>").unwrap(),
        recipients: recipients.iter().map(mailbox).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        by: None,
        requiretls: false,
        priority: Priority::default(),
        size: body.len() as u64,
    }
}

/// Runs one transaction against a server that says `replies`, each when all that the client
/// said until then ends with the text before it. Answers what the client said and what it told.
fn run(
    config: &ClientConfig,
    mail: Option<(Outgoing, &'static [u8])>,
    script: &[(&str, &str)],
    chunk: usize,
) -> (String, Vec<String>) {
    let now = Instant::now();
    let mut client = Client::new(now, Arc::new(config.clone()), Channel::Plain);
    let (mut said, mut told) = (String::new(), Vec::new());
    let mut script = script.iter();
    let mut mail = mail;
    let mut body = None;
    loop {
        match client.poll_action() {
            ClientAction::Write(bytes) => said += std::str::from_utf8(&bytes).unwrap(),
            ClientAction::NeedBody => match body.take() {
                Some(bytes) => client.body(now, Bytes::from_static(bytes)),
                None => client.body_end(now),
            },
            ClientAction::StartTls => {
                said += "[tls]";
                client.handle_tls(now);
            }
            ClientAction::Event(event) => told.push(describe(event)),
            ClientAction::Idle => match mail.take() {
                Some((outgoing, bytes)) => {
                    body = Some(bytes);
                    if let Err(mismatch) = client.begin(now, outgoing) {
                        told.push(mismatch.to_string());
                        return (said, told);
                    }
                }
                None => return (said, told),
            },
            ClientAction::Wait { until } => match script.next() {
                Some((heard, reply)) => {
                    assert!(said.ends_with(heard), "{said:?} does not end with {heard:?}");
                    for piece in reply.as_bytes().chunks(chunk) {
                        client.handle_bytes(now, piece);
                    }
                }
                None => client.handle_timeout(until),
            },
            ClientAction::Close => return (said, told),
        }
    }
}

fn describe(event: Event) -> String {
    match event {
        Event::Ready(_) => "ready".to_owned(),
        Event::Challenge(_) => "challenge".to_owned(),
        Event::AuthRefused(reply) => format!("auth refused: {reply}"),
        Event::FinalDot => "dot".to_owned(),
        Event::Finished(outcomes) => {
            let one = |outcome: &Outcome| match outcome {
                Outcome::Accepted(reply) => format!("+{}", reply.code()),
                Outcome::Refused { stage, reply } => format!("-{} {stage:?}", reply.code()),
            };
            outcomes.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Event::Lost { why, known } => {
            format!("lost: {why} ({} known)", known.iter().flatten().count())
        }
    }
}

/// Runs at several chunk sizes.
fn check(
    config: &ClientConfig,
    mail: Option<(Outgoing, &'static [u8])>,
    script: &[(&str, &str)],
    told: &[&str],
) -> String {
    let mut said = String::new();
    for chunk in [1, 2, 3, 7, usize::MAX] {
        let (now_said, now_told) = run(config, mail.clone(), script, chunk);
        assert_eq!(now_told, told, "in chunks of {chunk}: {now_said:?}");
        said = now_said;
    }
    said
}

fn config() -> ClientConfig {
    ClientConfig { hello: "client.test".to_owned(), ..ClientConfig::default() }
}

const GREET: (&str, &str) = ("", "220 mx.test\r\n");
const PLAIN: (&str, &str) = ("EHLO client.test\r\n", "250 mx.test\r\n");
const PIPE: (&str, &str) = ("EHLO client.test\r\n", "250-mx.test\r\n250 PIPELINING\r\n");
const CHUNK: (&str, &str) =
    ("EHLO client.test\r\n", "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");

#[test]
fn one_command_at_a_time_without_pipelining() {
    let mail = (outgoing(&["b@mx.test", "c@mx.test"], b".x"), b".x".as_slice());
    let script = [
        GREET,
        PLAIN,
        ("MAIL FROM:<a@client.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<b@mx.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<c@mx.test>\r\n", "550 no\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("..x\r\n.\r\n", "250 kept\r\n"),
    ];
    check(&config(), Some(mail), &script, &["ready", "dot", "+250 -550 Rcpt"]);
}

#[test]
fn commands_go_out_together_with_pipelining() {
    let mail = (outgoing(&["b@mx.test"], b"x\r\n"), b"x\r\n".as_slice());
    let whole = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n";
    let replies = "250 ok\r\n250 ok\r\n354 go\r\n";
    let script = [GREET, PIPE, (whole, replies), ("x\r\n.\r\n", "250 kept\r\n")];
    check(&config(), Some(mail.clone()), &script, &["ready", "dot", "+250"]);
    // RFC 2920 §3.1: 354 although everybody was refused wants an empty message.
    let replies = "250 ok\r\n550 no\r\n354 go\r\n";
    let script = [
        GREET,
        PIPE,
        (whole, replies),
        ("DATA\r\n.\r\n", "554 none\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
    ];
    check(&config(), Some(mail.clone()), &script, &["ready", "-550 Rcpt"]);
    let replies = "250 ok\r\n450 no\r\n503 none\r\n";
    let script = [GREET, PIPE, (whole, replies), ("RSET\r\n", "250 ok\r\n")];
    check(&config(), Some(mail.clone()), &script, &["ready", "-450 Rcpt"]);
    let replies = "550 no\r\n503 no\r\n503 no\r\n";
    let script = [GREET, PIPE, (whole, replies)];
    check(&config(), Some(mail), &script, &["ready", "-550 Mail"]);
}

#[test]
fn a_small_chunk_goes_out_with_its_envelope() {
    let mail = (outgoing(&["b@mx.test"], b"x\n"), b"x\n".as_slice());
    let whole = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nBDAT 2 LAST\r\nx\n";
    let script = [GREET, CHUNK, (whole, "250 ok\r\n250 ok\r\n250 kept\r\n")];
    check(&config(), Some(mail.clone()), &script, &["ready", "dot", "+250"]);
    // The refused chunk leaves the server's transaction open: only RSET ends it.
    let refused = (whole, "250 ok\r\n550 no\r\n503 none\r\n");
    let script = [GREET, CHUNK, refused, ("RSET\r\n", "250 ok\r\n")];
    let said = check(&config(), Some(mail), &script, &["ready", "dot", "-550 Rcpt"]);
    assert!(said.ends_with("x\nRSET\r\n"), "{said:?}");
    // A large one waits for the replies.
    let slow = ClientConfig { ahead: 1, ..config() };
    let mail = (outgoing(&["b@mx.test"], b"x\n"), b"x\n".as_slice());
    let script = [
        GREET,
        CHUNK,
        ("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\n", "250 ok\r\n550 no\r\n"),
        ("RSET\r\n", "250 ok\r\n"),
    ];
    check(&slow, Some(mail), &script, &["ready", "-550 Rcpt"]);
}

#[test]
fn lmtp_answers_for_each_accepted_recipient() {
    let lmtp = ClientConfig { protocol: Protocol::Lmtp, ..config() };
    let mail = (outgoing(&["b@mx.test", "c@mx.test", "d@mx.test"], b"x"), b"x".as_slice());
    let hello = ("LHLO client.test\r\n", "250-mx.test\r\n250 PIPELINING\r\n");
    let script = [
        GREET,
        hello,
        ("DATA\r\n", "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"),
        ("x\r\n.\r\n", "250 kept\r\n452 full\r\n"),
    ];
    check(&lmtp, Some(mail.clone()), &script, &["ready", "dot", "+250 -550 Rcpt -452 Message"]);
    let hello = ("LHLO client.test\r\n", "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    let replies = "250 ok\r\n550 no\r\n250 ok\r\n250 ok\r\n250 kept\r\n452 full\r\n";
    let script = [GREET, hello, ("BDAT 1 LAST\r\nx", replies)];
    check(&lmtp, Some(mail), &script, &["ready", "dot", "-550 Rcpt +250 -452 Message"]);
}

#[test]
fn what_the_server_lacks_is_known_before_anything_is_sent() {
    let check_lack = |outgoing: Outgoing, hello: (&str, &str), mismatch: Mismatch| {
        let said = check(
            &config(),
            Some((outgoing, b"x")),
            &[GREET, hello],
            &["ready", &mismatch.to_string()],
        );
        assert!(said.ends_with("EHLO client.test\r\n"), "{said:?}");
    };
    let plain = outgoing(&["b@mx.test"], b"x");
    let eight = Outgoing { body: BodyType::EightBitMime, ..plain.clone() };
    check_lack(eight, PIPE, Mismatch::BodyType);
    let binary = Outgoing { body: BodyType::BinaryMime, ..plain.clone() };
    check_lack(binary, CHUNK, Mismatch::BodyType);
    let utf8 = Outgoing { smtputf8: true, ..plain.clone() };
    check_lack(utf8, PIPE, Mismatch::Utf8Header);
    let utf8 = Outgoing { smtputf8: true, ..outgoing(&["bób@mx.test"], b"x") };
    check_lack(utf8, PIPE, Mismatch::Utf8Address);
    let small = ("EHLO client.test\r\n", "250-mx.test\r\n250 SIZE 9\r\n");
    check_lack(Outgoing { size: 10, ..plain }, small, Mismatch::TooBig);
}

#[test]
fn deadlines_and_priorities_are_passed_on_where_they_are_known() {
    let all = "250-mx.test\r\n250-DELIVERBY 60\r\n250 MT-PRIORITY\r\n";
    let short = || Some(By::new(59, ByMode::Return, false));
    let told = ["ready", "-550 Mail"];
    for (by, priority, offered, expected, told) in [
        (None, 0, all, "\r\n", &told[..]),
        (None, -3, all, " MT-PRIORITY=-3\r\n", &told),
        (Some(By::new(60, ByMode::Return, true)), 4, all, " BY=60;RT MT-PRIORITY=4\r\n", &told),
        (Some(By::new(-9, ByMode::Notify, false)), 0, all, " BY=-9;N\r\n", &told),
        (Some(By::new(60, ByMode::Notify, false)), 4, "250 mx.test\r\n", "\r\n", &told),
        (short(), 0, all, "", &["ready", "the message cannot be there in time"]),
        (short(), 0, "250 mx.test\r\n", "", &["ready", "the server keeps no deadlines"]),
    ] {
        let priority = Priority::new(priority).unwrap();
        let mail = Outgoing { by, priority, ..outgoing(&["b@mx.test"], b"x") };
        let line = format!("MAIL FROM:<a@client.test>{expected}");
        let hello = ("EHLO client.test\r\n", offered);
        let script = [GREET, hello, (line.as_str(), "550 no\r\n")];
        let script = if expected.is_empty() { &script[..2] } else { &script[..] };
        check(&config(), Some((mail, b"x")), script, told);
    }
}

#[test]
fn starttls_is_used_and_injection_is_noticed() {
    let hello = ("EHLO client.test\r\n", "250-mx.test\r\n250 STARTTLS\r\n");
    let go = ("STARTTLS\r\n", "220 go\r\n");
    let again = ("[tls]EHLO client.test\r\n", "250 mx.test\r\n");
    check(&config(), None, &[GREET, hello, go, again], &["ready"]);
    let injected = ("STARTTLS\r\n", "220 go\r\n250 mx.test\r\n");
    for (chunk, told) in [(usize::MAX, "behind the reply"), (1, "reply to no command")] {
        let (_, all) = run(&config(), None, &[GREET, hello, injected], chunk);
        let all = all.join("; ");
        // In pieces the handshake begins first, and what follows is no handshake.
        assert!(all.contains(told) || chunk == 1, "{all}");
    }
    let required = ClientConfig { tls: Tls::Required, ..config() };
    check(&required, None, &[GREET, PLAIN], &["lost: server does not offer STARTTLS (0 known)"]);
    let refused = ("STARTTLS\r\n", "454 later\r\n");
    check(&config(), None, &[GREET, hello, refused], &["ready"]);
}

/// What came in the clear before the handshake is no part of what comes after it.
#[test]
fn a_reply_begun_in_the_clear_is_noticed() {
    for begun in ["2", "250-evil", "250-evil\r\n", "250-evil\r\n250"] {
        let now = Instant::now();
        let mut client = Client::new(now, Arc::new(config()), Channel::Plain);
        for heard in ["220 mx.test\r\n", "250-mx.test\r\n250 STARTTLS\r\n", "220 go\r\n", begun] {
            client.handle_bytes(now, heard.as_bytes());
        }
        client.handle_tls(now);
        let mut told = String::new();
        loop {
            match client.poll_action() {
                ClientAction::Event(event) => told += &describe(event),
                ClientAction::Close => break,
                _ => {}
            }
        }
        assert!(told.contains("behind the reply"), "{begun:?}: {told}");
    }
}

#[test]
fn every_way_to_lose_a_session_is_told() {
    let mail = || Some((outgoing(&["b@mx.test", "c@mx.test"], b"x"), b"x".as_slice()));
    check(&config(), None, &[("", "554 no\r\n")], &["lost: server said: 554 no (0 known)"]);
    check(&config(), None, &[], &["lost: time-out waiting for the greeting (0 known)"]);
    let helo = ("HELO client.test\r\n", "250 mx.test\r\n");
    check(&config(), None, &[GREET, ("EHLO client.test\r\n", "500 what\r\n"), helo], &["ready"]);
    let script = [GREET, PIPE, ("DATA\r\n", "250 ok\r\n550 no\r\n421 bye\r\n")];
    check(&config(), mail(), &script, &["ready", "lost: server said: 421 bye (1 known)"]);
    let script = [GREET, PIPE, ("DATA\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")];
    let lost = "lost: time-out waiting for the reply to the message (0 known)";
    check(&config(), mail(), &script, &["ready", "dot", lost]);
    // What is settled stays so, even when the good-bye follows at once.
    let script = [
        GREET,
        PIPE,
        ("DATA\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
        ("x\r\n.\r\n", "250 kept\r\n421 bye\r\n"),
    ];
    let told = ["ready", "dot", "+250 +250", "lost: server said: 421 bye (0 known)"];
    check(&config(), mail(), &script, &told);
    let bare = Some((outgoing(&["b@mx.test"], b"a\nb"), b"a\nb".as_slice()));
    let script = [GREET, PIPE, ("DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n")];
    let told = ["ready", "lost: message cannot be sent: bare LF at octet 1 of the body (0 known)"];
    check(&config(), bare, &script, &told);
}

#[test]
fn waiting_has_an_end() {
    let now = Instant::now();
    let mut client = Client::new(now, Arc::new(config()), Channel::Plain);
    let ClientAction::Wait { until } = client.poll_action() else { panic!("it waits") };
    assert_eq!(until - now, Duration::from_secs(300));
    // One octet now and then is no reply.
    client.handle_bytes(now + Duration::from_secs(299), b"2");
    let ClientAction::Wait { until: later } = client.poll_action() else { panic!("it waits") };
    assert_eq!(later, until);
}
