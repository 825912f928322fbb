//! The message on its way in, as policies see it.

use merpati_types::{Envelope, HeaderEdits, HeaderSection, Mailbox, Recipient};

use crate::body::BodySource;
use crate::decision::{Effect, Effects};
use crate::facts::Facts;
use crate::spool::{Attributes, Durability};

/// A transaction from MAIL on: the envelope, and what the policies have made of it so far.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The sender, the parameters, and the recipients accepted so far.
    pub envelope: Envelope,
    /// The size the client declared, in octets.
    pub declared_size: Option<u64>,
    /// The edits to the header section asked for so far.
    pub edits: HeaderEdits,
    /// What is kept with the message in the spool.
    pub attributes: Attributes,
    /// How the message will be made durable.
    pub durability: Durability,
    /// What policies have established.
    pub facts: Facts,
}

impl Transaction {
    /// A transaction with nothing done to it.
    #[must_use]
    pub fn new(envelope: Envelope, declared_size: Option<u64>) -> Self {
        Self {
            envelope,
            declared_size,
            edits: HeaderEdits::default(),
            attributes: Attributes::default(),
            durability: Durability::Sync,
            facts: Facts::default(),
        }
    }

    /// Makes the changes a policy asked for.
    pub fn apply(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Header(edit) => self.edits.push(edit),
                Effect::AddRecipient(recipient) => self.add_recipient(recipient),
                Effect::RemoveRecipient(mailbox) => self.remove_recipient(&mailbox),
                // The chain has done it.
                Effect::Readdress(_) => {}
                Effect::Hold(reason) => self.attributes.hold = Some(reason),
                Effect::Quarantine(folder) => self.attributes.folder = Some(folder),
                Effect::NotBefore(when) => self.attributes.not_before = Some(when),
                Effect::Priority(priority) => self.attributes.priority = priority.clamp(-9, 9),
                Effect::Durability(durability) => self.durability = durability,
                Effect::SourcePool(pool) => self.attributes.source_pool = Some(pool),
                Effect::Tag(key, value) => {
                    self.attributes.tags.insert(key, value);
                }
                Effect::Fact(fact) => self.facts.set(fact),
            }
        }
    }

    /// Adds a recipient once: a second RCPT for the same mailbox is the same recipient.
    pub fn add_recipient(&mut self, recipient: Recipient) {
        if !self.envelope.recipients.iter().any(|known| known.address == recipient.address) {
            self.envelope.recipients.push(recipient);
        }
    }

    fn remove_recipient(&mut self, mailbox: &Mailbox) {
        self.envelope.recipients.retain(|known| &known.address != mailbox);
    }
}

/// A received message before it is promised to anybody.
pub struct Message<'a> {
    /// The header section as received; edits so far are in [`Transaction::edits`].
    pub headers: &'a HeaderSection,
    /// The whole message, header section included.
    pub source: &'a dyn BodySource,
}
