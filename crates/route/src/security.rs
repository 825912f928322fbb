//! Which TLS a host needs before it gets a message, who says so, and what it means if the host
//! has not got it.
//!
//! ```text
//!   first that applies                                        need
//!   MX records or addresses bogus                             the host is skipped, for now
//!   keys pinned                                               those keys
//!   REQUIRETLS (RFC 8689)                                     authentic host, or it bounces
//!   configured for the destination                            as configured
//!   TLS-Required: No (RFC 8689)                               TLS if it can be had
//!   TLSA bogus (RFC 7672)                                     the host is skipped, for now
//!   TLSA usable, host not by unsigned MX                      DANE
//!   MTA-STS enforced (RFC 8461), host not allowed             the host is skipped, for now
//!   MTA-STS enforced, host allowed                            valid certificate
//!   TLSA usable                                               DANE, for what it is worth
//!   TLSA unusable                                             TLS with whomever
//!   otherwise (RFC 7435)                                      TLS if it can be had
//! ```

mod judge;
mod rules;

use std::fmt;
use std::slice;

use merpati_types::{Domain, Envelope, HeaderSection, Host, Rejection, Severity, Status};

use crate::dnssec::DnsState;
use crate::mta_sts::Sts;
use crate::tls_rpt::{Fault, PolicyType};
use crate::tlsa::{Dane, Tlsa};

pub use judge::{Dates, Handshake, Issuer, Outcome, Presented, RequireTls, Verdict};

/// What is configured for a destination; without it, policies decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Override {
    /// No TLS.
    None,
    /// TLS if it can be had, whatever policies say.
    May,
    /// TLS, with whomever.
    Encrypt,
    /// DANE, and no mail to hosts without it.
    Dane,
    /// A valid certificate for the host's name.
    Verify,
    /// One of these keys or certificates: records of our own.
    Pinned(Vec<Tlsa>),
}

/// What the sender asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// REQUIRETLS: authentic and encrypted all the way, or not at all.
    RequireTls,
    /// `TLS-Required: No`: rather delivered than protected. It lifts policies of the
    /// destination's, and none that is configured here.
    NoTls,
}

impl Asked {
    /// What a message asks for. With REQUIRETLS the header field does not count (RFC 8689 §3);
    /// nor does one with another value than `No`, or that is there twice.
    #[must_use]
    pub fn of(envelope: &Envelope, header: &HeaderSection) -> Self {
        if envelope.requiretls {
            return Self::RequireTls;
        }
        let mut fields = header.named("TLS-Required");
        match (fields.next(), fields.next()) {
            (Some(field), None) if field.unfolded().trim().eq_ignore_ascii_case("no") => {
                Self::NoTls
            }
            _ => Self::Nothing,
        }
    }
}

/// How the host was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// It is the destination: there is no MX record, or the host is configured.
    Direct,
    /// By MX records in this state, aliases of the domain included.
    Mx(DnsState),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The recipients' domain, or the host that is configured for it: the next-hop domain of RFC
    /// 7672, the policy domain of RFC 8461.
    pub domain: &'a Host,
    /// What the domain is a signed alias for.
    pub expanded: Option<&'a Domain>,
    /// How the hosts were found.
    pub route: Route,
    /// What MTA-STS says of the domain.
    pub sts: Sts<'a>,
    /// What is configured.
    pub wanted: Option<&'a Override>,
    /// What the sender asks for.
    pub asked: Asked,
}

/// A host of the destination.
#[derive(Clone, Copy, Debug)]
pub struct MailHost<'a> {
    /// As the MX record names it, or as the destination itself.
    pub host: &'a Host,
    /// The state of its addresses.
    pub addresses: DnsState,
    /// What DANE says of it: [`Dane::NotSecure`] where its addresses are not signed. Nobody asks
    /// for TLSA records then, since servers that know no DNSSEC may fail to answer at all, and
    /// the host would be skipped for nothing (RFC 7672 §2.2.2).
    pub dane: &'a Dane,
    /// Under which name its TLSA records are, if that is not its own (see
    /// [`crate::tlsa::bases`]).
    pub base: Option<&'a Domain>,
}

/// What a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nothing: TLS is not even tried.
    Clear,
    /// Nothing: TLS if it can be had, with whomever (RFC 7435).
    Opportunistic,
    /// TLS, with whomever.
    Encrypted,
    /// TLS, and a certificate that a record fits.
    Dane {
        /// At least one.
        records: Vec<Tlsa>,
        /// Of which a certificate that is trusted by a DANE-TA record must bear one (RFC 7672
        /// §3.2.2). The first is for SNI (§8.1).
        names: Vec<Host>,
    },
    /// TLS, and a valid certificate for this name from a trusted authority.
    WebPki(Host),
    /// TLS, and a certificate that one of these fits.
    Pinned {
        /// At least one.
        pins: Vec<Tlsa>,
        /// For pins of issuers, as with DANE-TA.
        name: Host,
    },
    /// The host gets nothing.
    SkipHost(Failure),
}

