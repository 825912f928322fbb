//! A table of patterns.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Table, TableError};
use regex::{Captures, Regex, RegexBuilder};

use crate::lines::{FileError, Mistake, read_rows};

/// The most rows of a file: each is tried until one matches.
const MAX_ROWS: usize = 1_000;

/// The largest compiled pattern, in octets.
const MAX_PATTERN: usize = 1 << 20;

/// Patterns of a file, in memory; the first that matches counts.
///
/// ```text
/// /^postmaster@/                    alice@example.org
/// /^(.*)-list@lists\.example\.org$/ lists+$1@example.org
/// ```
///
/// A row is a pattern between slashes, then spaces or tabs, then a value in which `$1` or `${1}`
/// is what the first group matched, and so on, and `$$` a dollar sign. A slash in the pattern is
/// written `\/`. Letter case does not count, unless the pattern says `(?-i)`. A pattern may match
/// any part of the key: `^` and `$` tie it to the ends. The syntax is that of the `regex` crate:
/// no look-around, no back-references, and a time that grows with the length of the key only.
///
/// A table of patterns is asked for whole addresses, never for parts of them
/// ([`Table::knows_parts`]).
///
/// Limits: a thousand rows a file, 16 KiB a line, 1 MiB a compiled pattern.
#[derive(Debug)]
pub struct RegexTable {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    pattern: Regex,
    value: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl RegexTable {
    /// Reads the file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut rows = Vec::new();
        read_rows(path, MAX_ROWS, |_, text| {
            rows.push(Row::read(text)?);
            Ok(())
        })?;
        tracing::info!(file = %path.display(), rows = rows.len(), "table of patterns read");
        Ok(Self { rows })
    }

    /// Reads the options: `path`.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong with the options or the file has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let path = reader.required::<PathBuf>("path");
        let table =
            path.and_then(|path| Self::open(&path).map_err(|error| reader.reject("path", error)));
        reader.finish()?;
        table
    }
}

#[async_trait]
impl Table for RegexTable {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        let first = |row: &Row| row.pattern.captures(key).map(|found| fill(&row.value, &found));
        Ok(self.rows.iter().find_map(first))
    }

    fn knows_parts(&self) -> bool {
        false
    }
}

impl Row {
    fn read(text: &str) -> Result<Self, Mistake> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Mistake::new(0, "a row begins with a pattern between slashes"));
        };
        let end = closing(rest).ok_or_else(|| Mistake::new(0, "the pattern does not end"))?;
        let after = 1 + end + 1;
        let value = &text[after..];
        if !value.starts_with(char::is_whitespace) {
            return Err(Mistake::new(
                after,
                "expected a space and the value after the pattern; letter case does not count \
                 unless the pattern says (?-i)",
            ));
        }
        let pattern = RegexBuilder::new(&rest[..end].replace("\\/", "/"))
            .case_insensitive(true)
            .size_limit(MAX_PATTERN)
            .build()
            .map_err(|error| Mistake::new(1, one_line(&error)))?;
        let begin = text.len() - value.trim_start().len();
        let value = pieces(&text[begin..], pattern.captures_len())
            .map_err(|Mistake { at, message }| Mistake { at: begin + at, message })?;
        Ok(Self { pattern, value })
    }
}

/// Where the first slash is that no backslash precedes.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|octet| {
        let found = octet == b'/' && !escaped;
        escaped = octet == b'\\' && !escaped;
        found
    })
}

/// The crate draws the pattern with a mark below it, and ends with what is wrong.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn pieces(text: &str, groups: usize) -> Result<Vec<Piece>, Mistake> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|dollar| at + dollar) {
        push_text(&mut pieces, &text[at..dollar]);
        let rest = &text[dollar + 1..];
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, length) = if rest.starts_with('$') {
            push_text(&mut pieces, "$");
            at = dollar + 2;
            continue;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let length = digits(inner);
            let closed = inner[length..].starts_with('}');
            (if closed { &inner[..length] } else { "" }, length + 2)
        } else {
            let length = digits(rest);
            (&rest[..length], length)
        };
        let message = "after `$` stands the number of a group, or another `$`";
        let group = number.parse::<usize>().map_err(|_| Mistake::new(dollar, message))?;
        if group >= groups {
            let message = format!("the pattern has no group {group}");
            return Err(Mistake::new(dollar, message));
        }
        pieces.push(Piece::Group(group));
        at = dollar + 1 + length;
    }
    push_text(&mut pieces, &text[at..]);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn fill(value: &[Piece], found: &Captures<'_>) -> String {
    let piece = |piece: &'_ Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Group(group) => {
            found.get(*group).map_or_else(String::new, |part| part.as_str().to_owned())
        }
    };
    value.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let check = |row: &str, key: &str, expected: Option<&str>| {
            let row = Row::read(row).unwrap();
            let found = row.pattern.captures(key).map(|found| fill(&row.value, &found));
            assert_eq!(found.as_deref(), expected, "{key}");
        };
        check("/^a@/ b", "A@x", Some("b"));
        check("/^a@/ b", "aa@x", None);
        check("/(?-i)^a@/ b", "A@x", None);
        check("/a\\/b/ c", "a/b", Some("c"));
        check("/\\\\/ c", "\\", Some("c"));
        check("/(.)(.)(.)?/ $2${1}0 $$1 $3.", "xy", Some("yx0 $1 ."));
        check("/^(.*)$/ $0 ist $1", "ü", Some("ü ist ü"));
    }

    #[test]
    fn wrong_rows_say_where() {
        let check = |row: &str, at: usize, message: &str| {
            let mistake = Row::read(row).err().unwrap_or_else(|| panic!("{row} is taken"));
            assert!(mistake.message.contains(message), "{row}: {}", mistake.message);
            assert_eq!(mistake.at, at, "{row}");
        };
        check("a b", 0, "between slashes");
        check("/a b", 0, "does not end");
        check("/a\\/ b", 0, "does not end");
        check("/a/b", 3, "expected a space");
        check("/a/i b", 3, "(?-i)");
        check("/a/", 3, "expected a space");
        check("/(a/ b", 1, "unclosed group");
        check("/(?=a)/ b", 1, "look-around");
        check("/\\w{9}{9}{9}{9}/ b", 1, "size");
        check("/a/  b$1", 6, "no group 1");
        check("/a/ $x", 4, "number of a group");
        check("/(a)/ ${1", 6, "number of a group");
        check("/(a)/ ${}", 6, "number of a group");
        check("/(a)/ $99999999999999999999", 6, "number of a group");
    }
}
