//! relay → Postfix that asks Dovecot who we are.

use std::fmt::Write as _;
use std::fs;

use crate::dovecot::Users;
use crate::mail::Mail;
use crate::merpati::Merpati;
use crate::postfix::{Destination, Postfix};
use crate::room::{NOBODY, Room};
use crate::sender::Sender;

/// Rules give every recipient a mechanism of its own.
const MECHANISMS: [&str; 5] = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"];

/// A relay that logs in at `postfix`: by the n-th mechanism for usern, by the strongest for bob, and
/// with a wrong password for carol.
fn relay(room: &Room, postfix: &Postfix) -> Merpati {
    let file = |name: &str, text: &str| {
        let path = room.path().join(name);
        fs::write(&path, text).unwrap();
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
        path.display().to_string()
    };
    let (good, wrong) = (file("good", "pencil\n"), file("wrong", "crayon\n"));
    let mut config = String::new();
    let mut way = |name: &str, recipient: &str, password: &str, more: &str| {
        let host = format!("[127.0.0.1]:{}", postfix.address.port());
        let _ = write!(
            config,
            "[[transport]]\nname = \"{name}\"\n\
             smtp = {{ host = \"{host}\", tls = \"encrypt\", user = \"relay\", \
             password = {{ file = \"{password}\" }}{more} }}\n\n\
             [[route]]\nrecipient = \"{recipient}@receiver.test\"\ntransport = \"{name}\"\n\n"
        );
    };
    for (number, mechanism) in (1..).zip(MECHANISMS) {
        let more = format!(", mechanisms = [\"{mechanism}\"]");
        way(&mechanism.to_lowercase(), &format!("user{number}"), &good, &more);
    }
    way("strongest", "bob", &good, "");
    way("stranger", "carol", &wrong, "");
    Merpati::relay(room, postfix.address.port(), &config)
}

#[test]
fn postfix_and_dovecot_know_us_by_every_mechanism() {
    let room = Room::new();
    let users = Users::start(&room, "relay", "pencil");
    let more = format!(
        "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n\
         smtpd_tls_auth_only = yes\n\
         smtpd_relay_restrictions = permit_sasl_authenticated, reject\n",
        users.socket.display()
    );
    let postfix = Postfix::start(&room, &Destination::Mailboxes, &more);
    let relay = relay(&room, &postfix);
    // One message, whose recipients go seven ways.
    let numbers = (1..=MECHANISMS.len()).map(|number| format!("user{number}"));
    let locals: Vec<_> = numbers.chain(["bob".to_owned(), "carol".to_owned()]).collect();
    let to = locals.iter().map(|local| format!("{local}@receiver.test")).collect();
    let mail = Mail { to, ..Mail::new("known", b"It is us.\r\n") };
    Sender::connect(relay.address).send(&mail);
    postfix.process.log.wait_for(6, "status=sent (delivered to maildir)");
    for mechanism in MECHANISMS {
        let logins = if mechanism == "SCRAM-SHA-256" { 2 } else { 1 };
        let said = format!("sasl_method={mechanism}, sasl_username=relay");
        assert_eq!(postfix.process.log.count(&said), logins, "{mechanism}");
    }
    relay.process.log.wait("cannot log in; mail waits");
    assert!(!relay.mailbox("alice").join("new").exists(), "nothing bounces");
}
