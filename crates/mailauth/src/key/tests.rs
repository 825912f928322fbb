//! Keys in all the forms they come in, and in those that are refused.

use std::fs;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::fixture::{ED25519_KEY, RSA, pem};

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

/// An RSAPrivateKey that begins as one with a modulus of so many bits does.
fn rsa_of(bits: usize) -> Vec<u8> {
    let modulus = [vec![0, 0x80], vec![1; bits / 8 - 1]].concat();
    let fields = [der::written(2, &[&[0]]), der::written(2, &[&modulus])].concat();
    der::written(0x30, &[&fields])
}

fn pkcs1_of(pkcs8: &[u8]) -> Vec<u8> {
    der::rsa_in_pkcs8(pkcs8).unwrap().to_vec()
}

fn check(pem: &[u8], expected: Result<Algorithm, BadKey>) {
    let read = DkimKey::from_pem(selector("s"), &Secret::new(pem.to_vec()));
    let text = String::from_utf8_lossy(pem);
    assert_eq!(read.map(|key| key.algorithm()), expected, "{text}");
}

#[test]
fn reads_every_form() {
    let certificate = pem("CERTIFICATE", b"anything");
    let rsa = pem("PRIVATE KEY", &RSA);
    check(&rsa, Ok(Algorithm::RsaSha256));
    check(&pem("RSA PRIVATE KEY", &pkcs1_of(&RSA)), Ok(Algorithm::RsaSha256));
    let ed25519 = pem("PRIVATE KEY", &ED25519_KEY);
    check(&ed25519, Ok(Algorithm::Ed25519Sha256));
    check(&[certificate, b"text\n".to_vec(), ed25519, rsa].concat(), Ok(Algorithm::Ed25519Sha256));
    // RFC 8410 §10.3, without the public half, as OpenSSL writes it.
    let short = b"-----BEGIN PRIVATE KEY-----\r\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\r\n\
        -----END PRIVATE KEY-----\r\n";
    check(short, Ok(Algorithm::Ed25519Sha256));
    let key = DkimKey::from_pem(selector("s"), &Secret::new(short.to_vec())).unwrap();
    let public = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    assert_eq!(key.record(), format!("v=DKIM1; k=ed25519; p={public}"));
}

#[test]
fn refuses_what_cannot_sign() {
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let ec = ec.unwrap();
    check(b"", Err(BadKey::Missing));
    check(b"no key\n", Err(BadKey::Missing));
    check(&pem("CERTIFICATE", b"anything"), Err(BadKey::Missing));
    check(&pem("ENCRYPTED PRIVATE KEY", &RSA), Err(BadKey::Missing));
    check(&pem("PRIVATE KEY", &RSA)[..900], Err(BadKey::Missing));
    check(&pem("EC PRIVATE KEY", b"anything"), Err(BadKey::Algorithm));
    check(&pem("PRIVATE KEY", ec.as_ref()), Err(BadKey::Algorithm));
    check(&pem("PRIVATE KEY", b"anything"), Err(BadKey::Damaged));
    check(&pem("RSA PRIVATE KEY", &RSA), Err(BadKey::Damaged));
    check(&pem("PRIVATE KEY", &RSA[..RSA.len() - 1]), Err(BadKey::Damaged));
    check(&pem("RSA PRIVATE KEY", &rsa_of(2_048)), Err(BadKey::Damaged));
    let mut inconsistent = RSA.clone();
    *inconsistent.last_mut().unwrap() ^= 0x55;
    check(&pem("PRIVATE KEY", &inconsistent), Err(BadKey::Damaged));
    for bits in [512, 1_024, 2_040] {
        check(&pem("RSA PRIVATE KEY", &rsa_of(bits)), Err(BadKey::Weak { bits }));
    }
    for bits in [4_104, 8_192] {
        check(&pem("RSA PRIVATE KEY", &rsa_of(bits)), Err(BadKey::Long { bits }));
    }
}

#[test]
fn the_record_of_an_rsa_key_is_its_subject_public_key_info() {
    let key = DkimKey::from_pem(selector("s"), &Secret::new(pem("PRIVATE KEY", &RSA))).unwrap();
    let public = KeyPair::from_pkcs8(&RSA).unwrap();
    let public: PublicKeyX509Der<'_> = public.public_key().as_der().unwrap();
    let expected = format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref()));
    assert_eq!(key.record(), expected);
}

#[test]
fn files_that_others_can_read_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    fs::write(&path, pem("PRIVATE KEY", &ED25519_KEY)).unwrap();
    for (mode, taken) in [
        (0o600, true),
        (0o400, true),
        (0o640, false),
        (0o604, false),
        (0o620, false),
        (0o610, false),
        (0o644, false),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match DkimKey::open(selector("s"), &path) {
            Ok(_) => assert!(taken, "{mode:o}"),
            Err(error) => {
                assert!(!taken, "{mode:o}: {error}");
                let expected = format!(
                    "{} can be read or written by others than its owner (mode {mode:o}); \
                     use mode 600 or 400",
                    path.display()
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }
}

#[test]
fn other_faults_of_files_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let check = |expected: &str| {
        let error = DkimKey::open(selector("s"), &path).unwrap_err();
        assert_eq!(error.to_string(), expected.replace("PATH", &path.display().to_string()));
    };
    check("cannot read PATH");
    let write = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&[b' '; 65_537]);
    check("PATH is longer than 65536 octets");
    write(&pem("RSA PRIVATE KEY", &rsa_of(1_024)));
    check("PATH: the RSA key has 1024 bits; at least 2048 are needed (RFC 8301)");
}

#[test]
fn nothing_shows_the_key() {
    let der = ED25519_KEY.as_slice();
    let key = DkimKey::from_pem(selector("s"), &Secret::new(pem("PRIVATE KEY", der))).unwrap();
    let shown = "DkimKey { selector: Selector(\"s\"), algorithm: Ed25519Sha256, .. }";
    assert_eq!(format!("{key:?}"), shown);
    let damaged = [b"-----BEGIN PRIVATE KEY-----\nhunter2\n".to_vec(), vec![b'x'; 50]].concat();
    let error = DkimKey::from_pem(selector("s"), &Secret::new(damaged)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn selectors_are_names() {
    for (text, expected) in [
        ("2026a", Some("2026a")),
        ("1", Some("1")),
        ("S1.Mail", Some("s1.mail")),
        ("under_score", Some("under_score")),
        ("", None),
        (".", None),
        ("a.", None),
        ("a..b", None),
        ("-a", None),
        ("a-", None),
        ("a b", None),
        ("a;b", None),
        ("b\u{fc}cher", None),
    ] {
        let read = text.parse::<Selector>().ok();
        assert_eq!(read.as_ref().map(Selector::as_str), expected, "{text}");
    }
    assert!("a".repeat(63).parse::<Selector>().is_ok());
    assert!("a".repeat(64).parse::<Selector>().is_err());
    assert!([&*"a".repeat(63); 3].join(".").parse::<Selector>().is_err());
}
