//! xtext as XCLIENT and XFORWARD use it: RFC 3461 §4, but digits of either case are read.

use std::fmt::Write;

/// Writes `text` as xtext.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            other => {
                // Writing to memory does not fail.
                let _ = write!(out, "+{other:02X}");
            }
        }
    }
    out
}

/// Reads xtext; `None` when it is malformed, or not UTF-8 inside.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut octets = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'+' => {
                let mut digit = || char::from(octets.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            b'!'..=b'~' if octet != b'=' => octet,
            _ => return None,
        });
    }
    String::from_utf8(out).ok()
}
