//! mx → Dovecot by LMTP, read back with doveadm.

use crate::dovecot::Dovecot;
use crate::everything;
use crate::mail::{Mail, mails, reports};
use crate::merpati::Merpati;
use crate::room::Room;
use crate::sender::Sender;

/// Our MX hands mail for `receiver.test` to Dovecot, as `lmtp` says.
fn road(room: &Room, lmtp: &str) -> Merpati {
    let transports = format!(
        "[[transport]]\nmatch = \"receiver.test\"\nlmtp = {{ {lmtp} }}\n\n\
         [[transport]]\nmatch = \"sender.test\"\n\
         maildir = {{ path = \"{}/mx/mail/{{user}}\" }}\n",
        room.path().display(),
    );
    Merpati::mx(room, &transports)
}

#[test]
fn what_the_mx_hands_over_is_in_the_mailbox() {
    for by_tcp in if everything() { &[false, true][..] } else { &[false] } {
        let room = Room::new();
        let dovecot = Dovecot::start(&room);
        let lmtp = if *by_tcp {
            format!("host = \"[127.0.0.1]\", port = {}", dovecot.port)
        } else {
            format!("socket = \"{}\"", dovecot.socket().display())
        };
        let mx = road(&room, &lmtp);
        let mut sender = Sender::connect(mx.address);
        let mut arrived = 0;
        // Dovecot has no SMTPUTF8.
        for mail in mails(everything()).iter().filter(|mail| mail.name != "utf-8") {
            sender.send(mail);
            arrived += mail.to.len();
            dovecot.process.log.wait_for(arrived, "saved mail to INBOX");
            for to in &mail.to {
                mail.assert_once(to, &dovecot.fetch(to.split('@').next().unwrap()));
            }
        }
    }
}

/// RFC 2033 §4.2: there is a reply for each recipient after the message.
#[test]
fn a_recipient_without_room_is_reported_and_the_others_have_the_mail() {
    let room = Room::new();
    let dovecot = Dovecot::start(&room);
    let mx = road(&room, &format!("socket = \"{}\"", dovecot.socket().display()));
    let to = ["bob", "carol", "dave"].map(|local| format!("{local}@receiver.test")).to_vec();
    let mail = Mail { to, ..Mail::new("no room", b"Who has room for this?\r\n") };
    Sender::connect(mx.address).send(&mail);
    dovecot.process.log.wait_for(2, "saved mail to INBOX");
    mx.process.log.wait("to=\"alice@sender.test\"");
    let reports = reports(&mx.mailbox("alice"));
    let [report] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    assert!(report.contains("\r\nFinal-Recipient: rfc822; carol@receiver.test\r\n"), "{report}");
    assert!(report.contains("\r\nStatus: 5.2.2\r\n"), "{report}");
    assert_eq!(report.matches("\r\nFinal-Recipient: ").count(), 1, "{report}");
}
