//! xtext (RFC 3461 §4): ASCII with `+HH` for everything else.

use std::fmt;

/// Writes `text` as xtext into something larger.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => write!(f, "{}", char::from(byte))?,
            other => write!(f, "+{other:02X}")?,
        }
    }
    Ok(())
}

/// Writes `text` as xtext.
#[must_use]
pub fn encode(text: &str) -> String {
    struct Encoded<'a>(&'a str);
    impl fmt::Display for Encoded<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, self.0)
        }
    }
    Encoded(text).to_string()
}

/// Reads xtext; `None` when it is malformed or not UTF-8 inside.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut read = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        read.push(match byte {
            // Upper-case digits only: RFC 3461 §4.
            b'+' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'!'..=b'~' if byte != b'=' => byte,
            _ => return None,
        });
    }
    String::from_utf8(read).ok()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
