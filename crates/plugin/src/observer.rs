//! Observers: they see everything and decide nothing.

use std::sync::Arc;
use std::time::Duration;

use merpati_types::{EnhancedStatus, Mailbox, MessageId, Rejection};

use crate::connection::Conversation;
use crate::deliver::DeliveryOutcome;
use crate::spool::{NewMessage, Parcel};

/// A stage of the conversation at which policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// After the connection, before the greeting.
    Connect,
    /// EHLO, HELO, LHLO.
    Hello,
    /// After a successful AUTH.
    Authenticated,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, or the first BDAT.
    Data,
    /// The whole message.
    Message,
}

impl Stage {
    /// The stage's name in logs, metrics and `explain`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Hello => "hello",
            Self::Authenticated => "authenticated",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Message => "message",
        }
    }
}

/// One answer of one policy.
#[derive(Clone, Debug)]
pub struct VerdictRecord<'a> {
    /// When it was asked.
    pub stage: Stage,
    /// Who answered.
    pub plugin: &'a str,
    /// What: a decision's name, `failed`, `timed out` or `panicked`.
    pub decision: &'static str,
    /// The reply it asks for, or why it failed.
    pub reason: Option<String>,
    /// How many effects it asked for.
    pub effects: usize,
    /// How long it took.
    pub took: Duration,
}

/// What a report from outside says about mail of ours to one recipient (RFC 3464, RFC 5965). It is
/// the claim of whoever sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// `failed`, `delayed`, `delivered`, `relayed` or `expanded`; of a feedback report `abuse`,
    /// `fraud` and so on.
    pub kind: &'static str,
    /// The recipient it is about, if that can be told.
    pub recipient: Option<Mailbox>,
    /// What kind of trouble it was, as in `merpati-dsn`.
    pub class: Option<&'static str>,
    /// The status it gives.
    pub status: Option<EnhancedStatus>,
    /// What the other system said.
    pub diagnostic: Option<String>,
    /// The envelope id that the message had.
    pub envid: Option<String>,
    /// The Message-ID of the message, without brackets.
    pub message_id: Option<String>,
    /// Whether it came to an address that only those know who have had mail from it.
    pub is_signed: bool,
    /// Whether the recipient is on the suppression list because of it.
    pub suppressed: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted.
    Connected {
        /// By whom, to where.
        conversation: &'a Conversation,
    },
    /// A connection is over.
    Disconnected {
        /// All that was known of it.
        conversation: &'a Conversation,
        /// How long it lasted.
        lasted: Duration,
        /// How many messages it brought that were kept.
        messages: u64,
    },
    /// A policy answered.
    Verdict {
        /// The peer.
        conversation: &'a Conversation,
        /// The answer.
        record: VerdictRecord<'a>,
    },
    /// A login succeeded or failed.
    Login {
        /// The peer.
        conversation: &'a Conversation,
        /// The mechanism's name.
        mechanism: &'a str,
        /// The name that was claimed.
        user: &'a str,
        /// `None` if it succeeded.
        refused: Option<&'a Rejection>,
    },
    /// A stage ended in refusal.
    Refused {
        /// The peer.
        conversation: &'a Conversation,
        /// Where.
        stage: Stage,
        /// The mailbox or path it was about, if any.
        subject: Option<&'a str>,
        /// The message, if there was one already.
        id: Option<MessageId>,
        /// What the peer was told.
        rejection: &'a Rejection,
    },
    /// A message is durable; its 250 follows.
    Accepted {
        /// The peer.
        conversation: &'a Conversation,
        /// The message.
        id: MessageId,
        /// Envelope and attributes.
        message: &'a NewMessage,
        /// Octets as received.
        size: u64,
        /// From MAIL to durable.
        took: Duration,
    },
    /// A policy discarded a message: the peer hears 250, nothing is kept.
    Discarded {
        /// The peer.
        conversation: &'a Conversation,
        /// The id it would have had.
        id: MessageId,
    },
    /// A client that never saw our 250 has repeated its transaction: it hears 250 once more,
    /// nothing is kept twice.
    Repeated {
        /// The peer.
        conversation: &'a Conversation,
        /// The id the message was kept under the first time.
        id: MessageId,
    },
    /// One recipient of an attempt.
    Attempted {
        /// The parcel.
        parcel: &'a Parcel,
        /// The recipient's place in the message's envelope.
        recipient: u32,
        /// The transport's name.
        transport: &'a str,
        /// What became of it.
        outcome: &'a DeliveryOutcome,
        /// Whether it is given up: failed, or expired.
        bounced: bool,
    },
    /// A report from outside has come in; one event for each recipient it speaks of.
    Heard {
        /// The message that brought it; none if it was read and not kept.
        id: Option<MessageId>,
        /// What it says.
        news: &'a News,
    },
    /// A DSN was queued.
    Reported {
        /// The message it is about.
        about: MessageId,
        /// `failed`, `delayed`, `relayed`, …
        action: &'static str,
    },
}

/// Sees events as they happen, on the path that caused them: it must be quick and cannot block.
pub trait Observer: Send + Sync {
    /// Takes note.
    fn observe(&self, event: &Event<'_>);
}

/// All observers of a process.
#[derive(Clone, Default)]
pub struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    /// These observers, told in this order.
    #[must_use]
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers.into())
    }

    /// Tells every observer.
    pub fn tell(&self, event: &Event<'_>) {
        for observer in self.0.iter() {
            observer.observe(event);
        }
    }
}
