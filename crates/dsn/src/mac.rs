//! The secrets that sign addresses.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use merpati_types::Secret;
use sha1::Sha1;

/// Octets of an HMAC-SHA1.
pub(crate) const MAC_SIZE: usize = 20;

/// Secrets in the order of their age: the newest signs, and every one is accepted, so that an
/// address outlives the change of a secret.
#[derive(Clone)]
pub struct Keyring {
    current: Secret<Vec<u8>>,
    older: Vec<Secret<Vec<u8>>>,
}

impl Keyring {
    /// One secret. It should have 16 random octets or more; hosts that take bounces for each
    /// other share it.
    #[must_use]
    pub fn new(current: Secret<Vec<u8>>) -> Self {
        Self { current, older: Vec::new() }
    }

    /// Accepts, besides, what this secret has signed.
    #[must_use]
    pub fn with_older(mut self, secret: Secret<Vec<u8>>) -> Self {
        self.older.push(secret);
        self
    }

    pub(crate) fn current(&self) -> &Secret<Vec<u8>> {
        &self.current
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Secret<Vec<u8>>> {
        std::iter::once(&self.current).chain(&self.older)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} secrets)", 1 + self.older.len())
    }
}

/// HMAC-SHA1 (RFC 2104) of the parts, one after the other.
pub(crate) fn hmac_sha1<'a>(
    secret: &Secret<Vec<u8>>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> [u8; MAC_SIZE] {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.expose()).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The day since 1970 that a time is in, UTC.
pub(crate) fn day(now: merpati_types::Timestamp) -> i64 {
    now.as_millis().div_euclid(86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202 §3, test cases 2 and 6.
    #[test]
    fn macs_are_those_of_the_rfc() {
        let check = |key: &[u8], parts: &[&[u8]], expected: &str| {
            let mac = hmac_sha1(&Secret::new(key.to_vec()), parts.iter().copied());
            let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
        };
        check(
            b"Jefe",
            &[b"what do ya want ", b"for nothing?"],
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        );
        check(
            &[0xAA; 80],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        );
        let ring = Keyring::new(Secret::new(b"a".to_vec())).with_older(Secret::new(b"b".to_vec()));
        assert_eq!(format!("{ring:?}"), "Keyring(2 secrets)");
    }
}
