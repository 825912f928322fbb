//! What operators see of the queue, and what they do to it.

use merpati_types::{MessageId, Timestamp};

use super::message::digest;
use super::{NextHop, Parcel, ParcelId};

/// Which messages an operator means. Every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// This message.
    pub id: Option<MessageId>,
    /// The reverse path without brackets contains this text, ignoring ASCII case.
    pub sender: Option<String>,
    /// A pending recipient contains this text, ignoring ASCII case.
    pub recipient: Option<String>,
    /// The next hop is this one.
    pub next_hop: Option<NextHop>,
    /// The parcel is in this state.
    pub state: Option<ParcelState>,
    /// Arrived before this moment.
    pub arrived_before: Option<Timestamp>,
    /// Arrived at this moment or later.
    pub arrived_after: Option<Timestamp>,
    /// The last reason contains this text, ignoring ASCII case.
    pub reason: Option<String>,
}

/// The state of a parcel as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParcelState {
    /// Due, or waiting for its first attempt.
    Active,
    /// Attempted in vain, and waiting.
    Deferred,
    /// Held until released.
    Held,
    /// Leased: an attempt is under way.
    Leased,
}

/// A line of the queue's listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The parcel.
    pub parcel: Parcel,
    /// Its state at the time of listing.
    pub state: ParcelState,
}

/// Where a listing goes on; opaque, valid across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub ParcelId);

/// Counts of what is in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages with at least one recipient pending.
    pub messages: u64,
    /// Parcels due or waiting for their first attempt.
    pub active: u64,
    /// Parcels waiting after an attempt in vain.
    pub deferred: u64,
    /// Parcels held.
    pub held: u64,
    /// Parcels leased.
    pub leased: u64,
    /// Octets of the live messages as received.
    pub bytes: u64,
    /// Whether older mail is still being looked up after a start, and not all counted yet.
    pub loading: bool,
}

/// What an operator does to parcels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not attempted until released.
    Hold {
        /// Shown to operators.
        reason: String,
    },
    /// What is held is due at this moment.
    Release {
        /// The moment.
        due: Timestamp,
    },
    /// What waits is due at this moment; what is held stays so.
    Requeue {
        /// The moment.
        due: Timestamp,
    },
    /// Given up: due at this moment, and the next attempt bounces it.
    Expire {
        /// The moment.
        due: Timestamp,
    },
    /// Removed without telling anybody.
    Delete,
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Parcels that were changed, durably.
    pub parcels: u64,
    /// Where to go on, if there is more to look at.
    pub next: Option<Cursor>,
}

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why new mail is refused for want of space, if it is.
    pub full: Option<String>,
    /// Why nothing can be made durable at present, if so.
    pub failing: Option<String>,
    /// Places in the spool that cannot be read, since the start.
    pub damaged: u64,
    /// Whether all mail can be found.
    pub index: IndexState,
}

/// Whether what finds mail again is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// All mail can be found.
    #[default]
    Whole,
    /// After a start, older mail is being looked up; new mail flows.
    Loading,
    /// The index was no good and is made anew from the truth; new mail flows.
    Rebuilding,
    /// The index cannot be written: memory grows until a restart.
    Lost,
}

/// A part of the queue that a quota can be set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share<'a> {
    /// Everything.
    Whole,
    /// What an account has sent.
    Account(&'a str),
    /// What has this reverse path, without brackets; the null path is empty.
    Sender(&'a str),
    /// What has a reverse path in this domain, spelled as [`NextHop::of`] does.
    SenderDomain(&'a str),
    /// What has a recipient at this next hop.
    NextHop(&'a NextHop),
}

impl Share<'_> {
    /// The number that stands for this share in counts, the same in every version.
    #[must_use]
    pub fn digest(&self) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Account(account) => digest(b'a', account),
            Self::Sender(address) => digest(b's', address),
            Self::SenderDomain(domain) => digest(b'd', domain),
            Self::NextHop(hop) => digest(b'h', hop.as_str()),
        }
    }
}

/// How much of a share is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Messages with a recipient pending.
    pub messages: u64,
    /// Their octets as received.
    pub bytes: u64,
}
