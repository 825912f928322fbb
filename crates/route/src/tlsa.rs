//! TLSA records (RFC 6698, RFC 7671) as DANE for SMTP reads them (RFC 7672): which can be used,
//! what a set of them means, and what they say of a certificate chain.

mod chain;

use std::fmt;

use merpati_types::Domain;

use crate::dnssec::{DnsState, Followed};

pub use chain::{CHAIN_LIMIT, Certificate, Found, find};

/// What kind of certificate a record speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// DANE-EE(3): the server's own. Neither names nor dates count (RFC 7672 §3.1.1): the record
    /// binds the key to the name, and lasts as long as it is published.
    EndEntity,
    /// DANE-TA(2): one that issued the server's, through others or not. The path to it, the
    /// dates on it, and the server's name count (RFC 7672 §3.1.2).
    TrustAnchor,
}

/// What of the certificate a record speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Cert(0): all of it.
    Certificate,
    /// SPKI(1): its public key (`SubjectPublicKeyInfo`, in DER).
    PublicKey,
}

/// How the record's data is made from what it speaks of. The order is that of strength, which
/// [`strongest`] goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// Full(0): it is that itself.
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A record that can be used for SMTP.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Box<[u8]>,
}

/// Why a record cannot be used. One that cannot be used still says that the host has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// PKIX-TA(0), PKIX-EE(1), or one that is not known: mail servers share no list of roots
    /// with each other (RFC 7672 §3.1.3).
    #[error("usage {0} is not for mail")]
    Usage(u8),
    /// A selector that is not known.
    #[error("selector {0} is not known")]
    Selector(u8),
    /// A matching type that is not known.
    #[error("matching type {0} is not known")]
    Matching(u8),
    /// The data cannot be what it should be: a digest of another length, or no DER value.
    #[error("its data is malformed")]
    Data,
}

impl Tlsa {
    /// A record of these fields of its RDATA (RFC 6698 §2.1).
    ///
    /// # Errors
    /// [`Unusable`] says why it cannot be used.
    pub fn new(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Result<Self, Unusable> {
        let usage = match usage {
            2 => Usage::TrustAnchor,
            3 => Usage::EndEntity,
            other => return Err(Unusable::Usage(other)),
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            other => return Err(Unusable::Selector(other)),
        };
        let (matching, whole) = match matching {
            0 => (Matching::Full, is_der_sequence(data)),
            1 => (Matching::Sha256, data.len() == 32),
            2 => (Matching::Sha512, data.len() == 64),
            other => return Err(Unusable::Matching(other)),
        };
        if !whole {
            return Err(Unusable::Data);
        }
        Ok(Self { usage, selector, matching, data: data.into() })
    }

    /// What a pinned key is: `3 1 1` and the key's SHA-256.
    #[must_use]
    pub fn pin(sha256: [u8; 32]) -> Self {
        let (usage, selector) = (Usage::EndEntity, Selector::PublicKey);
        Self { usage, selector, matching: Matching::Sha256, data: sha256.into() }
    }

    /// What kind of certificate it speaks of.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What of it.
    #[must_use]
    pub fn selector(&self) -> Selector {
        self.selector
    }

    /// How its data is made.
    #[must_use]
    pub fn matching(&self) -> Matching {
        self.matching
    }

    /// Its data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// `3 1 1 0b9fa5a5…`, as in a zone file, with at most eight octets of the data; `{:#}` writes all.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = match self.usage {
            Usage::TrustAnchor => 2,
            Usage::EndEntity => 3,
        };
        let selector = match self.selector {
            Selector::Certificate => 0,
            Selector::PublicKey => 1,
        };
        let matching = match self.matching {
            Matching::Full => 0,
            Matching::Sha256 => 1,
            Matching::Sha512 => 2,
        };
        write!(f, "{usage} {selector} {matching} ")?;
        let shown = if f.alternate() { self.data.len() } else { self.data.len().min(8) };
        self.data[..shown].iter().try_for_each(|octet| write!(f, "{octet:02x}"))?;
        f.write_str(if shown < self.data.len() { "…" } else { "" })
    }
}

impl fmt::Debug for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tlsa({self})")
    }
}

