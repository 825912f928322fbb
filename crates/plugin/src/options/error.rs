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

    /// Records that the word at `place` is none of those that are known there.
    pub fn report_unknown(&self, place: &Place, word: &str, known: &[&str]) -> Invalid {
        self.push(OptionError {
            place: place.clone(),
            message: format!("`{word}` is not known here"),
            help: Some(advice(word, known)),
            excerpt: Excerpt::Line,
        })
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

/// What may have been meant instead of `wrong`.
pub(super) fn advice(wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known) {
        Some(word) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => {
            let known: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("known: {}", known.join(", "))
        }
    }
}

/// The word that was probably meant, if one is near: at most a third of its letters are wrong.
fn nearest<'w>(wrong: &str, known: &[&'w str]) -> Option<&'w str> {
    let near = |word: &&'w str| {
        let distance = distance(wrong, word);
        (distance * 3 <= word.chars().count().max(3)).then_some((distance, *word))
    };
    known.iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
