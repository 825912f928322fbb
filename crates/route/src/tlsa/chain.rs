//! Which records fit which certificates of a chain.

use super::{Matching, Selector, Tlsa, Usage};

/// The most certificates of a chain that are looked at. Chains in the field have up to five;
/// what comes after is there to keep us busy.
pub const CHAIN_LIMIT: usize = 10;

/// One certificate of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// All of it, in DER.
    pub der: &'a [u8],
    /// Its `SubjectPublicKeyInfo`, in DER.
    pub public_key: &'a [u8],
}

/// A record that fits a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'r> {
    /// The record.
    pub record: &'r Tlsa,
    /// The certificate's place in the chain; 0 is the server's own.
    pub place: usize,
}

impl Found<'_> {
    /// Whether this alone makes the server authentic. Otherwise the server's certificate must
    /// have a valid path to the certificate found, taken as trust anchor, be valid now, and name
    /// one of the reference identifiers (RFC 7672 §3.1.2).
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.record.usage() == Usage::EndEntity
    }
}

/// Every pair of record and certificate that fit, those that are enough first.
///
/// `chain` begins with the server's own certificate. A DANE-EE record can only fit that; a
/// DANE-TA record only the others: what issued nothing is no trust anchor. `digest` hashes; it is
/// never asked for [`Matching::Full`], and once at most for each part of a certificate and kind.
pub fn find<'r>(
    records: &'r [Tlsa],
    chain: &[Certificate<'_>],
    mut digest: impl FnMut(Matching, &[u8]) -> Vec<u8>,
) -> Vec<Found<'r>> {
    let mut found = Vec::new();
    for (place, certificate) in chain.iter().take(CHAIN_LIMIT).enumerate() {
        let usage = if place == 0 { Usage::EndEntity } else { Usage::TrustAnchor };
        let mut known: Vec<(Selector, Matching, Vec<u8>)> = Vec::new();
        for record in records.iter().filter(|record| record.usage() == usage) {
            let (selector, matching) = (record.selector(), record.matching());
            let selected = match selector {
                Selector::Certificate => certificate.der,
                Selector::PublicKey => certificate.public_key,
            };
            let fits = if matching == Matching::Full {
                record.data() == selected
            } else {
                let place =
                    known.iter().position(|entry| (entry.0, entry.1) == (selector, matching));
                let place = place.unwrap_or_else(|| {
                    known.push((selector, matching, digest(matching, selected)));
                    known.len() - 1
                });
                record.data() == known[place].2
            };
            if fits {
                found.push(Found { record, place });
            }
        }
    }
    found
}
