//! Telling a repeated transaction from a new one.
//!
//! A client that never saw our 250 sends the message again (RFC 5321 §4.5.4.1). The same client,
//! the same envelope and the same content, with a Message-ID of the sender's, is the same message;
//! whether it is looked for at all, and for how long, is the spool's to say.

use aws_lc_rs::digest::{Context, SHA256};
use merpati_plugin::spool::RepeatKey;
use merpati_plugin::{Conversation, Transaction};
use merpati_types::Envelope;
use merpati_wire::Hold;

/// The content of a transaction, as it comes in.
pub(crate) struct Fingerprint(Context);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The key of the whole transaction: each part with its length, so that none runs into
    /// another.
    ///
    /// Of a deadline only its mode is part of it: whoever sends again later leaves less time.
    pub(crate) fn key(
        self,
        conversation: &Conversation,
        transaction: &Transaction,
        hold: Option<Hold>,
    ) -> RepeatKey {
        let Transaction { envelope, attributes, .. } = transaction;
        let content = self.0.finish();
        let mut whole = Context::new(&SHA256);
        let mut part = |text: &str| {
            whole.update(&(text.len() as u64).to_le_bytes());
            whole.update(text.as_bytes());
        };
        match &conversation.account {
            Some(account) => part(&format!("account {}", account.login)),
            None => part(&format!("host {}", conversation.connection.peer.ip().to_canonical())),
        }
        part(&envelope.sender.to_string());
        for recipient in &envelope.recipients {
            part(&recipient.address.to_string());
            part(&format!("{:?} {:?}", recipient.notify, recipient.orcpt));
        }
        let Envelope { ret, envid, body, smtputf8, requiretls, .. } = envelope;
        part(&format!("{ret:?} {envid:?} {body:?} {smtputf8} {requiretls}"));
        let by = attributes.deliver_by.map(|by| (by.mode, by.trace));
        part(&format!("{hold:?} {by:?} {}", attributes.priority));
        whole.update(content.as_ref());
        let mut key = [0; 32];
        key.copy_from_slice(whole.finish().as_ref());
        RepeatKey(key)
    }
}
