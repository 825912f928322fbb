//! Names: what the DNS says, with its kinds of silence told apart.

use std::net::IpAddr;

use async_trait::async_trait;
use merpati_types::Domain;

/// What DNSSEC says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dnssec {
    /// Signed, and the chain of signatures is whole.
    Secure,
    /// Not signed, or not checked.
    Insecure,
}

/// Records, and how far they can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records, never empty.
    pub records: Vec<T>,
    /// The weakest state on the way, aliases included.
    pub dnssec: Dnssec,
}

/// An MX record. A null MX (RFC 7505) is [`ResolveError::NullMx`] instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxRecord {
    /// Lower is tried first.
    pub preference: u16,
    /// The host.
    pub exchange: Domain,
}

/// Why there are no records. Each leads to another decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NxDomain,
    /// The name exists and has no records of this type.
    #[error("there are no such records")]
    NoData,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain takes no mail (null MX)")]
    NullMx,
    /// No usable answer now: time-out, SERVFAIL, bogus signatures. Never a downgrade: try again.
    #[error("the look-up failed: {0}")]
    Temporary(String),
}

/// What a look-up answers.
pub type Lookup<T> = Result<Answer<T>, ResolveError>;

/// Asks the DNS. Every method follows aliases and is bounded in time.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The mail exchangers of a domain, in no particular order.
    async fn mx(&self, domain: &Domain) -> Lookup<MxRecord>;

    /// The IPv4 and IPv6 addresses of a host. One family failing does not hide the other's
    /// addresses.
    async fn addresses(&self, host: &Domain) -> Lookup<IpAddr>;

    /// The names an address claims.
    async fn names(&self, address: IpAddr) -> Lookup<Domain>;

    /// The text records of a name, each joined from its strings.
    async fn txt(&self, name: &Domain) -> Lookup<Vec<u8>>;
}
