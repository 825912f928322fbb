//! How the server is, and what it is doing.

use merpati_plugin::spool::{Health, IndexState};
use serde::{Deserialize, Serialize};

use super::StatsView;
use crate::admin::Phase;

/// How the server is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to say.
    Ok,
    /// It works, and an operator should look.
    Degraded,
    /// It cannot do what it is there for.
    Failing,
}

/// Whether all mail in the spool can be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Index {
    /// All mail can be found.
    #[default]
    Whole,
    /// Older mail is being looked up after a start; new mail flows.
    Loading,
    /// The index was no good and is made anew; new mail flows.
    Rebuilding,
    /// The index cannot be written: memory grows until a restart.
    Lost,
}

/// Whether mail is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyView {
    /// Whether it is.
    pub ready: bool,
    /// What the server is doing.
    pub phase: Phase,
    /// Why mail is not taken; or, if it is, what else there is to say.
    pub reasons: Vec<String>,
}

/// How the server is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthView {
    /// All in all.
    pub status: Status,
    /// Whether mail is taken.
    pub ready: bool,
    /// What the server is doing.
    pub phase: Phase,
    /// One line for each thing that is not as it should be.
    pub reasons: Vec<String>,
    /// How the spool is.
    pub spool: SpoolHealthView,
    /// Why new mail is turned away for want of room, if it is.
    pub shedding: Option<String>,
    /// Whether answers of the DNS are validated.
    #[serde(default)]
    pub dnssec: DnssecView,
}

/// Whether answers of the DNS are validated (DNSSEC).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnssecView {
    /// `validating`, `off`, `unknown` while the servers have not answered, `stripped` if they hand
    /// no signatures on, or `untrusted` if no signature holds. Without `validating` there is no
    /// DANE.
    pub state: String,
    /// Why it is not as it should be, if so.
    pub reason: Option<String>,
    /// Whether an operator has to look: mail to signed domains waits.
    #[serde(default)]
    pub degraded: bool,
}

/// How the spool is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolHealthView {
    /// Why new mail is refused for want of space, if it is.
    pub full: Option<String>,
    /// Why nothing can be made durable at present, if so.
    pub failing: Option<String>,
    /// Places that could not be read since the start.
    pub damaged: u64,
    /// Whether all mail can be found.
    pub index: Index,
}

/// What has happened since the start, and where; all counts only grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityView {
    /// The server's time in milliseconds since 1970: rates are differences over it.
    pub at: i64,
    /// How the server is.
    pub status: Status,
    /// What there is to say about that.
    pub reasons: Vec<String>,
    /// The queue.
    pub queue: StatsView,
    /// Messages accepted.
    pub accepted: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Recipients deferred.
    pub deferred: u64,
    /// Recipients failed or given up.
    pub bounced: u64,
    /// The next hops with the most attempts lately, the busiest first.
    pub hops: Vec<HopView>,
}

/// What happens at a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopView {
    /// The domain, or literal with brackets.
    pub domain: String,
    /// Messages that wait for it.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
    /// Recipients delivered, since it is among the busiest.
    pub delivered: u64,
    /// Recipients deferred, likewise.
    pub deferred: u64,
    /// Recipients failed or given up, likewise.
    pub bounced: u64,
    /// What it said to the last one that was not delivered.
    pub last: Option<String>,
}

impl From<Health> for SpoolHealthView {
    fn from(health: Health) -> Self {
        let Health { full, failing, damaged, index } = health;
        Self { full, failing, damaged, index: index.into() }
    }
}

impl From<IndexState> for Index {
    fn from(state: IndexState) -> Self {
        match state {
            IndexState::Whole => Self::Whole,
            IndexState::Loading => Self::Loading,
            IndexState::Rebuilding => Self::Rebuilding,
            IndexState::Lost => Self::Lost,
        }
    }
}

impl Index {
    /// Whether not all mail is found yet.
    #[must_use]
    pub fn is_loading(self) -> bool {
        matches!(self, Self::Loading | Self::Rebuilding)
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Loading => "loading",
            Self::Rebuilding => "rebuilding",
            Self::Lost => "lost",
        }
    }
}

impl Status {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}
