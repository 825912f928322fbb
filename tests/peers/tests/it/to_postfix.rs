//! relay → Postfix.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::everything;
use crate::mail::{By, Mail, mails, reports};
use crate::merpati::Merpati;
use crate::postfix::{Destination, Postfix};
use crate::room::{Room, free_address};
use crate::sender::Sender;

/// What Postfix logs for each recipient that has the mail.
const STORED: &str = "status=sent (delivered to maildir)";

/// Our relay delivers to a Postfix with mailboxes.
fn road(room: &Room, more: &str) -> (Merpati, Postfix) {
    let postfix = Postfix::start(room, &Destination::Mailboxes, more);
    (Merpati::relay(room, postfix.address.port(), ""), postfix)
}

/// A mail to three people.
fn to_three(name: &str, to: [&str; 3]) -> Mail {
    let to = to.map(|local| format!("{local}@receiver.test")).to_vec();
    Mail { to, ..Mail::new(name, b"To the three of you.\r\n") }
}

/// Checks that the sender has one report, that it tells of `failed` with this status, and of
/// nobody else.
fn assert_reported(relay: &Merpati, failed: &str, status: &str) {
    relay.process.log.wait("event=\"reported\"");
    // The report goes its own way, into the sender's mailbox.
    relay.process.log.wait("to=\"alice@sender.test\"");
    let reports = reports(&relay.mailbox("alice"));
    let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    // RFC 6533 §3: an internationalized address has a type of its own.
    let kind = if failed.is_ascii() { "rfc822" } else { "utf-8" };
    assert!(report.contains(&format!("\r\nFinal-Recipient: {kind}; {failed}\r\n")), "{report}");
    assert!(report.contains("\r\nAction: failed\r\n"), "{report}");
    assert!(report.contains(&format!("\r\nStatus: {status}\r\n")), "{report}");
    assert_eq!(report.matches("\r\nFinal-Recipient: ").count(), 1, "{report}");
}

#[test]
fn what_the_relay_sends_is_in_the_mailbox() {
    // With everything Postfix offers, and with less of it.
    let all =
        ["", "chunking", "chunking, pipelining", "dsn, etrn, size, starttls, enhancedstatuscodes"];
    for without in if everything() { &all[..] } else { &all[..1] } {
        let room = Room::new();
        let (relay, postfix) = road(&room, &format!("smtpd_discard_ehlo_keywords = {without}\n"));
        let mut sender = Sender::connect(relay.address);
        let mut arrived = 0;
        for mail in mails(everything()) {
            sender.send(&mail);
            arrived += mail.to.len();
            postfix.process.log.wait_for(arrived, STORED);
            mail.assert_arrived(|local| postfix.mailbox(local));
        }
        drop(relay);
        // What was said in the only connection there was.
        let said = postfix.process.log.wait("]: disconnect from ");
        assert_eq!(postfix.process.log.count("]: connect from "), 1);
        assert_eq!(said.contains(" bdat="), !without.contains("chunking"), "{said}");
        assert_eq!(said.contains(" starttls=1"), !without.contains("starttls"), "{said}");
    }
}

#[test]
fn a_refused_recipient_is_reported_and_the_others_have_the_mail() {
    let room = Room::new();
    let (relay, postfix) = road(&room, "");
    let mail = to_three("one of three", ["bob", "mallory", "dave"]);
    Sender::connect(relay.address).send(&mail);
    postfix.process.log.wait_for(2, STORED);
    let two = to_three("one of three", ["bob", "bob", "dave"]);
    two.assert_arrived(|local| postfix.mailbox(local));
    assert_reported(&relay, "mallory@receiver.test", "5.1.1");
}

#[test]
fn a_deferred_recipient_has_the_mail_later_and_nobody_has_it_twice() {
    let room = Room::new();
    let policy = start_policy("carol@receiver.test", 2);
    let more = format!(
        "smtpd_recipient_restrictions = check_policy_service inet:{policy}, \
         permit_mynetworks, reject_unauth_destination\n"
    );
    let (relay, postfix) = road(&room, &more);
    let mail = to_three("later", ["bob", "carol", "dave"]);
    Sender::connect(relay.address).send(&mail);
    postfix.process.log.wait_for(3, STORED);
    assert_eq!(relay.process.log.wait_for(2, "event=\"deferred\"").len(), 2);
    relay.process.log.wait_for(3, "event=\"delivered\"");
    mail.assert_arrived(|local| postfix.mailbox(local));
}

