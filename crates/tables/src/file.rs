//! A table in a file, one row a line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Table, TableError};

use crate::lines::{FileError, Mistake, read_rows};

/// The most rows of a file.
const MAX_ROWS: usize = 1_000_000;

/// Rows of a file, in memory.
///
/// ```text
/// # domain or address   where it goes
/// example.org            relay:[192.0.2.25]
/// bob@example.org:       maildir
/// "john doe"@example.org maildir
/// ```
///
/// A row is a key, then spaces or tabs, then its value, which goes on to the end of the line. A
/// colon may follow the key. A key that begins with a double quote goes on until after the next
/// one, so that it may contain spaces. Empty lines are skipped, and those that begin with `#`. A
/// key that stands there twice is a mistake, as is one without a value, and a line that begins
/// with a space. Letter case of keys does not count.
///
/// Limits: 64 MiB and a million rows a file, 16 KiB a line.
#[derive(Debug)]
pub struct FileTable {
    rows: HashMap<Box<str>, Row>,
}

#[derive(Debug)]
struct Row {
    value: Box<str>,
    line: usize,
}

impl FileTable {
    /// Reads the file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut rows: HashMap<Box<str>, Row> = HashMap::new();
        read_rows(path, MAX_ROWS, |line, text| {
            let (key, value) = split(text)?;
            let row = Row { value: value.into(), line };
            match rows.insert(fold(key).into(), row) {
                None => Ok(()),
                Some(first) => Err(Mistake::new(
                    0,
                    format!("`{key}` has a row already, in line {}", first.line),
                )),
            }
        })?;
        tracing::info!(file = %path.display(), rows = rows.len(), "table read");
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

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[async_trait]
impl Table for FileTable {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        Ok(self.rows.get(fold(key).as_str()).map(|row| row.value.to_string()))
    }
}

fn fold(key: &str) -> String {
    key.to_lowercase()
}

/// Key and value of a row.
fn split(text: &str) -> Result<(&str, &str), Mistake> {
    let spaces_from = match text.strip_prefix('"') {
        Some(rest) => 1 + closing(rest).ok_or_else(|| Mistake::new(0, "the quote does not end"))?,
        None => 0,
    };
    let end = text[spaces_from..]
        .find(char::is_whitespace)
        .map_or(text.len(), |space| spaces_from + space);
    let (key, value) = text.split_at(end);
    let key = key.strip_suffix(':').unwrap_or(key);
    let value = value.trim_start();
    if key.is_empty() {
        return Err(Mistake::new(0, "the key is missing"));
    }
    if value.is_empty() {
        return Err(Mistake::new(end, format!("`{key}` has no value")));
    }
    Ok((key, value))
}

/// Where the first quote is that no backslash precedes.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|octet| {
        let found = octet == b'"' && !escaped;
        escaped = octet == b'\\' && !escaped;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split() {
        let check = |text: &str, expected: Result<(&str, &str), &str>| {
            let found = split(text).map_err(|mistake| mistake.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        check("a b", Ok(("a", "b")));
        check("a\t  b  c # d", Ok(("a", "b  c # d")));
        check("a: b", Ok(("a", "b")));
        check("a:b c", Ok(("a:b", "c")));
        check("a :b", Ok(("a", ":b")));
        check("\"a b\"@c d", Ok(("\"a b\"@c", "d")));
        check("\"a \\\" b\"@c: d", Ok(("\"a \\\" b\"@c", "d")));
        check("\"a\\\\\" d", Ok(("\"a\\\\\"", "d")));
        check("\"a d", Err("the quote does not end"));
        check("\"a\\\" d", Err("the quote does not end"));
        check("a", Err("`a` has no value"));
        check("a:", Err("`a` has no value"));
        check(": b", Err("the key is missing"));
    }
}
