//! A message as it is committed, and whose it is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use merpati_types::{ByMode, Envelope, HeaderEdits, Host, Mailbox, Timestamp};

/// The tag that names the listener which took a message.
pub const LISTENER_TAG: &str = "listener";

/// What is kept with a message besides envelope and bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Why the message is held; a held message is not attempted until released.
    pub hold: Option<String>,
    /// The mailbox folder to deliver into, if not the inbox.
    pub folder: Option<String>,
    /// No attempt before this moment.
    pub not_before: Option<Timestamp>,
    /// MT-PRIORITY (RFC 6710), -9 to 9.
    pub priority: i8,
    /// The pool of source addresses to deliver from.
    pub source_pool: Option<String>,
    /// By when it must be delivered, if the sender said so (DELIVERBY, RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// Free tags; [`LISTENER_TAG`] is among them.
    pub tags: BTreeMap<String, String>,
}

/// The sender's deadline (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// The deadline.
    pub at: Timestamp,
    /// What is to happen once it has passed.
    pub mode: ByMode,
    /// Whether the sender wants to hear of each hop.
    pub trace: bool,
}

/// Where a message came from; for DSNs and the queue's listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address; none for messages of our own.
    pub address: Option<IpAddr>,
    /// The name it gave in hello.
    pub hello: Option<String>,
    /// The account it had proved.
    pub account: Option<String>,
    /// Tells this transaction from all others, if a client that lost our reply may repeat it.
    pub repeat: Option<RepeatKey>,
}

/// A digest of a client, its envelope and its content as received: equal for a transaction and
/// its repetition, and for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepeatKey(pub [u8; 32]);

/// All that becomes durable together with the bytes.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Sender, recipients (at least one) and their parameters.
    pub envelope: Envelope,
    /// Changes to the header section, applied whenever the message is read.
    pub edits: HeaderEdits,
    /// Hold, folder, priority and the like.
    pub attributes: Attributes,
    /// Where it came from.
    pub origin: Origin,
    /// When it was accepted.
    pub arrived: Timestamp,
}

/// A message the spool makes itself, as part of a settlement: a DSN or a forward.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// Its envelope and the rest.
    pub message: NewMessage,
    /// The bytes, CRLF line ends.
    pub body: Bytes,
}

/// Everything about a message but its bytes and the state of its recipients.
#[derive(Clone, Debug)]
pub struct MessageInfo {
    /// The message as it was committed; `envelope.recipients` has every recipient.
    pub message: NewMessage,
    /// Octets as stored, before edits.
    pub size: u64,
}

/// Whose mail it is, where senders share what there is: the account that sent it, or else the
/// domain it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u64);

impl Flow {
    /// The flow a message belongs to.
    #[must_use]
    pub fn of(message: &NewMessage) -> Self {
        match (&message.origin.account, message.envelope.sender.mailbox().map(Mailbox::host)) {
            (Some(account), _) => Self::of_account(account),
            (None, Some(Host::Domain(domain))) => Self(digest(b'd', domain.as_ascii())),
            (None, Some(literal @ Host::Literal(_))) => Self(digest(b'd', &literal.to_string())),
            (None, None) => Self::default(),
        }
    }

    /// The flow of everything an account sends.
    #[must_use]
    pub fn of_account(account: &str) -> Self {
        Self(digest(b'a', account))
    }
}

/// FNV-1a over a tag and a text in lower case: the same in every version of this software.
pub(super) fn digest(tag: u8, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let text = text.bytes().map(|byte| byte.to_ascii_lowercase());
    std::iter::once(tag).chain(text).fold(0xcbf2_9ce4_8422_2325, step)
}
