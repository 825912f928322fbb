//! Content encodings for text that has to pass as ASCII.

use crate::text::Charset;

/// Lines of quoted-printable are at most 76 octets with the `=` that breaks them (RFC 2045 §6.7).
const SOFT_LIMIT: usize = 75;
/// An encoded word is at most 75 octets (RFC 2047 §2), of which these hold text.
const WORD_LIMIT: usize = 63;

/// Whether octets may pass as `7bit` (RFC 2045 §2.7), line ends apart.
pub(crate) fn is_seven_bit(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte.is_ascii() && byte != 0)
}

/// The lines of a text without their ends: CRLF, or a bare CR or LF. What follows the last end is
/// no line if it is empty.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
        Some(line)
    })
}

/// Writes text as quoted-printable.
pub(crate) fn quoted_printable(out: &mut Vec<u8>, text: &[u8]) {
    for line in lines(text) {
        let mut width = 0;
        for (place, &byte) in line.iter().enumerate() {
            let is_last = place + 1 == line.len();
            let plain = match byte {
                b'=' => false,
                b' ' | b'\t' => !is_last,
                other => other.is_ascii_graphic(),
            };
            let size = if plain { 1 } else { 3 };
            if width + size > SOFT_LIMIT {
                out.extend_from_slice(b"=\r\n");
                width = 0;
            }
            if plain {
                out.push(byte);
            } else {
                push_hex(out, byte);
            }
            width += size;
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A text in a header: as it is, or as encoded words where it has to be ASCII.
pub(crate) fn unstructured(text: &str, charset: Charset) -> String {
    // What looks like an encoded word would be taken for one.
    let is_plain = (text.is_ascii() || charset == Charset::Utf8) && !text.contains("=?");
    if is_plain { text.to_owned() } else { encoded_words(text) }
}

/// A display name: as it is, quoted, or as encoded words (RFC 5322 §3.2.5).
pub(crate) fn phrase(text: &str, charset: Charset) -> String {
    if !(text.is_ascii() || charset == Charset::Utf8) || text.contains("=?") {
        return encoded_words(text);
    }
    let is_atext = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~ ".contains(c);
    if text.chars().all(is_atext) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

fn encoded_words(text: &str) -> String {
    let mut words = vec![Vec::new()];
    for character in text.chars() {
        let mut encoded = Vec::new();
        for &byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
            match byte {
                b' ' => encoded.push(b'_'),
                // RFC 2047 §5 (3): what is safe everywhere.
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(byte),
                other => push_hex(&mut encoded, other),
            }
        }
        // A character is never divided among words.
        match words.last_mut() {
            Some(word) if word.len() + encoded.len() <= WORD_LIMIT => word.append(&mut encoded),
            _ => words.push(encoded),
        }
    }
    let words: Vec<_> =
        words.iter().map(|word| format!("=?utf-8?Q?{}?=", String::from_utf8_lossy(word))).collect();
    words.join(" ")
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS[usize::from(half & 0xF)];
    out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_every_way() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> = lines(text.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check("a", &["a"]);
        check("a\r\n", &["a"]);
        check("\r\n\r\na", &["", "", "a"]);
        check("a\nb\rc\n\rd\r\r\n", &["a", "b", "c", "", "d", ""]);
    }

    #[test]
    fn text_is_quoted() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            quoted_printable(&mut out, text.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("a = b \r\n\tc\0", "a =3D b=20\r\n\tc=00\r\n");
        check("é", "=C3=A9\r\n");
        let (long, part) = ("x".repeat(80), "x".repeat(75));
        check(&long, &format!("{part}=\r\nxxxxx\r\n"));
        check(&format!("{}é", &part[..74]), &format!("{}=\r\n=C3=A9\r\n", &part[..74]));
    }

    #[test]
    fn header_text_becomes_encoded_words() {
        use Charset::{Ascii, Utf8};
        let czech = "=?utf-8?Q?Po=C5=A1ta=3A_ne?=";
        for (text, ascii, utf8, name) in [
            ("Mail (undelivered)", None, None, "\"Mail (undelivered)\""),
            ("Post: \"a\\b\"", None, None, "\"Post: \\\"a\\\\b\\\"\""),
            ("Mail System", None, None, "Mail System"),
            ("Pošta: ne", Some(czech), None, czech),
            (
                "=?x",
                Some("=?utf-8?Q?=3D=3Fx?="),
                Some("=?utf-8?Q?=3D=3Fx?="),
                "=?utf-8?Q?=3D=3Fx?=",
            ),
        ] {
            assert_eq!(unstructured(text, Ascii), ascii.unwrap_or(text));
            assert_eq!(unstructured(text, Utf8), utf8.unwrap_or(text));
            assert_eq!(phrase(text, Ascii), name);
        }
        assert_eq!(phrase("Pošta: ne", Utf8), "\"Pošta: ne\"");
        assert_eq!(phrase("Pošta", Utf8), "Pošta");
        let long = unstructured(&"ž".repeat(100), Ascii);
        assert!(long.split(' ').all(|word| word.len() <= 75 && word.ends_with("?=")), "{long}");
    }
}
