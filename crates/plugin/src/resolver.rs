//! Names: what the DNS says, with its kinds of silence told apart.

use std::net::IpAddr;

use async_trait::async_trait;
use merpati_types::Domain;

/// What DNSSEC says of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dnssec {
    /// Not signed, or not checked.
    Insecure,
    /// Signed, and the chain of signatures is whole.
    Secure,
}

/// Records, and how far they can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records, never empty.
    pub records: Vec<T>,
    /// The weakest state on the way, aliases included.
    pub dnssec: Dnssec,
    /// Where aliases led, if the name that was asked for is one.
    pub alias: Option<Alias>,
}

impl<T> Answer<T> {
    /// Records that nobody vouches for, directly at the name.
    #[must_use]
    pub fn insecure(records: Vec<T>) -> Self {
        Self { records, dnssec: Dnssec::Insecure, alias: None }
    }

    /// The name that holds the records: that at the end of the aliases, or the one asked for.
    #[must_use]
    pub fn canonical<'a>(&'a self, asked: &'a Domain) -> &'a Domain {
        self.alias.as_ref().map_or(asked, |alias| &alias.canonical)
    }
}

/// That a name is an alias (CNAME) of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name at the end of all aliases, which holds the records.
    pub canonical: Domain,
    /// What is said of the first alias alone. Where an alias of a signed zone leads into an
    /// unsigned one, the answer is insecure, and TLSA records of the name that was asked for may
    /// count all the same (RFC 7672 §2.2.2).
    pub first: Dnssec,
}

/// An MX record. A null MX (RFC 7505) is [`ResolveError::NullMx`] instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxRecord {
    /// Lower is tried first.
    pub preference: u16,
    /// The host.
    pub exchange: Domain,
}

/// A TLSA record, as it stands in the DNS (RFC 6698 §2.1): any value may be in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsaRecord {
    /// The certificate usage: 2 is DANE-TA, 3 is DANE-EE.
    pub usage: u8,
    /// The selector: 0 is the whole certificate, 1 its public key.
    pub selector: u8,
    /// The matching type: 0 is the data itself, 1 its SHA-256, 2 its SHA-512.
    pub matching: u8,
    /// The certificate association data.
    pub data: Vec<u8>,
}

/// Why there are no records. Each leads to another decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name, or the one its aliases lead to, does not exist. With how far that is proven.
    #[error("the name does not exist")]
    NxDomain(Dnssec),
    /// The name exists and has no records of this type. With how far that is proven.
    #[error("there are no such records")]
    NoData(Dnssec),
    /// The domain says that it takes no mail (RFC 7505).
    #[error("the domain takes no mail (null MX)")]
    NullMx,
    /// No usable answer now: time-out, SERVFAIL, nonsense. Try again.
    #[error("the look-up failed: {0}")]
    Temporary(String),
    /// What was answered should be signed, and is not, or not validly. Never a downgrade, for an
    /// attacker may be behind it: try again (RFC 7672 §2.1.1).
    #[error("DNSSEC validation failed: {0}")]
    Bogus(String),
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

    /// The TLSA records of a name such as `_25._tcp.mx.example.org`. A resolver that does not
    /// know of them has none.
    async fn tlsa(&self, _name: &Domain) -> Lookup<TlsaRecord> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }
}
