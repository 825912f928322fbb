//! DNSSEC for the fixture: the whole of a [`Zone`](super::Zone) is signed as the root zone, with
//! one key, when it is asked for.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG, SigInput};
use hickory_proto::dnssec::{Algorithm, PublicKey as _, SigningKey as _, TBS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, SerialNumber};

/// An hour, in seconds.
const HOUR: u32 = 3_600;

/// The key of a signed zone: ECDSA on P-256 (RFC 6605), made anew each time.
pub struct ZoneKey {
    key: EcdsaSigningKey,
    dnskey: DNSKEY,
}

/// How a set of records is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Valid,
    Expired,
    Forged,
}

impl fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ZoneKey").field(&self.dnskey).finish()
    }
}

impl Default for ZoneKey {
    fn default() -> Self {
        Self::new()
    }
}

impl ZoneKey {
    /// Makes one.
    ///
    /// # Panics
    /// If the system gives no random octets.
    #[must_use]
    pub fn new() -> Self {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).expect("random octets");
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).expect("it was just made");
        let public = key.to_public_key().expect("it is a whole key");
        Self { key, dnskey: DNSKEY::new(true, true, false, public) }
    }

    /// A line for a file of trust anchors.
    #[must_use]
    pub fn trust_anchor(&self) -> String {
        let mut line = String::new();
        let _ = writeln!(line, ". 3600 IN DNSKEY {}", self.dnskey);
        line
    }

    pub(super) fn dnskey(&self) -> RData {
        RData::DNSSEC(DNSSECRData::DNSKEY(self.dnskey.clone()))
    }

    /// Signs records of one name and type.
    pub(super) fn sign(&self, records: &[Record], how: Signature) -> Record {
        let first = records.first().expect("a set is never empty");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Serial number arithmetic (RFC 4034 §3.1.5).
        let now = u32::try_from(now & u64::from(u32::MAX)).expect("it fits");
        let (from, until) = match how {
            Signature::Expired => (now - 2 * HOUR, now - HOUR),
            Signature::Valid | Signature::Forged => (now - HOUR, now + 24 * HOUR),
        };
        let input = SigInput {
            type_covered: first.record_type(),
            algorithm: self.dnskey.public_key().algorithm(),
            num_labels: first.name.num_labels(),
            original_ttl: first.ttl,
            sig_expiration: SerialNumber::new(until),
            sig_inception: SerialNumber::new(from),
            key_tag: self.dnskey.calculate_key_tag().expect("the key can be written"),
            signer_name: Name::root(),
        };
        let signed = TBS::from_input(&first.name, DNSClass::IN, &input, records.iter());
        let signed = signed.expect("the records can be written");
        let mut signature = self.key.sign(&signed).expect("the key can sign");
        if how == Signature::Forged {
            signature[0] ^= 1;
        }
        let signature = RRSIG::from_sig(input, signature);
        Record::from_rdata(
            first.name.clone(),
            first.ttl,
            RData::DNSSEC(DNSSECRData::RRSIG(signature)),
        )
    }
}

/// The sets of `records`, in order.
pub(super) fn sets(records: &[Record]) -> Vec<Vec<Record>> {
    let mut sets: Vec<Vec<Record>> = Vec::new();
    for record in records {
        let fits = |set: &&mut Vec<Record>| {
            set[0].name == record.name && set[0].record_type() == record.record_type()
        };
        match sets.iter_mut().find(fits) {
            Some(set) => set.push(record.clone()),
            None => sets.push(vec![record.clone()]),
        }
    }
    sets
}
