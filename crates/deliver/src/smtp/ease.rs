//! Messages that need less than was asked for them: a server without an extension gets those that
//! do without it as they are. Nothing of a message is ever changed, so that signatures hold.

use merpati_plugin::deliver::MessageSource;
use merpati_session::client::Outgoing;
use merpati_types::BodyType;
use merpati_wire::Capabilities;

use crate::header::header_section;

/// Takes back what `message` does not need and the server has not got.
pub(super) async fn ease(
    mut outgoing: Outgoing,
    offered: &Capabilities,
    message: &dyn MessageSource,
) -> Outgoing {
    let eight_bits = outgoing.body == BodyType::EightBitMime && !offered.eight_bit_mime;
    // Clients ask for 8BITMIME whatever they send.
    if eight_bits && is_ascii(message).await {
        outgoing.body = BodyType::SevenBit;
    }
    if outgoing.smtputf8 && !offered.smtputf8 && can_be_spelled(&outgoing) {
        // RFC 6531 §3.7.1 wants SMTPUTF8 where addresses or header fields need it.
        let header = header_section(message).await;
        if header.is_ok_and(|header| header.is_some_and(|header| header.raw().is_ascii())) {
            outgoing.smtputf8 = false;
        }
    }
    outgoing
}

/// Whether all addresses can do without: their domains have A-labels, and their local parts are
/// ASCII.
fn can_be_spelled(outgoing: &Outgoing) -> bool {
    let recipients = outgoing.recipients.iter().map(|recipient| &recipient.address);
    recipients.chain(outgoing.sender.mailbox()).all(|mailbox| mailbox.to_ascii().is_some())
}

async fn is_ascii(message: &dyn MessageSource) -> bool {
    let Ok(mut reader) = message.open().await else { return false };
    while let Ok(piece) = reader.next().await {
        match piece {
            Some(piece) if piece.is_ascii() => {}
            Some(_) => return false,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use merpati_types::{Mailbox, Recipient, ReversePath};
    use merpati_wire::Priority;

    use super::*;
    use crate::runner::tests::source;

    /// `body utf8`, as it is sent to a server with these extensions.
    async fn check(
        (to, body, smtputf8): (&str, BodyType, bool),
        (eight_bit_mime, utf8): (bool, bool),
        content: &'static str,
        expected: (BodyType, bool),
    ) {
        let outgoing = Outgoing {
            sender: ReversePath::parse("<a@sender.test>").unwrap(),
            recipients: vec![Recipient::new(Mailbox::parse(to).unwrap())],
            body,
            smtputf8,
            ret: None,
            envid: None,
            by: None,
            requiretls: false,
            priority: Priority::default(),
            size: 0,
        };
        let offered = Capabilities { eight_bit_mime, smtputf8: utf8, ..Capabilities::default() };
        let message = source(content.as_bytes());
        let eased = ease(outgoing, &offered, message.as_ref()).await;
        assert_eq!((eased.body, eased.smtputf8), expected, "{to} {content:?}");
    }

    #[tokio::test]
    async fn what_is_not_needed_is_not_asked_for() {
        use BodyType::{EightBitMime, SevenBit};
        const PLAIN: &str = "Subject: x\r\n\r\nCoo.\r\n";
        const BODY: &str = "Subject: x\r\n\r\nGurré.\r\n";
        const HEADER: &str = "Subject: Gurré\r\n\r\nCoo.\r\n";
        let eight = |content, expected| {
            check(("b@x.test", EightBitMime, false), (false, false), content, (expected, false))
        };
        eight(PLAIN, SevenBit).await;
        eight(BODY, EightBitMime).await;
        eight(HEADER, EightBitMime).await;
        // Who has it is asked for it.
        let has = (true, true);
        check(("b@x.test", EightBitMime, true), has, PLAIN, (EightBitMime, true)).await;
        let utf8 = |to, content, expected| {
            check((to, EightBitMime, true), (true, false), content, (EightBitMime, expected))
        };
        utf8("b@x.test", BODY, false).await;
        utf8("b@bücher.test", PLAIN, false).await;
        utf8("ü@x.test", PLAIN, true).await;
        utf8("b@x.test", HEADER, true).await;
    }
}
