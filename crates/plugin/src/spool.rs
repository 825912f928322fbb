//! The spool contract: what 250 means, and how mail leaves.
//!
//! A message is written through a [`SpoolWriter`], and from a successful
//! [`SpoolWriter::commit`] on it survives a power cut. Its recipients are grouped into
//! *parcels*, one for each next hop, each with a due time of its own. A queue runner leases
//! due parcels, attempts them, and settles what became of each recipient in one atomic step.
//! A lease carries a fencing number: whoever holds an older one is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use merpati_types::{Host, Mailbox, MessageId, Recipient, ReversePath, Timestamp};

use crate::body::BodySource;
use crate::deliver::MessageSource;

mod message;
mod operate;

pub use message::{
    Attributes, DeliverBy, Flow, FollowUp, LISTENER_TAG, MessageInfo, NewMessage, Origin, RepeatKey,
};
pub use operate::{
    Change, Changed, Cursor, Filter, Health, IndexState, Listed, ParcelState, Queued, Share, Stats,
};

/// Why the spool refused. The variants differ in what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// No room: 452 to new mail; deliveries go on.
    #[error("the spool is full: {reason}")]
    Full {
        /// Which limit, for the log.
        reason: String,
    },
    /// The storage failed: 451; the same message may be offered again.
    #[error("the spool is unavailable")]
    Unavailable(#[source] io::Error),
    /// What is stored cannot be read back; an operator must look.
    #[error("message {id} is damaged: {reason}")]
    Corrupt {
        /// Which message.
        id: MessageId,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such message or parcel (any more).
    #[error("no such message or parcel")]
    NotFound,
    /// Somebody else holds the parcel now; drop the work, change nothing.
    #[error("the lease is no longer valid")]
    StaleLease,
}

/// When a commit returns. Both are on stable storage by then; there is no third level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Sync with whoever else is ready.
    Sync,
    /// Let the committer wait this long for company: fewer syncs, later replies.
    Group {
        /// The longest wait.
        within: Duration,
    },
}

/// What a commit has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The message is kept under the writer's own id.
    New,
    /// The same transaction was kept before under this id: nothing was added.
    Repeat(MessageId),
}

/// The key that groups recipients: the recipient's domain in lower-case A-label form, or its
/// address literal with brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop(Arc<str>);

impl NextHop {
    /// The next hop of a recipient.
    #[must_use]
    pub fn of(mailbox: &Mailbox) -> Self {
        match mailbox.host() {
            Host::Domain(domain) => Self(domain.as_ascii().into()),
            literal @ Host::Literal(_) => Self(literal.to_string().into()),
        }
    }

    /// From its text form, as [`Self::as_str`] gives it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Groups recipients by next hop; the numbers are their places in `recipients`.
    #[must_use]
    pub fn split(recipients: &[Recipient]) -> BTreeMap<Self, Vec<u32>> {
        let mut parcels: BTreeMap<Self, Vec<u32>> = BTreeMap::new();
        for (place, recipient) in (0..).zip(recipients) {
            parcels.entry(Self::of(&recipient.address)).or_default().push(place);
        }
        parcels
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a parcel: the message, and the parcel's number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParcelId {
    /// The message.
    pub message: MessageId,
    /// Counts from 0 in the order of [`NextHop::split`].
    pub number: u32,
}

impl fmt::Display for ParcelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.message, self.number)
    }
}

/// A parcel as it stands: a message, and those recipients of one next hop that are not settled.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its name.
    pub id: ParcelId,
    /// Its group.
    pub next_hop: NextHop,
    /// The message it belongs to.
    pub info: Arc<MessageInfo>,
    /// Places in `info.message.envelope.recipients` that are still to be served, ascending.
    pub pending: Vec<u32>,
    /// How many attempts were settled so far.
    pub attempts: u32,
    /// When it is to be attempted next.
    pub due: Timestamp,
    /// Whether the sender was told of the delay.
    pub warned: bool,
    /// Whether an operator gave it up: it is not attempted any more, but bounced.
    pub expired: bool,
    /// Why the last attempt failed.
    pub last_reason: Option<String>,
    /// An attempt whose final dot was sent and whose reply we never saw: this host may have the
    /// message already.
    pub unknown_at: Option<String>,
    /// The reverse path to send it under, where an outbound policy has said that it is not the
    /// message's own. Never stored; reports go to the message's own.
    pub sent_as: Option<ReversePath>,
}

impl Parcel {
    /// The recipients still to be served, with their places.
    pub fn recipients(&self) -> impl Iterator<Item = (u32, &Recipient)> {
        let all = &self.info.message.envelope.recipients;
        self.pending.iter().filter_map(|&place| Some((place, all.get(place as usize)?)))
    }

    /// The reverse path of its transactions.
    #[must_use]
    pub fn reverse_path(&self) -> &ReversePath {
        self.sent_as.as_ref().unwrap_or(&self.info.message.envelope.sender)
    }

    /// The same under another reverse path.
    #[must_use]
    pub fn under(&self, sender: ReversePath) -> Self {
        Self { sent_as: Some(sender), ..self.clone() }
    }

    /// The part for one recipient.
    #[must_use]
    pub fn alone(&self, place: u32) -> Self {
        Self { pending: vec![place], ..self.clone() }
    }
}

