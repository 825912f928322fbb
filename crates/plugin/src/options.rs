//! The options of a plugin: values with positions, read so that all mistakes are told at once.
//!
//! An [`Options`] is a table of the configuration file. Its [`Reader`] takes one key after
//! another; whatever is wrong is recorded with its line and column in the [`Errors`] that all
//! tables of a file share, and [`Reader::finish`] adds the keys that nobody asked for. So a
//! plugin's configuration is read in one pass, and the operator sees every mistake of the file
//! in one run.
//!
//! ```
//! use std::path::PathBuf;
//! use std::time::Duration;
//!
//! use merpati_plugin::options::{Invalid, Options};
//!
//! struct Reputation {
//!     file: PathBuf,
//!     ttl: Duration,
//!     limit: u32,
//! }
//!
//! impl Reputation {
//!     fn from_options(options: &Options) -> Result<Self, Invalid> {
//!         let mut reader = options.reader();
//!         let file = reader.required("file");
//!         let ttl = reader.or("ttl", Duration::from_secs(300));
//!         let limit = reader.ranged("limit", 1..=100, 10);
//!         reader.finish()?;
//!         Ok(Self { file: file?, ttl, limit })
//!     }
//! }
//!
//! let good = Options::new([("file", "/etc/bad.txt".into()), ("ttl", "30s".into())]);
//! let reputation = Reputation::from_options(&good).unwrap();
//! assert_eq!((reputation.ttl.as_secs(), reputation.limit), (30, 10));
//!
//! let bad = Options::new([("fiel", "/etc/bad.txt".into()), ("limit", 0.into())]);
//! assert!(Reputation::from_options(&bad).is_err());
//! assert_eq!(bad.errors().len(), 3); // `file` is missing, `fiel` unknown, 0 too small
//! ```

mod error;
mod quantity;
mod read;
mod value;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

pub use error::{Errors, Excerpt, Invalid, OptionError, Place};
pub use quantity::{Size, parse_duration};
pub use read::{Bounded, Found, FromOption, Located, OneOrMany, Parsed};
pub use value::{Entry, Kind, Span, Value};

/// What all tables of a file share.
#[derive(Clone, Debug)]
struct Source {
    errors: Errors,
    /// Where relative paths begin.
    directory: Arc<Path>,
}

/// A table of the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    entries: Vec<Entry>,
    place: Place,
    source: Source,
}

impl Options {
    /// Options that come from no file, for tests and for defaults.
    #[must_use]
    pub fn new<'k>(entries: impl IntoIterator<Item = (&'k str, Value)>) -> Self {
        let entry = |(key, value): (&str, Value)| Entry {
            key: key.to_owned(),
            key_span: value.span,
            value,
        };
        let entries = entries.into_iter().map(entry).collect();
        Self::root(entries, Errors::default(), Path::new(""))
    }

    /// The top of a file. Relative paths in it begin at `directory`.
    #[must_use]
    pub fn root(entries: Vec<Entry>, errors: Errors, directory: &Path) -> Self {
        let source = Source { errors, directory: directory.into() };
        Self { entries, place: Place::default(), source }
    }

    /// Begins to read.
    pub fn reader(&self) -> Reader<'_> {
        Reader { options: self, known: Vec::new(), began: self.source.errors.len() }
    }

    /// Where the table stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where mistakes are recorded.
    #[must_use]
    pub fn errors(&self) -> &Errors {
        &self.source.errors
    }

    /// The keys of the table, in order.
    pub fn keys(&self) -> impl Iterator<Item = Located<&str>> {
        self.entries.iter().map(|entry| Located {
            value: entry.key.as_str(),
            place: Place { path: self.path_of(&entry.key), span: entry.key_span },
        })
    }

    /// Records a mistake in the table as a whole.
    pub fn reject(&self, message: impl Display) -> Invalid {
        self.source.errors.report(&self.place, message)
    }

    /// Parts the entries named `keys` from the others. Both sides keep place and errors: whoever
    /// places a plugin reads the first, the plugin itself the second.
    #[must_use]
    pub fn split(self, keys: &[&str]) -> (Self, Self) {
        let (named, rest) =
            self.entries.into_iter().partition(|entry| keys.contains(&entry.key.as_str()));
        let part =
            |entries| Self { entries, place: self.place.clone(), source: self.source.clone() };
        (part(named), part(rest))
    }

    fn path_of(&self, key: &str) -> String {
        match self.place.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// Reads a table key by key.
#[derive(Debug)]
#[must_use = "`finish` reports the keys that are not known"]
pub struct Reader<'a> {
    options: &'a Options,
    /// The keys that were asked for.
    known: Vec<String>,
    /// How many errors there were before.
    began: usize,
}

