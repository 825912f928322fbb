//! Messages through the three servers beside those of `road`: odder bodies, odder senders.

use std::path::PathBuf;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read, subject};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
/// How long a message may take from its 250 to the Maildir.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// A body and how it goes out.
struct Case {
    name: &'static str,
    body: Vec<u8>,
    by: By,
    parameters: &'static str,
}

fn cases() -> Vec<Case> {
    let case =
        |name, body: &[u8], by, parameters| Case { name, body: body.to_vec(), by, parameters };
    let mut every_octet: Vec<u8> = (1..=255).filter(|octet| !b"\r\n".contains(octet)).collect();
    every_octet.extend_from_slice(b"\r\n");
    vec![
        case("empty by BDAT", b"", By::Chunks(7), ""),
        case("dots", b".\r\n..\r\n...\r\n.\r\n.\r\n", By::Data, ""),
        case("dots by BDAT", b".\r\n..\r\n.\r\n\r\n.\r\n", By::Chunks(1), ""),
        case("8-bit", &every_octet, By::Data, " BODY=8BITMIME"),
        case("dot at the end", b"one\r\n.", By::Chunks(3), ""),
    ]
}

#[test]
fn bodies_arrive_byte_for_byte() {
    let demo = Demo::start().unwrap();
    let mut client = demo.submit_as(ALICE).unwrap();
    let sent: Vec<_> = cases()
        .into_iter()
        .map(|Case { name, body, by, parameters }| {
            let content = message(name, ALICE, &body);
            let mail = Mail { from: ALICE, to: &[BOB], parameters, content: &content, by };
            client.send(&mail).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, content)
        })
        .collect();
    for (name, content) in &sent {
        arrives(&demo, BOB, name, content);
    }
}

#[test]
fn addresses_beyond_ascii_arrive() {
    let demo = Demo::start().unwrap();
    let (from, to) = ("ünï@sender.test", "üser@receiver.test");
    let mut client = demo.submit_as(from).unwrap();
    let content = message("smtputf8", from, "Grüße\r\n".as_bytes());
    let parameters = " SMTPUTF8 BODY=8BITMIME";
    let by = By::Data;
    client.send(&Mail { from, to: &[to], parameters, content: &content, by }).unwrap();

    arrives(&demo, to, "smtputf8", &content);
}

#[test]
fn reports_come_back_but_never_to_nobody() {
    let demo = Demo::start().unwrap();
    let mut client = demo.submit_as(ALICE).unwrap();
    let content = message("to nobody", ALICE, b"Coo.\r\n");
    let to = &["nobody@receiver.test"];
    let by = By::Data;
    client.send(&Mail { from: ALICE, to, parameters: "", content: &content, by }).unwrap();
    let find = || delivered(demo.maildir(ALICE)).pop();
    let report = until::within(ARRIVAL_LIMIT, find)
        .unwrap_or_else(|| panic!("no report comes back\n{}", demo.tail("relay")));
    let report = String::from_utf8(read(&report).unwrap()).unwrap();
    for part in [
        "Return-Path: <>\r\n",
        "Content-Type: multipart/report; report-type=delivery-status;\r\n",
        "Final-Recipient: rfc822; nobody@receiver.test\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "Subject: to nobody\r\n",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }

    // A second report would be behind a first: what follows it in the queue has arrived.
    let mut client = merpati_e2e::smtp::Smtp::plain(demo.address("relay")).unwrap();
    let content = message("from nobody", ALICE, b"Coo.\r\n");
    client.send(&Mail { from: "", to, parameters: "", content: &content, by }).unwrap();
    let failed = || {
        let log = std::fs::read_to_string(demo.log("relay")).unwrap();
        log.matches("nobody@receiver.test").count() >= 4
    };
    let _ = until::holds(Duration::from_secs(2), failed);
    let content = message("after", ALICE, b"Coo.\r\n");
    let mail = Mail { from: "", to: &[ALICE], parameters: "", content: &content, by };
    client.send(&mail).unwrap();
    arrives(&demo, ALICE, "after", &content);
    assert_eq!(delivered(demo.maildir(ALICE)).len(), 2);
}

/// The file of the message with this subject.
fn stored(demo: &Demo, address: &str, name: &str) -> Option<PathBuf> {
    let is = |file: &PathBuf| {
        std::fs::read(file).is_ok_and(|content| subject(&content).as_deref() == Some(name))
    };
    delivered(demo.maildir(address)).into_iter().find(is)
}

/// Waits for the message and compares it with what was sent.
fn arrives(demo: &Demo, address: &str, name: &str, content: &[u8]) {
    let file = until::within(ARRIVAL_LIMIT, || stored(demo, address, name))
        .unwrap_or_else(|| panic!("{name} does not reach {address}\n{}", demo.tail("relay")));
    let arrived = read(&file).unwrap();
    if !arrived.ends_with(content) {
        let shown = String::from_utf8_lossy(&arrived[..arrived.len().min(2_000)]).into_owned();
        panic!("{name} is not as it was sent, but:\n{shown}");
    }
    let added = &arrived[..arrived.len() - content.len()];
    let hops = memchr::memmem::find_iter(added, b"Received: ").count();
    if address != ALICE {
        assert_eq!(hops, 3, "{name}: {}", String::from_utf8_lossy(added));
    }
}
