//! What the handshake means, once it has been tried.

use std::fmt;

use merpati_types::{Host, Severity, Status};

use super::{Asked, Failure, Need, Security, Source, Trial};
use crate::tls_rpt::{Fault, PolicyType, ResultType};
use crate::tlsa::Usage;

/// What came of trying TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The server offers none, or refused to begin it.
    NotOffered,
    /// The two could not agree. A connection that broke for another reason is no handshake.
    Failed,
    /// It was done, and this was presented.
    Done(Presented),
}

/// What the server presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Those of [`Security::names`] that the certificate is for.
    pub names: Vec<Host>,
    /// Whether all of the path is valid today.
    pub dates: Dates,
    /// Whether its path leads to a trusted authority.
    pub issuer: Issuer,
    /// As what a TLSA record, or a pin, fits (see [`crate::tlsa::find`]). For a trust anchor the
    /// path to it holds, whatever the dates.
    pub tlsa: Option<Usage>,
}

/// Whether certificates are valid today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// They are.
    Valid,
    /// One is not any more, or not yet.
    Expired,
}

/// Who vouches for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// An authority that is trusted.
    Trusted,
    /// Nobody who is: it is self-signed, or the path does not hold.
    Unknown,
}

/// Whether the server says REQUIRETLS, after the handshake (RFC 8689 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequireTls {
    /// It does.
    Offered,
    /// It does not.
    NotOffered,
}

/// What to do with the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Deliver, over TLS.
    Deliver,
    /// Deliver, on this connection and in the clear.
    DeliverInClear,
    /// Deliver in the clear, on a new connection: this one is lost.
    ReconnectInClear,
    /// Go on to the next host; if there is none, wait or bounce as the failure says.
    NextHost(Failure),
}

/// The outcome, and what is reported of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub outcome: Outcome,
    /// What failed, whether or not that keeps the message back; in order, and each once.
    pub reports: Vec<Fault>,
}

impl Security {
    /// What the handshake means for the message.
    #[must_use]
    pub fn judge(&self, handshake: &Handshake) -> Verdict {
        let mut reports = self.faults.clone();
        reports.extend(self.trial_fault(handshake));
        let fault = self.fault(handshake);
        let own = |result| Fault { policy: self.own_policy(), result };
        let outcome = match (&self.need, handshake) {
            (Need::SkipHost(failure), _) => Outcome::NextHost(failure.clone()),
            (Need::Clear, _) => Outcome::DeliverInClear,
            (Need::Opportunistic, Handshake::NotOffered) => Outcome::DeliverInClear,
            (Need::Opportunistic, Handshake::Failed) => Outcome::ReconnectInClear,
            _ => match fault {
                None => Outcome::Deliver,
                Some(result) => Outcome::NextHost(self.failure(result, handshake)),
            },
        };
        // A domain whose policy is on trial hears of what failed under that policy.
        let heard = self.need == Need::Opportunistic && self.trial.is_some();
        reports.extend(fault.filter(|_| !heard).map(own));
        reports.sort_unstable();
        reports.dedup();
        Verdict { outcome, reports }
    }

    /// What the server's hello after the handshake means: a message with REQUIRETLS goes only to
    /// who promises to go on so.
    ///
    /// # Errors
    /// The failure, when the host must not have the message.
    pub fn judge_hello(&self, host: impl fmt::Display, offer: RequireTls) -> Result<(), Failure> {
        if self.asked != Asked::RequireTls || offer == RequireTls::Offered {
            return Ok(());
        }
        let text =
            format!("the sender requires TLS all the way, but {host} does not offer REQUIRETLS");
        Err(Failure { severity: Severity::Permanent, status: Status::REQUIRETLS, text })
    }

    /// What is wrong with the handshake, measured by what is needed.
    fn fault(&self, handshake: &Handshake) -> Option<ResultType> {
        if matches!(self.need, Need::Clear | Need::SkipHost(_)) {
            return None;
        }
        let presented = match begun(handshake) {
            Ok(presented) => presented,
            Err(result) => return Some(result),
        };
        match &self.need {
            Need::Dane { names, .. } => fits(presented, names),
            Need::Pinned { name, .. } => fits(presented, std::slice::from_ref(name)),
            Need::WebPki(name) => valid(presented, name),
            Need::Clear | Need::Opportunistic | Need::Encrypted | Need::SkipHost(_) => None,
        }
    }