/// Whether the octets are one DER SEQUENCE, as every certificate and public key is.
fn is_der_sequence(data: &[u8]) -> bool {
    let Some((0x30, rest)) = data.split_first().map(|(tag, rest)| (*tag, rest)) else {
        return false;
    };
    let Some((&first, rest)) = rest.split_first() else { return false };
    if first < 0x80 {
        return rest.len() == usize::from(first);
    }
    let octets = usize::from(first & 0x7f);
    if !(1..=4).contains(&octets) || rest.len() < octets {
        return false;
    }
    let (length, content) = rest.split_at(octets);
    content.len() == length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
}

/// The records that count among `records`: of one usage and selector those with the strongest
/// digest, and all that have no digest (RFC 7671 §9). A weaker digest is then a leftover, and
/// taking it would help nobody but who can forge it.
#[must_use]
pub fn strongest(mut records: Vec<Tlsa>) -> Vec<Tlsa> {
    records.sort_unstable();
    records.dedup();
    let best = |of: &Tlsa| {
        let kind = |record: &&Tlsa| (record.usage, record.selector) == (of.usage, of.selector);
        records.iter().filter(kind).map(|record| record.matching).max()
    };
    let counts =
        |record: &Tlsa| record.matching == Matching::Full || Some(record.matching) == best(record);
    let kept: Vec<bool> = records.iter().map(counts).collect();
    let mut kept = kept.into_iter();
    records.retain(|_| kept.next().unwrap_or(false));
    records
}

/// The most records of one host that count; those who publish keys have a handful.
pub const RECORD_LIMIT: usize = 64;

/// What the DNS said when asked for the TLSA records of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaAnswer {
    /// Signed records, each usable or not.
    Secure(Vec<Result<Tlsa, Unusable>>),
    /// Records that are not signed, which say nothing.
    Insecure,
    /// There are none, or no such name.
    None,
    /// No answer that holds: bogus signatures, SERVFAIL, time-out. Why, for the log.
    Bogus(String),
}

/// What DANE says of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dane {
    /// Nothing: addresses or records are not signed.
    NotSecure,
    /// Nothing: there are no records.
    NoRecords,
    /// That it has TLS, and nothing on whose certificate to expect (RFC 7672 §2.2). Why each
    /// record cannot be used.
    Unusable(Vec<Unusable>),
    /// That its certificate matches one of these: at least one, at most [`RECORD_LIMIT`].
    Usable(Vec<Tlsa>),
    /// Nobody knows now; the host is not to be used until somebody does (RFC 7672 §2.1.2). Why.
    Bogus(String),
}

impl From<TlsaAnswer> for Dane {
    fn from(answer: TlsaAnswer) -> Self {
        let records = match answer {
            TlsaAnswer::Secure(records) => records,
            TlsaAnswer::Insecure => return Self::NotSecure,
            TlsaAnswer::None => return Self::NoRecords,
            TlsaAnswer::Bogus(why) => return Self::Bogus(why),
        };
        if records.is_empty() {
            return Self::NoRecords;
        }
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Ok(record) => usable.push(record),
                Err(why) => unusable.push(why),
            }
        }
        if usable.is_empty() {
            unusable.truncate(RECORD_LIMIT);
            return Self::Unusable(unusable);
        }
        let mut records = strongest(usable);
        records.truncate(RECORD_LIMIT);
        Self::Usable(records)
    }
}

/// Where the TLSA records for a service at `base` are; `None` where that would be too long a
/// name.
#[must_use]
pub fn record_name(base: &Domain, port: u16) -> Option<Domain> {
    Domain::parse(&format!("_{port}._tcp.{}", base.as_ascii())).ok()
}

/// Under which names to look for the records of `host`, best first, when its aliases lead to
/// `followed` (RFC 7672 §2.2.3). The first that has signed records is the *base*.
///
/// Where the aliases are not signed, their end cannot be trusted to be the host, but the zone of
/// the host itself may still be signed.
#[must_use]
pub fn bases(host: &Domain, followed: &Followed) -> Vec<Domain> {
    let mut bases = Vec::with_capacity(2);
    if followed.state == DnsState::Secure {
        bases.push(followed.name.clone());
    }
    if !bases.contains(host) {
        bases.push(host.clone());
    }
    bases
}

#[cfg(test)]
mod tests;
