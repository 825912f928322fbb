//! Text within reports: nothing from outside can end a line or a field.

use std::fmt::Write as _;

use merpati_types::{Host, Mailbox};

/// The most octets of foreign words that are quoted in one place.
const WORDS_LIMIT: usize = 900;
/// Lines are folded where they exceed this (RFC 5322 §2.1.1 recommends at most 78).
const FOLD_AT: usize = 76;
/// The longest address that is shown as it was given.
const GIVEN_LIMIT: usize = 400;

/// Which octets a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Ascii,
    Utf8,
}

/// Text of bounded length, with a space for control characters in a row. What the charset lacks
/// becomes `?`.
pub(crate) fn clean(text: &str, charset: Charset) -> String {
    let mut cleaned = String::with_capacity(text.len().min(WORDS_LIMIT));
    let mut after_control = false;
    for character in text.trim().chars() {
        let is_control = character.is_control();
        if is_control && std::mem::replace(&mut after_control, true) {
            continue;
        }
        after_control = is_control;
        let character = match character {
            _ if is_control => ' ',
            c if charset == Charset::Ascii && !c.is_ascii() => '?',
            c => c,
        };
        if cleaned.len() + character.len_utf8() > WORDS_LIMIT {
            break;
        }
        cleaned.push(character);
    }
    cleaned.truncate(cleaned.trim_end().len());
    cleaned
}

/// The name of our own host, reduced to what a name or an address literal can have.
pub(crate) fn host_name(text: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._:[]".contains(*c);
    let name: String = text.chars().filter(allowed).take(255).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The name of another host, if the text is one.
pub(crate) fn other_host(text: &str) -> Option<String> {
    match (Host::parse(text), text.parse()) {
        (Ok(Host::Domain(domain)), _) => Some(domain.as_ascii().to_owned()),
        (Ok(literal), _) => Some(literal.to_string()),
        (Err(_), Ok(address)) => Some(Host::Literal(address).to_string()),
        (Err(_), Err(_)) => None,
    }
}

/// An address as a report shows it: as given, or with A-labels.
pub(crate) fn address(mailbox: &Mailbox, charset: Charset) -> String {
    let given = mailbox.to_string();
    match mailbox.host() {
        Host::Domain(domain) if charset == Charset::Ascii || given.len() > GIVEN_LIMIT => {
            format!("{}@{}", mailbox.local(), domain.as_ascii())
        }
        _ => given,
    }
}

/// An address with its type (RFC 3464 §2.1.2, RFC 6533 §3).
pub(crate) fn typed_address(kind: &str, address: &str, charset: Charset) -> String {
    let kind = if address.is_ascii() { kind } else { "utf-8" };
    match charset {
        Charset::Ascii if !address.is_ascii() => format!("{kind}; {}", escape(address)),
        _ => format!("{kind}; {address}"),
    }
}

/// `utf-8-addr-xtext`: ASCII, with `\x{HEX}` for everything else (RFC 6533 §3).
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        match character {
            '!'..='~' if !matches!(character, '\\' | '+' | '=') => escaped.push(character),
            other => {
                let _ = write!(escaped, "\\x{{{:02X}}}", u32::from(other));
            }
        }
    }
    escaped
}

/// Reads what [`escape`] has written; what is no escape stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut read = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\\x{") {
        let (before, escaped) = rest.split_at(start);
        read.push_str(before);
        let found = escaped.split_once('}').and_then(|(digits, after)| {
            let point = u32::from_str_radix(digits.get(3..)?, 16).ok()?;
            Some((char::from_u32(point)?, after))
        });
        match found {
            Some((character, after)) => {
                read.push(character);
                rest = after;
            }
            None => {
                read.push('\\');
                rest = &escaped[1..];
            }
        }
    }
    read.push_str(rest);
    read
}

