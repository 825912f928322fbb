//! Transports: how a parcel leaves.

mod rests;

use std::sync::Arc;

use async_trait::async_trait;
use merpati_types::{EnhancedStatus, Rejection};

use crate::body::BodyReader;
use crate::explain::Finding;
use crate::outbound::OutboundChain;
use crate::spool::{Parcel, SpoolError};

pub use rests::{SourceRest, SourceRests};

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// The verdict.
    pub result: DeliveryResult,
    /// The host that gave it, as `name [address]:port`, or a local path.
    pub remote: Option<String>,
    /// The diagnostic in the peer's own words, with its code, for DSNs and logs.
    pub diagnostic: String,
    /// The source that was used, by its name in configuration; `None` is the system's choice, or
    /// that nobody was spoken to.
    pub source: Option<Arc<str>>,
}

/// The verdict on one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryResult {
    /// The next host has taken responsibility, or the message is in its mailbox.
    Delivered(Handover),
    /// Try again.
    Deferred {
        /// What went wrong.
        status: EnhancedStatus,
        /// Which retry schedule applies.
        class: DeferClass,
    },
    /// Never try again.
    Failed {
        /// What went wrong.
        status: EnhancedStatus,
    },
}

/// Who reports on a delivered message from here on (RFC 3461 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The message is where it was going; a report of success is ours to send.
    Final,
    /// The next hop knows no DSN: we say "relayed", if success was asked for.
    Relayed,
    /// The next hop knows DSN and has been told what is wanted: nothing is ours.
    PassedOn,
}

/// Why a delivery is deferred: the retry schedule differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeferClass {
    /// No connection, or a broken one: the whole site is suspect.
    Connection,
    /// The host is not as secure as it must be for this message.
    Security,
    /// The peer said 4xx to the session or the message.
    Peer,
    /// The peer said 4xx to this recipient only.
    Recipient,
    /// The DNS gave no answer.
    Dns,
    /// Something of ours: a full disk, a plugin that failed.
    Local,
}

/// A message as a transport reads it: edits applied, in pieces, as often as needed.
#[async_trait]
pub trait MessageSource: Send + Sync {
    /// Length in octets after edits.
    fn size(&self) -> u64;

    /// Starts a pass over the whole message, header section first.
    ///
    /// # Errors
    /// What the spool said.
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError>;
}

/// Takes notes during an attempt, so that a crash leaves a trace of what was in flight.
#[async_trait]
pub trait AttemptNotes: Send + Sync {
    /// The final dot is about to be sent: from here the peer may have the message although we
    /// do not know. Written at once, not synced.
    async fn final_dot(&self, remote: &str);

    /// A connection is about to be opened: it counts towards the site's rate. A transport that
    /// has no connections, or uses one that is open, says nothing.
    fn connecting(&self) {}
}

/// One attempt at delivering a parcel.
pub struct Job {
    /// The parcel: envelope, and the recipients still to be served.
    pub parcel: Arc<Parcel>,
    /// The message.
    pub message: Arc<dyn MessageSource>,
    /// Where to note what is in flight.
    pub notes: Arc<dyn AttemptNotes>,
    /// Who is asked at *dial* and *tls*, by transports that have connections. The other stages
    /// are the queue runner's.
    pub outbound: OutboundChain,
}

/// How far an explanation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExplainHow {
    /// What can be looked up.
    #[default]
    LookUp,
    /// Also what hosts show when they are connected to.
    Dial,
}

/// A transport. One object per configured transport, shared by all attempts.
#[async_trait]
pub trait Deliverer: Send + Sync {
    /// The name in configuration, logs and metrics.
    fn name(&self) -> &str;

    /// The site that takes the parcel: parcels of one site share limits. Known before the
    /// attempt and cheap; the default is the next hop's name.
    async fn site(&self, parcel: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        Ok(parcel.next_hop.as_str().into())
    }

    /// Where the parcel would go, and on what terms; nothing is sent. The default has nothing to
    /// tell. Bounded in time.
    async fn explain(&self, _parcel: &Parcel, _how: ExplainHow) -> Vec<Finding> {
        Vec::new()
    }

    /// Tries every recipient of the parcel once. The outcomes are in the order of
    /// `job.parcel.recipients`, one for each.
    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome>;
}

impl DeliveryOutcome {
    /// The outcome that a refusal of ours means.
    #[must_use]
    pub fn refused(rejection: &Rejection, class: DeferClass) -> Self {
        let status = rejection.enhanced();
        let result = match rejection.severity() {
            merpati_types::Severity::Transient => DeliveryResult::Deferred { status, class },
            merpati_types::Severity::Permanent => DeliveryResult::Failed { status },
        };
        Self { result, remote: None, diagnostic: rejection.to_string(), source: None }
    }
}