#[test]
fn mail_that_the_peer_cannot_take_is_reported() {
    if !everything() {
        return;
    }
    let eight = "Žluťoučký kůň.\r\n".as_bytes();
    let cases = [
        // Everybody refused: DATA was sent along, and is refused too.
        ("", Mail { to: vec!["mallory@receiver.test".to_owned()], ..Mail::new("a", b"") }, "5.1.1"),
        // Postfix has CHUNKING, but no BINARYMIME.
        (
            "",
            Mail { by: By::Bdat, parameters: " BODY=BINARYMIME", ..Mail::new("b", b"\0\r\n") },
            "5.6.3",
        ),
        (
            "smtpd_discard_ehlo_keywords = 8bitmime",
            Mail { parameters: " BODY=8BITMIME", ..Mail::new("c", eight) },
            "5.6.3",
        ),
        (
            "smtpd_discard_ehlo_keywords = smtputf8",
            Mail {
                to: vec!["üser@receiver.test".to_owned()],
                parameters: " SMTPUTF8",
                ..Mail::new("d", b"")
            },
            "5.6.7",
        ),
        ("message_size_limit = 10000", Mail::new("e", &b"0123456789\r\n".repeat(1_000)), "5.3.4"),
    ];
    for (more, mail, status) in cases {
        let room = Room::new();
        let (relay, _postfix) = road(&room, &format!("{more}\n"));
        Sender::connect(relay.address).send(&mail);
        assert_reported(&relay, &mail.to[0], status);
    }
}

#[test]
fn after_a_failed_handshake_mail_goes_in_clear() {
    if !everything() {
        return;
    }
    let room = Room::new();
    let (relay, postfix) = road(&room, "smtpd_tls_protocols = TLSv1\n");
    let mail = Mail::new("in clear", b"Nobody shares a version.\r\n");
    Sender::connect(relay.address).send(&mail);
    postfix.process.log.wait(STORED);
    mail.assert_arrived(|local| postfix.mailbox(local));
    assert!(postfix.process.log.count("SSL_accept error") > 0);
}

/// RFC 3461: what the sender asks of reports is passed on, and the peer obeys.
#[test]
fn requests_for_reports_are_passed_on() {
    if !everything() {
        return;
    }
    let room = Room::new();
    let address = free_address();
    let relay = Merpati::relay(&room, address.port(), "");
    let back = format!(
        "relayhost = [{}]:{}\nsmtp_dns_support_level = disabled\n",
        relay.address.ip(),
        relay.address.port()
    );
    let postfix = Postfix::start_at(address, &room, &Destination::Mailboxes, &back);
    let mail = Mail {
        parameters: " RET=HDRS ENVID=pigeon+2B1",
        recipient_parameters: " NOTIFY=SUCCESS ORCPT=rfc822;Bobby@receiver.test",
        ..Mail::new("notify", b"Say so when it is there.\r\n")
    };
    Sender::connect(relay.address).send(&mail);
    postfix.process.log.wait(STORED);
    relay.process.log.wait("to=\"alice@sender.test\"");
    let reports = reports(&relay.mailbox("alice"));
    let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    for line in [
        "Original-Envelope-Id: pigeon+1",
        "Original-Recipient: rfc822;Bobby@receiver.test",
        "Action: delivered",
        "Content-Type: text/rfc822-headers",
    ] {
        assert!(report.contains(line), "no `{line}` in\n{report}");
    }
}

/// A policy service that defers a recipient some times, and ends with the test.
fn start_policy(recipient: &'static str, mut times: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), recipient, &mut times);
        }
    });
    address
}

/// Answers requests of one connection: lines of attributes, and an empty one.
fn answer(stream: TcpStream, recipient: &str, times: &mut u32) {
    let mut stream = BufReader::new(stream);
    let mut is_meant = false;
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line == "\n" {
            let defer = is_meant && *times > 0;
            *times -= u32::from(defer);
            let action = if defer { "451 4.7.1 Come back later" } else { "DUNNO" };
            stream.get_mut().write_all(format!("action={action}\n\n").as_bytes()).unwrap();
            is_meant = false;
        } else if line.trim_end() == format!("recipient={recipient}") {
            is_meant = true;
        }
        line.clear();
    }
}
