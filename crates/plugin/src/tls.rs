//! What domains ask of TLS beyond what the DNS tells, and who hears how it went.

use std::net::IpAddr;

use async_trait::async_trait;
use merpati_route::mta_sts::Memory;
use merpati_route::tls_rpt::{Fault, PolicyType};
use merpati_types::Domain;

/// The tag of a message that is itself a TLS report: sessions made for it are not told, or reports
/// about the sending of reports would never end.
pub const TLS_REPORT_TAG: &str = "tls-report";

/// Knows the MTA-STS policies of domains (RFC 8461).
#[async_trait]
pub trait StsPolicies: Send + Sync {
    /// What is known of a domain's policy, once what has to be looked up before an attempt has
    /// been: the record each time, the policy where none counts yet. A policy that counts and is
    /// only to be renewed keeps nobody waiting. Bounded in time; what could not be found out is
    /// in the answer.
    async fn policy(&self, domain: &Domain) -> Memory;
}

/// A session with a host of a domain, or the finding that there can be none, for the reports that
/// the domain may ask for (RFC 8460).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// The domain whose mail it was for.
    pub domain: Domain,
    /// Under which policies it counts: at least one.
    pub policies: Vec<SessionPolicy>,
    /// The host's name, or its address where it has none.
    pub host: String,
    /// The host's address, if anybody connected.
    pub address: Option<IpAddr>,
    /// The address we connected from, if anybody connected.
    pub source: Option<IpAddr>,
    /// The name it gave in its hello, if it got that far.
    pub hello: Option<String>,
    /// What failed; a session without faults is a success.
    pub faults: Vec<Fault>,
}

/// A policy that a session was under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Which kind.
    pub kind: PolicyType,
    /// The policy itself: the lines of an MTA-STS policy, or TLSA records; nothing where there is
    /// none (`policy-string`, RFC 8460 §4.4).
    pub text: Vec<String>,
    /// The host patterns of an MTA-STS policy (`mx-host`).
    pub hosts: Vec<String>,
}

/// Hears how sessions went. Told once a connection, not once a message.
pub trait TlsResults: Send + Sync {
    /// A session was tried. Must not block.
    fn tried(&self, session: TlsSession);
}