    fn trial_fault(&self, handshake: &Handshake) -> Option<Fault> {
        // Nobody connects to a host that is skipped.
        if matches!(self.need, Need::SkipHost(_)) {
            return None;
        }
        let result = match (self.trial.as_ref()?, begun(handshake)) {
            (Trial::NotAllowed, _) => Some(ResultType::ValidationFailure),
            (Trial::Allowed(_), Err(result)) => Some(result),
            (Trial::Allowed(name), Ok(presented)) => valid(presented, name),
        };
        result.map(|result| Fault { policy: PolicyType::Sts, result })
    }

    /// The policy that a fault of the need is reported under.
    fn own_policy(&self) -> PolicyType {
        match (&self.need, self.source) {
            (Need::Dane { .. }, _) | (_, Source::Dane) => PolicyType::Tlsa,
            (_, Source::MtaSts) => PolicyType::Sts,
            _ => PolicyType::NoPolicyFound,
        }
    }

    fn failure(&self, result: ResultType, handshake: &Handshake) -> Failure {
        let said = match result {
            ResultType::StarttlsNotSupported => "the server does not offer TLS",
            ResultType::CertificateHostMismatch => "the server's certificate is for other names",
            ResultType::CertificateExpired => "the server's certificate is not valid today",
            ResultType::CertificateNotTrusted if matches!(self.need, Need::Dane { .. }) => {
                "the server's certificate fits none of its TLSA records"
            }
            ResultType::CertificateNotTrusted if matches!(self.need, Need::Pinned { .. }) => {
                "the server's key is none of those pinned"
            }
            ResultType::CertificateNotTrusted => {
                "nobody trusted vouches for the server's certificate"
            }
            _ => "the TLS handshake failed",
        };
        let text = format!("{said} ({}: {})", self.source.as_str(), self.why);
        let (severity, status) = match (self.asked, handshake) {
            // RFC 8689 §4.2.1: it goes back at once; the sender would rather know.
            (Asked::RequireTls, _) => (Severity::Permanent, Status::TLS_NEEDED),
            (_, Handshake::NotOffered) => (Severity::Transient, Status::NO_SECURITY_FEATURE),
            _ => (Severity::Transient, Status::CRYPTOGRAPHIC_FAILURE),
        };
        Failure { severity, status, text }
    }
}

fn begun(handshake: &Handshake) -> Result<&Presented, ResultType> {
    match handshake {
        Handshake::NotOffered => Err(ResultType::StarttlsNotSupported),
        Handshake::Failed => Err(ResultType::ValidationFailure),
        Handshake::Done(presented) => Ok(presented),
    }
}

/// What keeps a certificate from being authentic by a record.
fn fits(presented: &Presented, names: &[Host]) -> Option<ResultType> {
    match presented.tlsa {
        None => Some(ResultType::CertificateNotTrusted),
        // RFC 7672 §3.1.1: neither names nor dates count.
        Some(Usage::EndEntity) => None,
        Some(Usage::TrustAnchor) => dates_and_names(presented, names),
    }
}

/// What keeps a certificate from being valid for a name.
fn valid(presented: &Presented, name: &Host) -> Option<ResultType> {
    match presented.issuer {
        Issuer::Unknown => Some(ResultType::CertificateNotTrusted),
        Issuer::Trusted => dates_and_names(presented, std::slice::from_ref(name)),
    }
}

fn dates_and_names(presented: &Presented, names: &[Host]) -> Option<ResultType> {
    let named = names.iter().any(|name| presented.names.contains(name));
    match presented.dates {
        Dates::Expired => Some(ResultType::CertificateExpired),
        Dates::Valid => (!named).then_some(ResultType::CertificateHostMismatch),
    }
}
