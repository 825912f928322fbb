//! What the admin API and its clients say to each other, as JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /health` | 200, or 503 while nothing can be made durable; [`HealthView`] |
//! | `GET /ready` | 200 while it takes mail, else 503; [`ReadyView`] |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /v1/health` | 200; [`HealthView`] |
//! | `GET /v1/activity` | [`ActivityView`] |
//! | `GET /v1/queue/stats` | [`StatsView`] |
//! | `POST /v1/queue/list` [`ListRequest`] | [`ListPage`] |
//! | `GET /v1/queue/message/ID` | [`MessageView`] |
//! | `GET /v1/queue/message/ID/raw` | the message, as it would be delivered |
//! | `POST /v1/queue/ACTION` [`ActionRequest`] | [`Changed`]; `hold`, `release`, `retry`, `bounce`, `delete` |
//! | `POST /v1/suppression/list` [`SuppressionListRequest`] | [`SuppressionPage`] |
//! | `POST /v1/suppression/add` [`SuppressionAddRequest`] | [`SuppressionView`] |
//! | `POST /v1/suppression/remove` [`SuppressionWho`] | [`SuppressionView`], what was removed; 404 if there was none |
//! | `POST /v1/suppression/show` [`SuppressionWho`] | [`SuppressionPage`], with the domain's; 404 if there is none |
//!
//! An action changes a step of the queue and says where the next step begins: the client asks
//! again until there is none. Each step is durable when it is answered, so whoever stops in
//! between, or in the middle of one, leaves every parcel either as it was or changed.
//!
//! What goes wrong is answered with [`ErrorView`] and 400, 404, 503 or another status.

use std::collections::BTreeMap;

use merpati_plugin::Finding;
use merpati_plugin::spool::{DeliverBy, Listed, MessageInfo, Parcel, ParcelState, Stats};
use merpati_types::ByMode;
use serde::{Deserialize, Serialize};

mod status;
mod suppression;

pub use status::{
    ActivityView, DnssecView, HealthView, HopView, Index, ReadyView, SpoolHealthView, Status,
};
pub use suppression::{
    SuppressionAddRequest, SuppressionListRequest, SuppressionPage, SuppressionView, SuppressionWho,
};

/// Which parcels are meant. Every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// All of them: an action without any other field needs this.
    pub all: bool,
    /// This message.
    pub id: Option<String>,
    /// The sender contains this text.
    pub sender: Option<String>,
    /// A pending recipient contains this text.
    pub recipient: Option<String>,
    /// The next hop is this domain, or literal with brackets.
    pub domain: Option<String>,
    /// The state is this.
    pub state: Option<State>,
    /// Arrived at least so many seconds ago.
    pub older_seconds: Option<u64>,
    /// Arrived at most so many seconds ago.
    pub younger_seconds: Option<u64>,
    /// The last reason contains this text.
    pub reason: Option<String>,
}

/// The state of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Due, or waiting for its first attempt.
    Active,
    /// Attempted in vain, and waiting.
    Deferred,
    /// Held until released.
    Held,
    /// An attempt is under way.
    Leased,
}

/// Asks for a page of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListRequest {
    /// Which.
    pub selection: Selection,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// How many at most; default 100, at most 1000.
    pub limit: Option<usize>,
}

/// A page of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    /// The parcels, oldest message first.
    pub parcels: Vec<ParcelView>,
    /// Where the next page begins, if there may be one.
    pub cursor: Option<String>,
}

/// What `POST /v1/explain/rcpt` is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The recipient.
    pub address: String,
    /// Who the message would be from; nobody if left out.
    #[serde(default)]
    pub sender: Option<String>,
    /// Whether the sender would ask for REQUIRETLS.
    #[serde(default)]
    pub requiretls: bool,
    /// Whether hosts are connected to.
    #[serde(default)]
    pub dial: bool,
}

/// A step of a decision, or a fact that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// What it is about.
    pub key: String,
    /// What was found.
    pub value: String,
    /// Why it is so; empty where that goes without saying.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it rests on, or what follows from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<FindingView>,
}

impl FindingView {
    /// The view of a finding.
    #[must_use]
    pub fn of(found: &Finding) -> Self {
        Self {
            key: found.key.to_owned(),
            value: found.value.clone(),
            why: found.why.clone(),
            below: found.below.iter().map(Self::of).collect(),
        }
    }
}

/// A message and those of its recipients with one next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParcelView {
    /// `message/number`.
    pub id: String,
    /// The queue id of the message.
    pub message: String,
    /// Its number among the parcels of the message.
    pub number: u32,
    /// The reverse path, without brackets; empty for the null path.
    pub sender: String,
    /// The recipients that are still to be served.
    pub recipients: Vec<String>,
    /// The domain or literal they have in common.
    pub domain: String,
    /// Its state.
    pub state: State,
    /// Attempts so far.
    pub attempts: u32,
    /// When the message arrived, RFC 3339.
    pub arrived: String,
    /// When the next attempt is due, RFC 3339.
    pub due: String,
    /// Octets of the message as received.
    pub size: u64,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// Whether the sender was told of the delay.
    pub warned: bool,
    /// Whether the next attempt bounces it.
    pub expired: bool,
    /// The host that may have it already: the end of the message was sent there, and no reply
    /// was seen.
    pub unknown_at: Option<String>,
}

