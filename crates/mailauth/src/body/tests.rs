//! Body hashes against the rules of RFC 6376 taken literally.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::fixture::canonical_body;

fn hash(form: Canonicalization, pieces: &[&[u8]]) -> Result<BodyHash, SignError> {
    let mut hasher = BodyHasher::new(form);
    pieces.iter().for_each(|piece| hasher.write(piece));
    hasher.finish()
}

fn expected(form: &str, body: &[u8]) -> Vec<u8> {
    digest(&SHA256, &canonical_body(form, body)).as_ref().to_vec()
}

/// Every text of up to `most` of the `parts`.
fn texts(parts: &[&str], most: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut from = 0;
    for _ in 0..most {
        let to = texts.len();
        for place in from..to {
            let text = texts[place].clone();
            texts.extend(parts.iter().map(|part| format!("{text}{part}")));
        }
        from = to;
    }
    texts
}

/// Checks a body in both forms, whole, octet by octet, and cut at every place.
fn check(body: &[u8]) {
    for (form, name) in
        [(Canonicalization::Relaxed, "relaxed"), (Canonicalization::Simple, "simple")]
    {
        let expected = expected(name, body);
        let octets: Vec<_> = body.chunks(1).collect();
        let shown = body.escape_ascii();
        assert_eq!(hash(form, &octets).unwrap().digest, *expected, "{name} {shown} by octets");
        for cut in 0..=body.len() {
            let (one, other) = body.split_at(cut);
            let hash = hash(form, &[one, other]).unwrap();
            assert_eq!(hash.digest, *expected, "{name} {shown} cut at {cut}");
            assert_eq!(hash.canonicalization, form);
        }
    }
}

#[test]
fn every_short_body_is_hashed_by_the_rules() {
    for body in texts(&[" ", "\t", "\r\n", "a"], 6) {
        check(body.as_bytes());
    }
    for body in texts(&["  ", "\r\n", "a b", "\x0c", "\0", "\u{e9}"], 4) {
        check(body.as_bytes());
    }
}

#[test]
fn long_runs_of_line_ends_are_hashed_by_the_rules() {
    for lines in [1, 15, 16, 17, 31, 32, 33, 1_000] {
        let run = "\r\n".repeat(lines);
        for body in [format!("a{run}b\r\n"), format!("a{run}"), format!("{run} a"), run] {
            for (form, name) in
                [(Canonicalization::Relaxed, "relaxed"), (Canonicalization::Simple, "simple")]
            {
                let pieces: Vec<_> = body.as_bytes().chunks(7).collect();
                let hash = hash(form, &pieces).unwrap();
                assert_eq!(hash.digest, *expected(name, body.as_bytes()), "{name} {lines}");
            }
        }
    }
}

#[test]
fn empty_bodies_have_the_hashes_of_the_rfc() {
    for (form, body, expected) in [
        (Canonicalization::Relaxed, "", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (Canonicalization::Simple, "", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        (Canonicalization::Relaxed, "\r\n", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (Canonicalization::Simple, "\r\n\r\n", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        (Canonicalization::Relaxed, " \r\n\t", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ] {
        let hash = hash(form, &[body.as_bytes()]).unwrap();
        assert_eq!(STANDARD.encode(hash.digest), expected, "{form:?} {body:?}");
    }
}

/// The fault that [`BodyHasher::write_relaxed`] works around, so that it is seen when it is gone.
#[test]
fn the_library_alone_takes_white_space_at_the_end_for_text() {
    let body = b"text\r\n \t\r\n";
    let mut library = LibraryHasher::new(Sha256::hasher(), Library::Relaxed, 0);
    library.write(body);
    let alone = library.finish().0.complete();
    assert_ne!(alone.as_ref(), expected("relaxed", body));
    let ours = hash(Canonicalization::Relaxed, &[body]).unwrap();
    assert_eq!(ours.digest, *expected("relaxed", b"text\r\n"));
}

#[test]
fn bare_line_ends_are_refused_wherever_the_pieces_end() {
    for body in texts(&["\r", "\n", "a"], 6) {
        let paired = !body.replace("\r\n", "").contains(['\r', '\n']);
        for form in [Canonicalization::Relaxed, Canonicalization::Simple] {
            for cut in 0..=body.len() {
                let (one, other) = body.as_bytes().split_at(cut);
                let hash = hash(form, &[one, b"", other]);
                let expected = if paired { Ok(()) } else { Err(SignError::BareLineEnd) };
                assert_eq!(hash.map(drop), expected, "{body:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_large_body_is_hashed_in_pieces() {
    let line = "Every line of this body has some words,  two spaces, and an end. \r\n";
    let piece = line.repeat(1_000);
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    let mut reference = aws_lc_rs::digest::Context::new(&SHA256);
    let canonical = canonical_body("relaxed", piece.as_bytes());
    for _ in 0..30_000_000 / piece.len() {
        hasher.write(piece.as_bytes());
        reference.update(&canonical);
    }
    assert_eq!(hasher.finish().unwrap().digest, reference.finish().as_ref());
}
