//! From a value to a type.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use merpati_types::{Domain, Mailbox, Secret};

use super::error::{Excerpt, Invalid, OptionError, Place};
use super::value::{Kind, Value};
use super::{Options, Source};

/// A value on its way to a type: reports what is wrong with it where it stands.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    value: &'a Value,
    path: String,
    source: &'a Source,
}

impl<'a> Found<'a> {
    pub(super) fn new(value: &'a Value, path: String, source: &'a Source) -> Self {
        Self { value, path, source }
    }

    /// The value as it stands.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { path: self.path.clone(), span: self.value.span }
    }

    /// Records that the value is wrong.
    pub fn reject(&self, message: impl Display) -> Invalid {
        self.source.errors.report(&self.place(), message)
    }

    /// Records that the value is wrong, and what to do about it.
    pub fn reject_with(&self, message: impl Display, help: impl Display) -> Invalid {
        self.source.errors.push(OptionError {
            place: self.place(),
            message: message.to_string(),
            help: Some(help.to_string()),
            excerpt: Excerpt::Line,
        })
    }

    /// The text of a string.
    ///
    /// # Errors
    /// [`Invalid`], recorded, when it is something else.
    pub fn text(&self) -> Result<&'a str, Invalid> {
        match &self.value.kind {
            Kind::String(text) => Ok(text),
            other => Err(self.mismatch("a string", other)),
        }
    }

    /// The elements of an array.
    ///
    /// # Errors
    /// [`Invalid`], recorded, when it is something else.
    pub fn elements(&self) -> Result<Vec<Found<'a>>, Invalid> {
        let Kind::Array(values) = &self.value.kind else {
            return Err(self.mismatch("an array", &self.value.kind));
        };
        let element = |(place, value)| Found {
            value,
            path: format!("{}[{place}]", self.path),
            source: self.source,
        };
        Ok(values.iter().enumerate().map(element).collect())
    }

    /// The options of a table.
    ///
    /// # Errors
    /// [`Invalid`], recorded, when it is something else.
    pub fn table(&self) -> Result<Options, Invalid> {
        let Kind::Table(entries) = &self.value.kind else {
            return Err(self.mismatch("a table", &self.value.kind));
        };
        Ok(Options { entries: entries.clone(), place: self.place(), source: self.source.clone() })
    }

    /// A string, read by its type's own parser, whose message is recorded if it fails.
    ///
    /// # Errors
    /// [`Invalid`], recorded.
    pub fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, Invalid> {
        let text = self.text()?;
        text.parse().map_err(|error| self.reject(format_args!("`{text}`: {error}")))
    }

    /// One of several words.
    ///
    /// # Errors
    /// [`Invalid`], recorded with all the words and the nearest.
    pub fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Result<T, Invalid> {
        let text = self.text()?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(choice.clone());
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        Err(self.source.errors.report_unknown(&self.place(), text, &words))
    }

    fn mismatch(&self, expected: &str, found: &Kind) -> Invalid {
        self.reject(format_args!("expected {expected}, found {}", found.name()))
    }

    fn integer<T: TryFrom<i64> + Display>(&self, least: T, most: T) -> Result<T, Invalid> {
        match self.value.kind {
            Kind::Integer(number) => T::try_from(number).map_err(|_| {
                self.reject(format_args!("{number} is not between {least} and {most}"))
            }),
            ref other => Err(self.mismatch("an integer", other)),
        }
    }
}

/// A type that an option can have.
///
/// ```
/// use merpati_plugin::options::{Found, FromOption, Invalid};
///
/// #[derive(Clone, Copy)]
/// enum Mode { Strict, Lenient }
///
/// impl FromOption for Mode {
///     fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
///         found.choice(&[("strict", Self::Strict), ("lenient", Self::Lenient)])
///     }
/// }
/// ```
pub trait FromOption: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded, by a method of `found`.
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid>;
}

/// A type with an order, whose bounds can be shown.
pub trait Bounded: FromOption + PartialOrd {
    /// As it is written in a configuration file.
    fn show(&self) -> String;
}

