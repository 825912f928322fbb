//! What the three roles differ in.

use std::time::Duration;

use merpati_config::sections::{AuthRule, OfferRule};
use merpati_server::TraceClient;

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes mail from authenticated users (RFC 6409).
    Submission,
    /// Takes mail from trusted hosts and delivers it.
    Relay,
    /// Takes mail for local domains from anybody.
    Mx,
}

impl Kind {
    /// The name of the binary.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Submission => "merpati-submission",
            Self::Relay => "merpati-relay",
            Self::Mx => "merpati-mx",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Submission => "Takes mail from authenticated users and sends it on.",
            Self::Relay => "Takes mail from trusted hosts, queues it and delivers it.",
            Self::Mx => "Takes mail for local domains from the internet.",
        }
    }

    /// Policies that are in every chain of the role. One that the configuration names stands
    /// where it is named; the others stand first, in this order.
    pub(crate) fn implied(self) -> &'static [&'static str] {
        match self {
            Self::Submission => &["sender", "trusted", "fixups", "loops"],
            Self::Relay | Self::Mx => &["loops"],
        }
    }

    /// Whether clients authenticate where the configuration does not say.
    pub(crate) fn auth(self) -> AuthRule {
        match self {
            Self::Submission => AuthRule::Required,
            Self::Relay | Self::Mx => AuthRule::None,
        }
    }

    /// How long a client may have mail held where the configuration does not say. It is for
    /// submission (RFC 4865 §4).
    pub(crate) fn future_release(self) -> Duration {
        match self {
            Self::Submission => Duration::from_secs(7 * 86_400),
            Self::Relay | Self::Mx => Duration::ZERO,
        }
    }

    /// Who may ask for deadlines and priorities where the configuration does not say. A relay
    /// takes mail from trusted hosts only; strangers have no say in our queue.
    pub(crate) fn offer(self) -> OfferRule {
        match self {
            Self::Submission => OfferRule::Authenticated,
            Self::Relay => OfferRule::Anybody,
            Self::Mx => OfferRule::None,
        }
    }

    /// How long repeated transactions are known again where the configuration does not say. What
    /// strangers send twice, they may mean twice.
    pub(crate) fn repeat_window(self) -> Duration {
        match self {
            Self::Submission | Self::Relay => Duration::from_secs(2 * 3600),
            Self::Mx => Duration::ZERO,
        }
    }

    /// Users' addresses are nobody's business; hosts' are what traces are for.
    pub(crate) fn trace_client(self) -> TraceClient {
        match self {
            Self::Submission => TraceClient::Hidden,
            Self::Relay | Self::Mx => TraceClient::Shown,
        }
    }
}
