//! As much of DER as tells what key a file holds (RFC 5958, RFC 8017), and writes a public key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// What kind of private key there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RSA, with the length of its modulus.
    Rsa {
        bits: usize,
    },
    Ed25519,
    /// Some other algorithm.
    Other,
}

/// Looks into an RSAPrivateKey (RFC 8017 A.1.2). None if it is damaged.
pub(crate) fn pkcs1(key: &[u8]) -> Option<Kind> {
    let (fields, _) = element(SEQUENCE, key)?;
    let (_version, fields) = element(INTEGER, fields)?;
    Some(Kind::Rsa { bits: modulus_bits(fields)? })
}

/// Looks into a PrivateKeyInfo (RFC 5958 §2). None if it is damaged.
pub(crate) fn pkcs8(key: &[u8]) -> Option<Kind> {
    let (fields, _) = element(SEQUENCE, key)?;
    let (_version, fields) = element(INTEGER, fields)?;
    let (algorithm, fields) = element(SEQUENCE, fields)?;
    let (algorithm, _parameters) = element(OBJECT, algorithm)?;
    match algorithm {
        RSA => pkcs1(element(OCTET_STRING, fields)?.0),
        ED25519 => Some(Kind::Ed25519),
        _ => Some(Kind::Other),
    }
}

/// The public key as DNS has it: the `p=` of an RSAPublicKey is a SubjectPublicKeyInfo in base64
/// (RFC 6376 §3.6.1 with erratum 3017).
pub(crate) fn rsa_record(public: &[u8]) -> String {
    const NULL: [u8; 2] = [0x05, 0x00];
    let algorithm = written(SEQUENCE, &[&written(OBJECT, &[RSA]), &NULL]);
    let key = written(0x03, &[&[0], public]);
    STANDARD.encode(written(SEQUENCE, &[&algorithm, &key]))
}

/// The 32 octets in base64 (RFC 8463 §4).
pub(crate) fn ed25519_record(public: &[u8]) -> String {
    STANDARD.encode(public)
}

/// The RSAPrivateKey within a PrivateKeyInfo.
#[cfg(test)]
pub(crate) fn rsa_in_pkcs8(key: &[u8]) -> Option<&[u8]> {
    let (fields, _) = element(SEQUENCE, key)?;
    let (_version, fields) = element(INTEGER, fields)?;
    let (_algorithm, fields) = element(SEQUENCE, fields)?;
    Some(element(OCTET_STRING, fields)?.0)
}

/// How long the integer at the beginning of `fields` is.
fn modulus_bits(fields: &[u8]) -> Option<usize> {
    let (modulus, _) = element(INTEGER, fields)?;
    let zeros = modulus.iter().take_while(|&&octet| octet == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

/// The content of the element of this tag at the beginning of `octets`, and what follows it.
fn element(tag: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = octets.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Lengths of more than three octets are no key's.
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if !(1..=3).contains(&length.len()) {
            return None;
        }
        (length.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then_some((content, rest))
}

pub(crate) fn written(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let mut element = vec![tag];
    if content.len() < 0x80 {
        element.extend(&length[length.len() - 1..]);
    } else {
        let zeros = length.iter().take_while(|&&octet| octet == 0).count();
        let length = &length[zeros..];
        element.push(0x80 | u8::try_from(length.len()).expect("a usize has at most 16 octets"));
        element.extend(length);
    }
    element.extend(content);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let octets = [written(OCTET_STRING, &[&content]), vec![1, 2]].concat();
            assert_eq!(element(OCTET_STRING, &octets), Some((&*content, &[1, 2][..])));
            assert_eq!(element(SEQUENCE, &octets), None);
        }
    }

    #[test]
    fn moduli_are_measured_in_bits() {
        for (modulus, bits) in [
            (&[0x80, 0, 0][..], Some(24)),
            (&[0, 0x80, 0, 0], Some(24)),
            (&[0x7f, 0xff], Some(15)),
            (&[1], Some(1)),
            (&[0], None),
            (&[], None),
        ] {
            let fields = [written(INTEGER, &[&[0]]), written(INTEGER, &[modulus])].concat();
            let read = pkcs1(&written(SEQUENCE, &[&fields]));
            assert_eq!(read, bits.map(|bits| Kind::Rsa { bits }), "{modulus:?}");
        }
    }

    #[test]
    fn damage_is_no_key_and_no_panic() {
        let fields = [written(INTEGER, &[&[0]]), written(INTEGER, &[&[0x80; 300]])].concat();
        let rsa = written(SEQUENCE, &[&fields]);
        let algorithm = written(SEQUENCE, &[&written(OBJECT, &[RSA])]);
        let version = written(INTEGER, &[&[0]]);
        let parts = [&version[..], &algorithm, &written(OCTET_STRING, &[&rsa])];
        let whole = written(SEQUENCE, &parts);
        assert_eq!(pkcs8(&whole), Some(Kind::Rsa { bits: 2_400 }));
        for length in 0..whole.len() {
            assert_eq!(pkcs8(&whole[..length]), None, "{length}");
        }
        for place in 0..whole.len().min(64) {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] = value;
                let _ = pkcs8(&damaged);
            }
        }
    }
}
