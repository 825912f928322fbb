//! Postfix → mx → Maildir.

use crate::everything;
use crate::mail::mails;
use crate::merpati::Merpati;
use crate::postfix::{Destination, Postfix};
use crate::room::Room;
use crate::sender::Sender;

/// Postfix sends all it takes to our MX, by verified TLS.
fn road(room: &Room) -> (Postfix, Merpati) {
    let transports = format!(
        "[[transport]]\nmatch = [\"receiver.test\", \"sender.test\"]\n\
         maildir = {{ path = \"{}/mx/mail/{{user}}\" }}\n",
        room.path().display(),
    );
    let mx = Merpati::mx(room, &transports);
    let destination = Destination::Relay(mx.address, "mx.merpati.test");
    (Postfix::start(room, &destination, ""), mx)
}

#[test]
fn what_postfix_sends_is_in_the_mailbox() {
    let room = Room::new();
    let (postfix, mx) = road(&room);
    let mut sender = Sender::connect(postfix.address);
    let mut arrived = 0;
    for mail in mails(everything()) {
        sender.send(&mail);
        arrived += mail.to.len();
        mx.process.log.wait_for(arrived, "event=\"delivered\"");
        mail.assert_arrived(|local| mx.mailbox(local));
    }
    postfix.process.log.wait("Verified TLS connection established to 127.0.0.1");
}