/// Any type that reads itself from text, by [`FromStr`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

/// One value, or an array of them: `"x"`, `["x", "y"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

/// A value that remembers where it stands, so that its owner can report what is found to be
/// wrong with it later: a file that is missing, a name that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T: FromStr<Err: Display>> FromOption for Parsed<T> {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.parse().map(Self)
    }
}

impl<T: FromOption> FromOption for Located<T> {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        Ok(Self { value: T::from_option(found)?, place: found.place() })
    }
}

impl<T: FromOption> FromOption for OneOrMany<T> {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        match found.value.kind {
            Kind::Array(_) => Vec::from_option(found).map(Self),
            _ => T::from_option(found).map(|one| Self(vec![one])),
        }
    }
}

/// Every wrong element is recorded, not only the first.
impl<T: FromOption> FromOption for Vec<T> {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let read: Vec<_> = found.elements()?.iter().map(T::from_option).collect();
        read.into_iter().collect()
    }
}

impl FromOption for bool {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        match &found.value.kind {
            Kind::Boolean(value) => Ok(*value),
            other => Err(found.mismatch("`true` or `false`", other)),
        }
    }
}

impl FromOption for f64 {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        match found.value.kind {
            Kind::Float(number) if number.is_finite() => Ok(number),
            Kind::Float(_) => Err(found.reject("the number is not finite")),
            // Beyond 2^53 the nearest float is what was meant.
            #[allow(clippy::cast_precision_loss)]
            Kind::Integer(number) => Ok(number as f64),
            ref other => Err(found.mismatch("a number", other)),
        }
    }
}

impl Bounded for f64 {
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl FromOption for $type {
            fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
                found.integer(Self::MIN, Self::MAX)
            }
        }
        impl Bounded for $type {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 usize i8 i16 i32 i64 }

impl FromOption for String {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.text().map(str::to_owned)
    }
}

/// A single character.
impl FromOption for char {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let mut characters = found.text()?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => Ok(character),
            _ => Err(found.reject("expected one character")),
        }
    }
}

/// A relative path begins at the directory of the configuration file.
impl FromOption for PathBuf {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        match found.text()? {
            "" => Err(found.reject("the path is empty")),
            path => Ok(found.source.directory.join(path)),
        }
    }
}

impl FromOption for SocketAddr {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let text = found.text()?;
        text.parse().map_err(|_| {
            found.reject_with(
                format_args!("`{text}` is no address with a port"),
                "write \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
            )
        })
    }
}

impl FromOption for IpAddr {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let text = found.text()?;
        text.parse().map_err(|_| found.reject(format_args!("`{text}` is no IP address")))
    }
}

impl FromOption for Domain {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.parse()
    }
}

impl FromOption for Mailbox {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.parse()
    }
}

/// `{ file = "…" }`, whose last line end is dropped, or `{ env = "…" }`; never the secret itself.
impl FromOption for Secret<String> {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let Kind::Table(_) = found.value.kind else {
            return Err(found.source.errors.push(OptionError {
                place: found.place(),
                message: "a secret does not stand in the configuration itself".to_owned(),
                help: Some("write { file = \"…\" } or { env = \"…\" }".to_owned()),
                excerpt: Excerpt::Nothing,
            }));
        };
        let options = found.table()?;
        let mut reader = options.reader();
        let file = reader.optional::<Located<PathBuf>>("file");
        let variable = reader.optional::<Located<String>>("env");
        reader.finish()?;
        match (file, variable) {
            (Some(file), None) => read_secret(&file).map_err(|why| {
                found.source.errors.report(&file.place, format_args!("cannot be read: {why}"))
            }),
            (None, Some(variable)) => std::env::var(&variable.value).map(Self::new).map_err(|_| {
                found.source.errors.report(&variable.place, "the variable is not set, or no text")
            }),
            _ => Err(found.reject("expected one of `file` and `env`")),
        }
    }
}

fn read_secret(file: &Located<PathBuf>) -> std::io::Result<Secret<String>> {
    let mut text = std::fs::read_to_string(&file.value)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}
