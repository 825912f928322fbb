//! What is wrong with a configuration: collected, so that one run tells all of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::value::Span;

/// Where an option stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its name from the top of the file: `policy[2].networks[0]`.
    pub path: String,
    /// Its position.
    pub span: Span,
}

/// How much of the line may be shown with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excerpt {
    /// All of it.
    #[default]
    Line,
    /// No more than up to the end of the span: what follows may be a secret.
    UpToSpan,
    /// Nothing: the span itself may be a secret.
    Nothing,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// Where.
    pub place: Place,
    /// What is wrong: lower case, no full stop, never a secret.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// How much of the line may be shown.
    pub excerpt: Excerpt,
}

/// `12:5: policy[0].use: message (help)`.
impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { path, span } = &self.place;
        if span.line > 0 {
            write!(f, "{}:{}: ", span.line, span.column)?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// The mistakes found so far. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Errors(Arc<Mutex<Vec<OptionError>>>);

impl Errors {
    /// Records that the option at `place` is wrong.
    pub fn report(&self, place: &Place, message: impl fmt::Display) -> Invalid {
        self.push(OptionError {
            place: place.clone(),
            message: message.to_string(),
            help: None,
            excerpt: Excerpt::Line,
        })
    }

    /// Records a mistake.
    pub fn push(&self, error: OptionError) -> Invalid {
        self.list().push(error);
        Invalid
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn sorted(&self) -> Vec<OptionError> {
        let mut errors = self.list().clone();
        errors.sort_by_key(|error| error.place.span);
        errors
    }

    fn list(&self) -> MutexGuard<'_, Vec<OptionError>> {
        // A list that is only ever pushed to is whole whenever its lock is free.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something is wrong with the options; what, was recorded in their [`Errors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has mistakes")]
pub struct Invalid;
