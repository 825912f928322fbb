//! Text within reports: nothing from outside can end a line or a field.

use std::fmt::Write as _;

/// The longest diagnostic that is quoted.
const DIAGNOSTIC_LIMIT: usize = 900;
/// Lines are folded where they exceed this (RFC 5322 §2.1.1).
const FOLD_AT: usize = 76;

/// Text without control characters, ASCII unless `utf8`, of bounded length.
pub(crate) fn clean(text: &str, utf8: bool) -> String {
    let clean = |c: char| match c {
        c if c.is_control() => ' ',
        c if !utf8 && !c.is_ascii() => '?',
        c => c,
    };
    text.chars().take(DIAGNOSTIC_LIMIT).map(clean).collect()
}

/// Writes a field, folded at spaces. A word that is too long for a line stays whole: the limit
/// on diagnostics keeps it below 998 octets.
pub(crate) fn field(out: &mut String, name: &str, value: &str) {
    let start = out.len();
    out.push_str(name);
    out.push(':');
    let mut line = start;
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if out.len() - line + 1 + word.len() > FOLD_AT && out.len() - line > name.len() + 1 {
            out.push_str("\r\n");
            line = out.len();
        }
        out.push(' ');
        out.push_str(word);
    }
    out.push_str("\r\n");
}

/// Writes a paragraph of the human part, wrapped.
pub(crate) fn paragraph(out: &mut String, indent: &str, text: &str) {
    let mut line = out.len();
    out.push_str(indent);
    for (place, word) in text.split_whitespace().enumerate() {
        if place > 0 && out.len() - line + 1 + word.len() > FOLD_AT {
            let _ = write!(out, "\r\n{indent}");
            line = out.len() - indent.len();
        } else if place > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.push_str("\r\n");
}
