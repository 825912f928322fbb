//! Reading files of rows: bounded, and with mistakes that name their line.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The longest file of a table, in octets: about a million rows.
pub const MAX_FILE: u64 = 64 << 20;

/// The longest line, in octets.
pub const MAX_LINE: usize = 16 << 10;

/// Why a file is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read, or is no UTF-8.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than [`MAX_FILE`].
    #[error("{} is longer than {MAX_FILE} octets", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// There are more rows than the kind of table takes.
    #[error("{} has more than {most} rows", path.display())]
    TooManyRows {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        most: usize,
    },
    /// A line is no row.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
        /// What is wrong with it.
        message: String,
    },
}

/// What is wrong with a line, and where in it, in octets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Mistake {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Hands each line that is neither empty nor a comment to `row`, with its number.
pub(crate) fn read_rows(
    path: &Path,
    most: usize,
    mut row: impl FnMut(usize, &str) -> Result<(), Mistake>,
) -> Result<(), FileError> {
    let text = read(path)?;
    let mut rows = 0;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        rows += 1;
        if rows > most {
            return Err(FileError::TooManyRows { path: path.to_owned(), most });
        }
        check(line).and_then(|()| row(number, line.trim_end())).map_err(|mistake| {
            let column = line.get(..mistake.at).unwrap_or(line).chars().count() + 1;
            FileError::Line {
                path: path.to_owned(),
                line: number,
                column,
                message: mistake.message,
            }
        })?;
    }
    Ok(())
}

fn check(line: &str) -> Result<(), Mistake> {
    if line.starts_with(char::is_whitespace) {
        // Elsewhere such a line goes on with the row above; taken for a row it would be a wrong one.
        return Err(Mistake::new(0, "a row begins at the first column, and is one line long"));
    }
    if line.len() > MAX_LINE {
        return Err(Mistake::new(MAX_LINE, format!("the line is longer than {MAX_LINE} octets")));
    }
    match line.find('\0') {
        Some(at) => Err(Mistake::new(at, "a NUL octet")),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}
