//! A TOML file as options with positions.

use std::io;
use std::path::{Path, PathBuf};

use merpati_plugin::options::{
    Entry, Errors, Excerpt, Kind, OptionError, Options, Place, Span, Value,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::report::Report;

/// The largest file that is read, in octets: far more than anybody writes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// A configuration file, and what is found to be wrong with it.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    name: PathBuf,
    text: String,
    options: Options,
}

/// The file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is missing, or not ours to read, or no text.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than 16 MiB.
    #[error("{}: larger than {LIMIT} octets", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
}

impl ConfigFile {
    /// Reads a file. Its syntax errors are among [`Self::errors`].
    ///
    /// # Errors
    /// [`OpenError`], when there is nothing to parse.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > LIMIT {
            return Err(OpenError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Ok(Self::parse(path, text))
    }

    /// Parses a text that goes by the name `name`. Relative paths in it begin at the directory
    /// of that name.
    #[must_use]
    pub fn parse(name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (name, text) = (name.into(), text.into());
        let errors = Errors::default();
        let entries = {
            let converter = Converter { lines: Lines::of(&text), errors: &errors };
            let (root, mistakes) = DeTable::parse_recoverable(&text);
            for mistake in mistakes {
                converter.report_syntax(mistake.message(), mistake.span());
            }
            converter.table(root.get_ref())
        };
        let directory = name.parent().unwrap_or(Path::new("")).to_owned();
        Self { options: Options::root(entries, errors, &directory), name, text }
    }

    /// The top of the file.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The mistakes found so far; owners of options add theirs.
    #[must_use]
    pub fn errors(&self) -> &Errors {
        self.options.errors()
    }

    /// Whether nothing was found to be wrong.
    ///
    /// # Errors
    /// [`Report`], with all that was.
    pub fn verdict(&self) -> Result<(), Report> {
        let mut errors = self.errors().sorted();
        // What a broken value leads to is no second mistake. Only syntax errors have no path.
        let is_syntax = |error: &OptionError| error.place.path.is_empty();
        let broken: Vec<_> =
            errors.iter().filter(|e| is_syntax(e)).map(|error| error.place.span.start).collect();
        errors.retain(|error| is_syntax(error) || !broken.contains(&error.place.span.start));
        if errors.is_empty() { Ok(()) } else { Err(Report::new(&self.name, &self.text, errors)) }
    }
}

/// Where lines begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let after = text.match_indices('\n').map(|(place, _)| place + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn span(&self, bytes: &std::ops::Range<usize>) -> Span {
        let line = self.starts.partition_point(|start| *start <= bytes.start);
        let begin = self.starts[line - 1];
        let before = self.text.get(begin..bytes.start).unwrap_or_default();
        Span { line, column: before.chars().count() + 1, start: bytes.start, end: bytes.end }
    }
}

struct Converter<'a> {
    lines: Lines<'a>,
    errors: &'a Errors,
}

impl Converter<'_> {
    fn report_syntax(&self, message: &str, span: Option<std::ops::Range<usize>>) {
        let span = self.lines.span(&span.unwrap_or(0..0));
        self.report(span, message.to_owned(), None);
    }

    fn report(&self, span: Span, message: String, help: Option<&str>) {
        self.errors.push(OptionError {
            place: Place { path: String::new(), span },
            message,
            help: help.map(str::to_owned),
            excerpt: Excerpt::Line,
        });
    }

    fn table(&self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: self.lines.span(&key.span()),
                value: self.value(value),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span);
        entries
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        let span = self.lines.span(&value.span());
        let kind = match value.get_ref() {
            DeValue::String(text) => Kind::String(text.to_string()),
            DeValue::Integer(digits) => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix());
                Kind::Integer(number.unwrap_or_else(|_| {
                    self.report(span, format!("{digits} does not fit 64 bits"), None);
                    0
                }))
            }
            // What the grammar takes for a float, `parse` does too.
            DeValue::Float(digits) => Kind::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Kind::Boolean(*value),
            DeValue::Datetime(date) => {
                let help = Some("no option takes a date; a string has quotes");
                self.report(span, format!("{date} is a date"), help);
                Kind::String(date.to_string())
            }
            DeValue::Array(values) => {
                Kind::Array(values.iter().map(|value| self.value(value)).collect())
            }
            DeValue::Table(table) => Kind::Table(self.table(table)),
        };
        Value { kind, span }
    }
}
