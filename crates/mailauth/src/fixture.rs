//! Keys for tests, and a verifier that shares no code with the signer: RFC 6376 word by word,
//! slow and short.

use std::collections::HashMap;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use merpati_types::{Domain, HeaderSection, Secret, Timestamp};

use crate::{DkimKey, DkimSigner, SignError, SigningRules};

/// PKCS #8 in DER.
pub(crate) static RSA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
});

/// PKCS #8 in DER.
pub(crate) static ED25519_KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Ed25519KeyPair::generate_pkcs8(&rand::SystemRandom::new()).unwrap().as_ref().to_vec()
});

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_123);

pub(crate) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem += std::str::from_utf8(line).unwrap();
        pem.push('\n');
    }
    (pem + &format!("-----END {label}-----\n")).into_bytes()
}

pub(crate) fn rsa() -> DkimKey {
    let pem = Secret::new(pem("PRIVATE KEY", &RSA));
    DkimKey::from_pem("rsa".parse().unwrap(), &pem).unwrap()
}

pub(crate) fn ed25519() -> DkimKey {
    let pem = Secret::new(pem("PRIVATE KEY", &ED25519_KEY));
    DkimKey::from_pem("ed".parse().unwrap(), &pem).unwrap()
}

pub(crate) fn signer(rules: SigningRules) -> DkimSigner {
    DkimSigner::new(Domain::parse("sender.test").unwrap(), ed25519(), rules)
}

/// The message with its signatures before it. The body comes in pieces of 1,000 octets.
pub(crate) fn sign(signer: &DkimSigner, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let message = Bytes::copy_from_slice(message);
    let header = HeaderSection::read(&message).unwrap();
    let body = message.slice(header.raw().len()..);
    let mut hasher = signer.hash_body();
    body.strip_prefix(b"\r\n").unwrap_or(&body).chunks(1_000).for_each(|piece| hasher.write(piece));
    let fields = signer.sign(&header, &hasher.finish()?, NOW)?;
    Ok([&fields[..], &message].concat())
}

/// What [`verify`] found of a signature: its tags, and whether it holds.
pub(crate) type Verified = (HashMap<String, String>, Result<(), &'static str>);

/// Checks all signatures of a message, first to last.
pub(crate) fn verify(signer: &DkimSigner, message: &[u8]) -> Vec<Verified> {
    let (fields, body) = parse(message);
    let own = fields.iter().filter(|(name, _)| trimmed(name) == b"dkim-signature");
    let check = |(name, value): &(&[u8], &[u8])| {
        let tags = tags(value);
        let result = check(signer, &fields, body, (name, value), &tags);
        (tags, result)
    };
    own.map(check).collect()
}

type Field<'m> = (&'m [u8], &'m [u8]);

fn check(
    signer: &DkimSigner,
    fields: &[Field<'_>],
    body: &[u8],
    own: Field<'_>,
    tags: &HashMap<String, String>,
) -> Result<(), &'static str> {
    let (header_form, body_form) = tags["c"].split_once('/').unwrap();
    let hash = digest::digest(&digest::SHA256, &canonical_body(body_form, body));
    if STANDARD.encode(hash) != tags["bh"] {
        return Err("body");
    }
    let mut input = Vec::new();
    let mut left = fields.to_vec();
    for name in tags["h"].split(':') {
        let name = name.to_ascii_lowercase();
        let Some(place) = left.iter().rposition(|(n, _)| trimmed(n) == name.as_bytes()) else {
            continue;
        };
        let (name, value) = left.remove(place);
        input.extend(canonical_field(header_form, name, value));
    }
    let unsigned = canonical_field(header_form, own.0, &without_signature(own.1));
    input.extend(unsigned.strip_suffix(b"\r\n").unwrap_or(&unsigned));
    let key = signer.keys().iter().find(|key| key.selector().as_str() == tags["s"]).unwrap();
    let record = key.record();
    let public = STANDARD.decode(record.split_once("p=").unwrap().1).unwrap();
    let signature = STANDARD.decode(&tags["b"]).unwrap();
    let verdict = match &*tags["a"] {
        "rsa-sha256" => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .unwrap()
            .verify_sig(&input, &signature),
        "ed25519-sha256" => ParsedPublicKey::new(&ED25519, public)
            .unwrap()
            .verify_sig(digest::digest(&digest::SHA256, &input).as_ref(), &signature),
        other => panic!("{other}"),
    };
    verdict.map_err(|_| "signature")
}

/// Fields as name and value (what follows the colon, with the final CRLF), and the body.
fn parse(message: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut rest = message;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let mut end = 0;
        loop {
            end += find(&rest[end..], b"\r\n").map_or(rest.len() - end, |at| at + 2);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let colon = find(&rest[..end], b":").unwrap();
        fields.push((&rest[..colon], &rest[colon + 1..end]));
        rest = &rest[end..];
    }
    (fields, rest.strip_prefix(b"\r\n").unwrap_or(rest))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn trimmed(name: &[u8]) -> Vec<u8> {
    name.trim_ascii().to_ascii_lowercase()
}

/// RFC 6376 §3.2; white space within values is dropped, as it may be in all that we write.
fn tags(value: &[u8]) -> HashMap<String, String> {
    let value = std::str::from_utf8(value).unwrap();
    let value: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let tags = value.split(';').filter(|tag| !tag.is_empty());
    let tags = tags.map(|tag| tag.split_once('=').unwrap());
    tags.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn without_signature(value: &[u8]) -> Vec<u8> {
    let value = std::str::from_utf8(value).unwrap();
    let tag = |tag: &str| match tag.split_once('=') {
        Some((name, _)) if name.trim() == "b" => format!("{name}="),
        _ => tag.to_owned(),
    };
    value.split(';').map(tag).collect::<Vec<_>>().join(";").into_bytes()
}

fn canonical_field(form: &str, name: &[u8], value: &[u8]) -> Vec<u8> {
    if form == "simple" {
        return [name, b":", value].concat();
    }
    let text = value.strip_suffix(b"\r\n").unwrap_or(value);
    let unfolded: Vec<u8> = text.iter().copied().filter(|o| !b"\r\n".contains(o)).collect();
    let single = single_spaces(&unfolded);
    let value = single.strip_prefix(b" ").unwrap_or(&single);
    [&trimmed(name), &b":"[..], value.strip_suffix(b" ").unwrap_or(value), b"\r\n"].concat()
}

/// RFC 6376 §3.4.3 and §3.4.4.
pub(crate) fn canonical_body(form: &str, body: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n");
        let (line, after) = end.map_or((rest, &b""[..]), |end| (&rest[..end], &rest[end + 2..]));
        let single = single_spaces(line);
        lines.push(match form {
            "simple" => line.to_vec(),
            _ => single.strip_suffix(b" ").unwrap_or(&single).to_vec(),
        });
        rest = after;
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if lines.is_empty() && form == "simple" {
        lines.push(Vec::new());
    }
    lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect()
}

fn single_spaces(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for &octet in text {
        match octet {
            b' ' | b'\t' if out.last() == Some(&b' ') => {}
            b' ' | b'\t' => out.push(b' '),
            octet => out.push(octet),
        }
    }
    out
}
