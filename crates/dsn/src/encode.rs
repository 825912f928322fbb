//! Content encodings for text that has to pass as ASCII.

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

/// A header text: as it is, or as encoded words if it is beyond ASCII.
pub(crate) fn header_text(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
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
        assert_eq!(header_text("Mail (undelivered)"), "Mail (undelivered)");
        assert_eq!(header_text("Pošta: ne"), "=?utf-8?Q?Po=C5=A1ta=3A_ne?=");
        let long = header_text(&"ž".repeat(100));
        assert!(long.split(' ').all(|word| word.len() <= 75 && word.ends_with("?=")), "{long}");
    }
}
