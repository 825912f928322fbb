//! Messages over the whole road: submission, relay and mx as real processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use merpati_testkit::mail_client::MailClient;
use merpati_testkit::road::{ALICE, BOB, Layout, Road, build_servers};

/// How long a message may take from its 250 to its mailbox.
const ARRIVAL: Duration = Duration::from_secs(60);

pub(crate) fn connect(layout: &Layout) -> MailClient {
    let Layout { tls, ca, password, .. } = layout;
    MailClient::connect(*tls, "mail.sender.test", ca, ALICE, password).unwrap()
}

/// Waits until a mailbox has `count` messages, and answers them.
pub(crate) fn wait_for(mailbox: &Path, count: usize) -> Vec<Vec<u8>> {
    let began = Instant::now();
    loop {
        let mut files: Vec<_> = match fs::read_dir(mailbox.join("new")) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        if files.len() >= count {
            files.sort();
            return files.into_iter().map(|file| fs::read(file).unwrap()).collect();
        }
        let waited = began.elapsed();
        assert!(waited < ARRIVAL, "{} has {} of {count}", mailbox.display(), files.len());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn empty(mailbox: &Path) {
    for file in fs::read_dir(mailbox.join("new")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
}

/// What was sent is at the end of what is stored; what stands before it are added fields.
fn assert_same(stored: &[u8], sent: &[u8], what: &str) {
    let added = stored.strip_suffix(sent).unwrap_or_else(|| {
        let shown = String::from_utf8_lossy(&stored[..stored.len().min(2_000)]);
        panic!("{what}: {} octets were sent, and this is stored:\n{shown}", sent.len())
    });
    let added = std::str::from_utf8(added).unwrap();
    assert!(added.ends_with('\n') && added.starts_with("Return-Path:"), "{what}: {added}");
}

fn to_crlf(stored: &[u8]) -> Vec<u8> {
    let lines = stored.split(|&octet| octet == b'\n');
    lines.collect::<Vec<_>>().join(b"\r\n".as_slice())
}

const HEAD: &str = "From: <alice@sender.test>\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
                    Message-ID: <1@sender.test>\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let road = Road::start(dir.path(), &build_servers().unwrap()).await.unwrap();
    tokio::task::block_in_place(|| {
        text_bodies(&road.layout);
        chunked_bodies(&road.layout);
        many_recipients(&road.layout);
        bounces(&road.layout);
        binary_body(&road);
    });
    road.stop();
}

fn text_bodies(layout: &Layout) {
    let mailbox = layout.mailbox(BOB);
    let mut client = connect(layout);
    let cases = [
        ("an empty body", String::new()),
        ("only dots", ".\r\n..\r\n...\r\n.\r\n".to_owned()),
        ("the longest lines", format!("{}\r\n.{}\r\n", "x".repeat(998), "y".repeat(997))),
        ("empty lines at the end", "a\r\n\r\n\r\n".to_owned()),
    ];
    for (what, body) in cases {
        let message = format!("{HEAD}\r\n{body}");
        client.send(ALICE, &[BOB], &message).unwrap();
        let stored = wait_for(&mailbox, 1);
        assert_same(&to_crlf(&stored[0]), message.as_bytes(), what);
        empty(&mailbox);
    }
    client.quit().unwrap();
}

fn chunked_bodies(layout: &Layout) {
    let mut client = connect(layout);
    let eight_bit = format!("{HEAD}\r\nGr\u{fc}\u{df}e\r\n");
    let big =
        format!("{HEAD}\r\n{}", format!("{}\r\n", "z".repeat(76)).repeat(20 * 1024 * 1024 / 78));
    let unended = format!("{HEAD}\r\nno line end");
    let utf8 = format!("{HEAD}Subject: \u{1f54a}\r\n\r\ncoo\r\n");
    let (bob, user) = (BOB, "\u{fc}ser@receiver.test");
    let cases = [
        ("8-bit", " BODY=8BITMIME", bob, &eight_bit),
        ("20 MiB", "", bob, &big),
        ("no final CRLF", "", bob, &unended),
        ("SMTPUTF8", " BODY=8BITMIME SMTPUTF8", user, &utf8),
    ];
    for (what, parameters, to, message) in cases {
        let mailbox = layout.mailbox(to);
        let (first, second) = message.as_bytes().split_at(message.len() / 2);
        client.send_chunks(ALICE, parameters, &[to], &[first, second]).unwrap();
        let stored = wait_for(&mailbox, 1);
        assert_same(&to_crlf(&stored[0]), message.as_bytes(), what);
        empty(&mailbox);
    }
    client.quit().unwrap();
}

fn many_recipients(layout: &Layout) {
    let all: Vec<_> = (1..=100).map(|number| format!("user{number}@receiver.test")).collect();
    let to: Vec<_> = all.iter().map(String::as_str).collect();
    let message = format!("{HEAD}\r\nto all of you\r\n");
    connect(layout).send(ALICE, &to, &message).unwrap();
    for address in all {
        let stored = wait_for(&layout.mailbox(&address), 1);
        assert_same(&to_crlf(&stored[0]), message.as_bytes(), &address);
    }
}

/// A recipient that mx refuses, a domain that takes no mail, and one that does not exist come back
/// as reports.
fn bounces(layout: &Layout) {
    let message = format!("{HEAD}Subject: lost\r\n\r\nhello\r\n");
    let mailbox = layout.mailbox(ALICE);
    let mut client = connect(layout);
    let cases = [
        ("nobody@receiver.test", "Status: 5.1.1"),
        ("anybody@nomail.test", "Status: 5.1.10"),
        ("anybody@missing.test", "Status: 5.1.2"),
    ];
    for (to, status) in cases {
        client.send(ALICE, &[to], &message).unwrap();
        let stored = wait_for(&mailbox, 1);
        let report = String::from_utf8(stored[0].clone()).unwrap();
        for part in ["Return-Path: <>", "report-type=delivery-status", to, status, "Subject: lost"]
        {
            assert!(report.contains(part), "{to}: {part:?} is not in\n{report}");
        }
        empty(&mailbox);
    }
}

/// Bare line ends and NUL survive where BODY=BINARYMIME says so, all the way to a mailbox that
/// keeps line ends; the mailbox's configuration is changed while the server runs.
fn binary_body(road: &Road) {
    let layout = &road.layout;
    let config = layout.config("mx");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("maildir = { ", "maildir = { line_ending = \"crlf\", "))
        .unwrap();
    hang_up(road.servers.pid("mx"));
    until(|| fs::read_to_string(layout.log("mx")).unwrap().contains("configuration reloaded"));
    let message = [HEAD.as_bytes(), b"\r\n\0\x01\r\n.\r\n\r\r\n\n bare \r and \n\xff"].concat();
    let mailbox = layout.mailbox(BOB);
    connect(layout).send_chunks(ALICE, " BODY=BINARYMIME", &[BOB], &[&message]).unwrap();
    let stored = wait_for(&mailbox, 1);
    assert_same(&stored[0], &message, "BINARYMIME");
}

fn hang_up(pid: u32) {
    assert!(Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < ARRIVAL, "it does not happen");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
