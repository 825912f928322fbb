//! The hash functions of the mechanisms.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// `H(data)`.
    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    /// `HMAC(key, data)`.
    pub(super) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => mac(&keyed::<Hmac<Sha1>>(key), [data]),
            Self::Sha256 => mac(&keyed::<Hmac<Sha256>>(key), [data]),
        }
    }

    /// `Hi(password, salt, iterations)` (RFC 5802 §2.2): the first block of PBKDF2.
    pub(super) fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha1 => salted(&keyed::<Hmac<Sha1>>(password), salt, iterations),
            Self::Sha256 => salted(&keyed::<Hmac<Sha256>>(password), salt, iterations),
        }
    }
}

/// HMAC-MD5 (RFC 2104).
pub(super) fn hmac_md5(key: &[u8], data: &[u8]) -> Vec<u8> {
    mac(&keyed::<Hmac<Md5>>(key), [data])
}

fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length")
}

fn mac<'a, M: Mac + Clone>(keyed: &M, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn salted<M: Mac + Clone>(keyed: &M, salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut last = mac(keyed, [salt, &1_u32.to_be_bytes()]);
    let mut sum = last.clone();
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&last);
        last.copy_from_slice(&next.finalize().into_bytes());
        sum.iter_mut().zip(&last).for_each(|(sum, octet)| *sum ^= octet);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn passwords_are_salted_as_rfc_6070_has_it() {
        let check = |password: &[u8], salt: &[u8], iterations, expected: &str| {
            assert_eq!(hex(&Hash::Sha1.salted(password, salt, iterations)), expected);
        };
        check(b"password", b"salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6");
        check(b"password", b"salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
    }
}