/// Writes a field, folded before its spaces so that unfolding gives the value again. Only a word
/// of more than [`WORDS_LIMIT`] octets is broken.
pub(crate) fn field(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name}: ");
    let mut width = name.len() + 2;
    let mut rest = value.trim();
    let mut is_first = true;
    while !rest.is_empty() {
        // A word with the spaces before it.
        let word = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest[word..].find(' ').map_or(rest.len(), |end| word + end);
        let end = end.min(floor(rest, WORDS_LIMIT));
        let (piece, after) = rest.split_at(end);
        if !is_first && width + piece.len() > FOLD_AT {
            out.push_str("\r\n");
            width = 0;
            if !piece.starts_with(' ') {
                out.push(' ');
            }
        }
        out.push_str(piece);
        width += piece.len();
        rest = after;
        is_first = false;
    }
    out.push_str("\r\n");
}

/// Writes a paragraph of the human part, wrapped; nothing for an empty one.
pub(crate) fn paragraph(out: &mut String, indent: &str, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let mut word = word;
        while !word.is_empty() {
            let (piece, after) = word.split_at(floor(word, WORDS_LIMIT));
            if width > 0 && width + 1 + piece.len() > FOLD_AT {
                out.push_str("\r\n");
                width = 0;
            }
            let before = if width > 0 { " " } else { indent };
            out.push_str(before);
            out.push_str(piece);
            width += before.len() + piece.len();
            word = after;
        }
    }
    if width > 0 {
        out.push_str("\r\n");
    }
}

/// The last place within `limit` octets where the text can be cut.
fn floor(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (0..=limit).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_folded_and_unfold_to_what_they_were() {
        let check = |value: &str, expected: &str| {
            let mut out = String::new();
            field(&mut out, "Name", value);
            assert_eq!(out, expected);
        };
        check("", "Name: \r\n");
        check("a  b", "Name: a  b\r\n");
        let (long, longer) = ("x".repeat(60), "y".repeat(1_000));
        check(&format!("{long}  {long}"), &format!("Name: {long}\r\n  {long}\r\n"));
        let (start, end) = longer.split_at(900);
        check(&longer, &format!("Name: {start}\r\n {end}\r\n"));
    }

    #[test]
    fn paragraphs_are_wrapped() {
        let mut out = String::new();
        paragraph(&mut out, "    ", &"word ".repeat(20));
        assert!(out.lines().all(|line| line.len() <= FOLD_AT && line.starts_with("    word")));
        assert_eq!(out.split_whitespace().count(), 20);
        out.clear();
        paragraph(&mut out, "    ", " ");
        assert_eq!(out, "");
        paragraph(&mut out, "", &"é".repeat(1_000));
        assert!(out.lines().all(|line| line.len() <= 998));
    }

    #[test]
    fn foreign_words_are_harmless() {
        let text = "550 no\r\nBcc: x\0\u{85}é";
        assert_eq!(clean(text, Charset::Ascii), "550 no Bcc: x ?");
        assert_eq!(clean(text, Charset::Utf8), "550 no Bcc: x é");
        assert_eq!(clean(&"é".repeat(1_000), Charset::Utf8).len(), WORDS_LIMIT);
        assert_eq!(host_name("relay.test>\r\nBcc: x"), "relay.testBcc:x");
        assert_eq!(host_name("\r\n"), "localhost");
        assert_eq!(other_host("mx.test").as_deref(), Some("mx.test"));
        assert_eq!(other_host("192.0.2.1").as_deref(), Some("[192.0.2.1]"));
        assert_eq!(other_host("[IPv6:::1]").as_deref(), Some("[IPv6:::1]"));
        assert_eq!(other_host("/var/mail/bob"), None);
    }

    #[test]
    fn addresses_beyond_ascii_have_an_ascii_form() {
        for (text, escaped) in [
            ("bób@test", "b\\x{F3}b@test"),
            ("пр+a=b@test", "\\x{43F}\\x{440}\\x{2B}a\\x{3D}b@test"),
            ("\"a \\\\b\"@test", "\"a\\x{20}\\x{5C}\\x{5C}b\"@test"),
            ("\u{1F54A}@test", "\\x{1F54A}@test"),
        ] {
            assert_eq!(escape(text), escaped);
            assert_eq!(unescape(escaped), text);
        }
        for odd in ["\\x{", "\\x{}", "\\x{D800}", "\\x{zz}a", "a\\xb", "\\\\x"] {
            assert_eq!(unescape(odd), odd);
        }
    }
}