impl<'a> Reader<'a> {
    /// An option that must be there.
    ///
    /// # Errors
    /// [`Invalid`], recorded. Go on reading, and return it after [`Self::finish`].
    pub fn required<T: FromOption>(&mut self, key: &str) -> Result<T, Invalid> {
        match self.find(key) {
            Some(found) => T::from_option(&found),
            None => {
                let place =
                    Place { path: self.options.path_of(key), span: self.options.place.span };
                Err(self.options.source.errors.report(&place, format_args!("`{key}` is missing")))
            }
        }
    }

    /// An option that may be absent. `None` also if it is wrong, which is recorded.
    pub fn optional<T: FromOption>(&mut self, key: &str) -> Option<T> {
        T::from_option(&self.find(key)?).ok()
    }

    /// An option with a default, which also stands in for a wrong one.
    pub fn or<T: FromOption>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// An option with bounds and a default. The default may lie outside the bounds.
    pub fn ranged<T: Bounded>(&mut self, key: &str, bounds: RangeInclusive<T>, default: T) -> T {
        let Some(found) = self.find(key) else { return default };
        match T::from_option(&found) {
            Ok(value) if bounds.contains(&value) => value,
            Ok(value) => {
                let (value, least, most) =
                    (value.show(), bounds.start().show(), bounds.end().show());
                found.reject(format_args!("{value} is not between {least} and {most}"));
                default
            }
            Err(Invalid) => default,
        }
    }

    /// A table that may be absent.
    pub fn table(&mut self, key: &str) -> Option<Options> {
        self.find(key)?.table().ok()
    }

    /// The tables of an array, in order: `[[key]]`. None if it is absent.
    pub fn tables(&mut self, key: &str) -> Vec<Options> {
        let Some(Ok(elements)) = self.find(key).map(|found| found.elements()) else {
            return Vec::new();
        };
        elements.iter().filter_map(|element| element.table().ok()).collect()
    }

    /// Where an option stands, or its table if it is absent.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        let entry = self.options.entries.iter().find(|entry| entry.key == key);
        let span = entry.map_or(self.options.place.span, |entry| entry.value.span);
        Place { path: self.options.path_of(key), span }
    }

    /// Records that an option is wrong although it could be read.
    pub fn reject(&self, key: &str, message: impl Display) -> Invalid {
        self.options.source.errors.report(&self.place(key), message)
    }

    /// Records the keys nobody asked for.
    ///
    /// # Errors
    /// [`Invalid`], if anything was recorded since the reader began.
    pub fn finish(self) -> Result<(), Invalid> {
        for entry in &self.options.entries {
            if !self.known.contains(&entry.key) {
                self.report_unknown(entry);
            }
        }
        if self.options.source.errors.len() > self.began { Err(Invalid) } else { Ok(()) }
    }

    fn find(&mut self, key: &str) -> Option<Found<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        let options = self.options;
        let entry = options.entries.iter().find(|entry| entry.key == key)?;
        Some(Found::new(&entry.value, options.path_of(key), &options.source))
    }

    fn report_unknown(&self, entry: &Entry) {
        let mut known: Vec<_> = self.known.iter().map(String::as_str).collect();
        known.sort_unstable();
        self.options.source.errors.push(OptionError {
            place: Place { path: self.options.path_of(&entry.key), span: entry.key_span },
            message: format!("unknown key `{}`", entry.key),
            help: Some(error::advice(&entry.key, &known)),
            // A misspelt key may stand before a secret.
            excerpt: Excerpt::UpToSpan,
        });
    }
}

#[cfg(test)]
mod tests;
