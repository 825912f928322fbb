//! relay → Exim by BDAT.

use crate::everything;
use crate::exim::Exim;
use crate::mail::mails;
use crate::merpati::Merpati;
use crate::room::Room;
use crate::sender::Sender;

#[test]
fn what_the_relay_sends_by_chunks_is_in_the_mailbox() {
    let room = Room::new();
    let exim = Exim::start(&room);
    let relay = Merpati::relay(&room, exim.address.port(), "");
    let mut sender = Sender::connect(relay.address);
    let mut arrived = 0;
    for (number, mail) in mails(everything()).iter().enumerate() {
        sender.send(mail);
        arrived += mail.to.len();
        // Logged once a message has been stored for a recipient, and once for all of them.
        exim.log.log.wait_for(arrived, " T=maildir");
        exim.log.log.wait_for(number + 1, " Completed");
        mail.assert_arrived(|local| exim.mailbox(local));
    }
    // `K`: it came by BDAT (Exim specification, chapter 53).
    let taken = exim.log.log.count(" <= ");
    assert!(taken > 0);
    assert_eq!(exim.log.log.count(" K S="), taken);
}