/// A message, and its parcels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// The queue id.
    pub id: String,
    /// The reverse path, without brackets; empty for the null path.
    pub sender: String,
    /// All recipients, those served already included.
    pub recipients: Vec<String>,
    /// When it arrived, RFC 3339.
    pub arrived: String,
    /// Octets as received.
    pub size: u64,
    /// The peer's address.
    pub peer: Option<String>,
    /// The name the peer gave in hello.
    pub hello: Option<String>,
    /// The account it came from.
    pub account: Option<String>,
    /// Why it was held when it came, if it was.
    pub hold: Option<String>,
    /// MT-PRIORITY (RFC 6710), -9 to 9.
    pub priority: i8,
    /// No attempt before this moment, RFC 3339.
    pub not_before: Option<String>,
    /// The sender's deadline (RFC 2852).
    pub deliver_by: Option<DeadlineView>,
    /// The folder it is to go to.
    pub folder: Option<String>,
    /// The sender's name for the transaction (RFC 3461).
    pub envid: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What is left to do.
    pub parcels: Vec<ParcelView>,
}

/// By when a message is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlineView {
    /// The moment, RFC 3339.
    pub at: String,
    /// What happens then: `return` or `notify`.
    pub mode: String,
}

/// Asks for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionRequest {
    /// To what.
    pub selection: Selection,
    /// Why; shown with held mail.
    pub reason: Option<String>,
    /// Where the last step ended.
    pub cursor: Option<String>,
    /// How many parcels to look at, about; default 1,000, at most 10,000.
    pub step: Option<usize>,
}

/// What a step of an action did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// How many parcels were changed.
    pub changed: u64,
    /// Where the next step begins, if there may be more to change.
    pub next: Option<String>,
}

/// Counts of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsView {
    /// Messages with a recipient left.
    pub messages: u64,
    /// Parcels that are due.
    pub active: u64,
    /// Parcels that wait after an attempt in vain.
    pub deferred: u64,
    /// Parcels held.
    pub held: u64,
    /// Parcels under way.
    pub leased: u64,
    /// Octets of the messages as received.
    pub octets: u64,
    /// Whether older mail is still being looked up after a start, and not all is counted.
    pub loading: bool,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// One line.
    pub error: String,
}

impl ParcelView {
    /// How a listed parcel is shown.
    #[must_use]
    pub fn of(listed: &Listed) -> Self {
        let Parcel { id, info, .. } = &listed.parcel;
        Self {
            id: id.to_string(),
            message: id.message.to_string(),
            number: id.number,
            sender: sender(info),
            recipients: listed.parcel.recipients().map(|(_, r)| r.address.to_string()).collect(),
            domain: listed.parcel.next_hop.as_str().to_owned(),
            state: listed.state.into(),
            attempts: listed.parcel.attempts,
            arrived: info.message.arrived.to_string(),
            due: listed.parcel.due.to_string(),
            size: info.size,
            reason: listed.parcel.last_reason.clone(),
            warned: listed.parcel.warned,
            expired: listed.parcel.expired,
            unknown_at: listed.parcel.unknown_at.clone(),
        }
    }
}

impl MessageView {
    /// A message from the listing of its parcels; `None` if there are none.
    #[must_use]
    pub fn of(parcels: &[Listed]) -> Option<Self> {
        let Parcel { id, info, .. } = &parcels.first()?.parcel;
        let message = &info.message;
        let recipients = message.envelope.recipients.iter();
        Some(Self {
            id: id.message.to_string(),
            sender: sender(info),
            recipients: recipients.map(|recipient| recipient.address.to_string()).collect(),
            arrived: message.arrived.to_string(),
            size: info.size,
            peer: message.origin.address.map(|address| address.to_string()),
            hello: message.origin.hello.clone(),
            account: message.origin.account.clone(),
            hold: message.attributes.hold.clone(),
            priority: message.attributes.priority,
            not_before: message.attributes.not_before.map(|moment| moment.to_string()),
            deliver_by: message.attributes.deliver_by.as_ref().map(DeadlineView::of),
            folder: message.attributes.folder.clone(),
            envid: message.envelope.envid.as_ref().map(ToString::to_string),
            tags: message.attributes.tags.clone(),
            parcels: parcels.iter().map(ParcelView::of).collect(),
        })
    }
}

impl DeadlineView {
    fn of(deadline: &DeliverBy) -> Self {
        let mode = match deadline.mode {
            ByMode::Return => "return",
            ByMode::Notify => "notify",
        };
        Self { at: deadline.at.to_string(), mode: mode.to_owned() }
    }
}

fn sender(info: &MessageInfo) -> String {
    let path = info.message.envelope.sender.to_string();
    path.trim_start_matches('<').trim_end_matches('>').to_owned()
}

impl State {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Leased => "leased",
        }
    }
}

impl From<ParcelState> for State {
    fn from(state: ParcelState) -> Self {
        match state {
            ParcelState::Active => Self::Active,
            ParcelState::Deferred => Self::Deferred,
            ParcelState::Held => Self::Held,
            ParcelState::Leased => Self::Leased,
        }
    }
}

impl From<State> for ParcelState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Deferred => Self::Deferred,
            State::Held => Self::Held,
            State::Leased => Self::Leased,
        }
    }
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> Self {
        Self {
            messages: stats.messages,
            active: stats.active,
            deferred: stats.deferred,
            held: stats.held,
            leased: stats.leased,
            octets: stats.bytes,
            loading: stats.loading,
        }
    }
}