impl Need {
    /// For logs, and for programs that read them.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Opportunistic => "may",
            Self::Encrypted => "encrypt",
            Self::Dane { .. } => "dane",
            Self::WebPki(_) => "verify",
            Self::Pinned { .. } => "pinned",
            Self::SkipHost(_) => "skip",
        }
    }
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The operator.
    Configured,
    /// The destination's TLSA records, or the DNS that cannot be trusted to tell of them.
    Dane,
    /// The destination's MTA-STS policy.
    MtaSts,
    /// Nobody.
    Opportunistic,
    /// The sender.
    RequireTls,
}

impl Source {
    /// For people and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Dane => "DANE",
            Self::MtaSts => "MTA-STS",
            Self::Opportunistic => "opportunistic",
            Self::RequireTls => "REQUIRETLS",
        }
    }
}

/// Why a host does not get a message. It is the last word only if no other host takes it: see
/// [`last_word`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether the message waits, or bounces.
    pub severity: Severity,
    /// The condition.
    pub status: Status,
    /// For people.
    pub text: String,
}

impl Failure {
    /// The refusal it means for the recipients.
    #[must_use]
    pub fn to_rejection(&self) -> Rejection {
        match self.severity {
            Severity::Transient => Rejection::transient(self.status, &self.text),
            Severity::Permanent => Rejection::permanent(self.status, &self.text),
        }
    }
}

/// What the failures of all hosts together mean: the message waits if one of them may pass.
/// RFC 8461 §5.1: before it bounces in the end, the policy's id is asked for once more, which
/// [`crate::mta_sts::Memory::handle_record`] does before every attempt.
pub fn last_word<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> Option<&'a Failure> {
    // Of equals the first: the best host's.
    failures
        .into_iter()
        .reduce(|word, next| if next.severity < word.severity { next } else { word })
}

/// An MTA-STS policy in testing: failing it is reported and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trial {
    /// The host is allowed, and must have a valid certificate for this name.
    Allowed(Host),
    /// The policy does not allow the host.
    NotAllowed,
}

/// What TLS a host needs, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// What it needs. Connections with equal needs may carry each other's messages, if both ask
    /// for the same.
    pub need: Need,
    /// Who says so.
    pub source: Source,
    /// Why, for people.
    pub why: String,
    /// What the sender asks for.
    pub asked: Asked,
    /// A policy that is only tried out.
    pub trial: Option<Trial>,
    /// What is known to be wrong before anybody has connected, to be reported.
    pub faults: Vec<Fault>,
}

impl Security {
    /// What `host` needs to get a message for `destination`.
    #[must_use]
    pub fn decide(destination: &Destination<'_>, host: &MailHost<'_>) -> Self {
        rules::decide(destination, host)
    }

    /// Why nobody need connect to the host, where that is so. [`Self::faults`] is then all that
    /// there is to report.
    #[must_use]
    pub fn skips(&self) -> Option<&Failure> {
        match &self.need {
            Need::SkipHost(failure) => Some(failure),
            _ => None,
        }
    }

    /// The names that count in the host's certificate.
    #[must_use]
    pub fn names(&self) -> &[Host] {
        match (&self.need, &self.trial) {
            (Need::Dane { names, .. }, _) => names,
            (Need::WebPki(name) | Need::Pinned { name, .. }, _)
            | (_, Some(Trial::Allowed(name))) => slice::from_ref(name),
            _ => &[],
        }
    }

    /// Under which policies a report counts a session with the host (RFC 8460 §4.4).
    #[must_use]
    pub fn policies(&self) -> Vec<PolicyType> {
        let mut policies = Vec::with_capacity(2);
        if matches!(self.need, Need::Dane { .. }) || self.source == Source::Dane {
            policies.push(PolicyType::Tlsa);
        }
        if self.trial.is_some() || self.source == Source::MtaSts {
            policies.push(PolicyType::Sts);
        }
        if policies.is_empty() {
            policies.push(PolicyType::NoPolicyFound);
        }
        policies
    }
}

/// `dane 3 1 1 0b9fa5a5… for mx.test (DANE: 1 usable TLSA record)`.
impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |f: &mut fmt::Formatter<'_>, word: &str, names: &[Host]| {
            names.iter().enumerate().try_for_each(|(number, name)| {
                write!(f, " {} {name}", if number == 0 { word } else { "or" })
            })
        };
        let records = |f: &mut fmt::Formatter<'_>, records: &[Tlsa]| {
            records.iter().enumerate().try_for_each(|(number, record)| {
                write!(f, "{} {record}", if number == 0 { "" } else { "," })
            })
        };
        f.write_str(self.need.as_str())?;
        match &self.need {
            Need::Clear | Need::Opportunistic | Need::Encrypted => {}
            Need::Dane { records: of, names: for_names } => {
                records(f, of)?;
                names(f, "for", for_names)?;
            }
            Need::WebPki(name) => write!(f, " {name}")?,
            Need::Pinned { pins, .. } => records(f, pins)?,
            Need::SkipHost(failure) => f.write_str(match failure.severity {
                Severity::Transient => " for now",
                Severity::Permanent => " for good",
            })?,
        }
        write!(f, " ({}: {})", self.source.as_str(), self.why)?;
        match &self.trial {
            Some(Trial::Allowed(_)) => f.write_str(", MTA-STS in testing"),
            Some(Trial::NotAllowed) => f.write_str(", MTA-STS in testing does not allow it"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