/// The right to attempt a parcel until `until`.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The parcel.
    pub parcel: ParcelId,
    /// The fencing number: grows with every lease of the parcel.
    pub fence: u64,
    /// When the right ends unless renewed.
    pub until: Timestamp,
}

/// What became of one recipient in an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// Done: never tried again.
    Delivered,
    /// To be tried again.
    Deferred {
        /// Shown to operators.
        reason: String,
    },
    /// Done, in vain. Its DSN, if one is due, is among the follow-ups.
    Failed {
        /// Shown to operators.
        reason: String,
    },
}

/// The result of an attempt. One atomic commit.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// One result for each recipient that was attempted; others stay as they are.
    pub results: Vec<(u32, RecipientResult)>,
    /// When the parcel is due again, if a recipient remains.
    pub retry_at: Timestamp,
    /// Whether this settlement tells the sender of the delay.
    pub warned: bool,
    /// Messages that become durable with the results: DSNs, forwards.
    pub follow_ups: Vec<FollowUp>,
}

/// Which next hops to lease from.
#[derive(Clone, Debug, Default)]
pub enum NextHops {
    /// Any.
    #[default]
    All,
    /// Only these.
    Only(Vec<NextHop>),
    /// Any but these: a dead site's parcels do not hide the others.
    Except(Vec<NextHop>),
}

/// A message on its way into the spool. Dropping it leaves nothing behind.
#[async_trait]
pub trait SpoolWriter: Send {
    /// The queue id, final from the start.
    fn id(&self) -> MessageId;

    /// Appends to the message.
    ///
    /// # Errors
    /// [`SpoolError::Full`] or [`SpoolError::Unavailable`]; the message can only be dropped.
    async fn write(&mut self, bytes: Bytes) -> Result<(), SpoolError>;

    /// What was written so far, to be read while the writer lives.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`].
    async fn written(&mut self) -> Result<Arc<dyn BodySource>, SpoolError>;

    /// Makes the message durable. When this returns, the message and all that finds it again
    /// are on stable storage, and it is due.
    ///
    /// # Errors
    /// As [`Self::write`]; then nothing is kept and nothing will be delivered.
    async fn commit(
        self: Box<Self>,
        message: NewMessage,
        durability: Durability,
    ) -> Result<Committed, SpoolError>;
}

/// The spool. Every implementation passes the contract suite of the testkit.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Starts a message.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::Unavailable`].
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError>;

    /// The message for reading, its edits applied.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`], [`SpoolError::Corrupt`], [`SpoolError::Unavailable`].
    async fn message(&self, id: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError>;

    /// Leases at most `most` parcels that are due at `now`, the earliest due first.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`].
    async fn lease(
        &self,
        now: Timestamp,
        ttl: Duration,
        next_hops: &NextHops,
        most: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError>;

    /// Extends a lease.
    ///
    /// # Errors
    /// [`SpoolError::StaleLease`].
    async fn renew(&self, lease: &Lease, until: Timestamp) -> Result<Lease, SpoolError>;

    /// Gives a lease back unused: the parcel is due at `due`, no attempt is counted.
    ///
    /// # Errors
    /// [`SpoolError::StaleLease`].
    async fn release(&self, lease: Lease, due: Timestamp) -> Result<(), SpoolError>;

    /// Notes that the final dot is about to be sent to `remote`. Written, not synced.
    ///
    /// # Errors
    /// [`SpoolError::StaleLease`], [`SpoolError::Unavailable`].
    async fn attempt(&self, lease: &Lease, remote: &str) -> Result<(), SpoolError>;

    /// Records what became of an attempt, with its follow-ups, in one atomic commit. It is
    /// synced within 50 ms; with follow-ups, before this returns.
    ///
    /// # Errors
    /// [`SpoolError::StaleLease`], [`SpoolError::Full`], [`SpoolError::Unavailable`].
    async fn settle(&self, lease: Lease, settlement: Settlement) -> Result<(), SpoolError>;

    /// Returns when a parcel may be due at `now` or when one becomes so: new mail, a release, a
    /// retry whose time has come. May return early.
    async fn wait_due(&self, now: Timestamp);

    /// At most `most` parcels that match, after `cursor`, in the order of their ids.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`].
    async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        most: usize,
    ) -> Result<Vec<Listed>, SpoolError>;

    /// Changes what matches, durably: looks at about `most` parcels after `after` and says where
    /// to go on. Whoever stops in between leaves every parcel either as it was or changed.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`], [`SpoolError::Full`].
    async fn change(
        &self,
        filter: &Filter,
        change: &Change,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<Changed, SpoolError>;

    /// Notes that the client which brought this message was heard from after our reply: whatever
    /// it sends from now on is new, however equal.
    fn heard(&self, id: MessageId) {
        let _ = id;
    }

    /// How much of a share is queued.
    fn queued(&self, share: Share<'_>) -> Queued;

    /// How the spool is.
    fn health(&self) -> Health {
        Health::default()
    }

    /// Counts.
    ///
    /// # Errors
    /// [`SpoolError::Unavailable`].
    async fn stats(&self) -> Result<Stats, SpoolError>;

    /// Finishes what is in hand and closes the files. Nothing is accepted afterwards.
    async fn close(&self);
}
