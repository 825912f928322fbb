//! Mistakes as an operator reads them.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use merpati_plugin::options::{Excerpt, OptionError};

/// The longest piece of a line that is shown, in characters.
const WIDTH: usize = 160;

/// All that is wrong with a configuration file, in its order.
///
/// ```text
/// mx.toml:12:1: listen[0].lisen: unknown key `lisen`
///    |
/// 12 | lisen…
///    | ^^^^^ did you mean `listen`?
/// 1 mistake in mx.toml
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    name: PathBuf,
    errors: Vec<(OptionError, Option<Shown>)>,
}

/// The line under a message.
#[derive(Clone, Debug)]
struct Shown {
    line: String,
    /// Characters before the caret.
    indent: usize,
    /// Carets.
    width: usize,
}

impl Report {
    pub(crate) fn new(name: &Path, text: &str, errors: Vec<OptionError>) -> Self {
        let show = |error: OptionError| {
            let shown = Shown::of(text, &error);
            (error, shown)
        };
        Self { name: name.to_owned(), errors: errors.into_iter().map(show).collect() }
    }

    /// The mistakes.
    pub fn errors(&self) -> impl Iterator<Item = &OptionError> {
        self.errors.iter().map(|(error, _)| error)
    }
}

impl Shown {
    fn of(text: &str, error: &OptionError) -> Option<Self> {
        let span = error.place.span;
        if span.line == 0 || error.excerpt == Excerpt::Nothing {
            return None;
        }
        let line = text.lines().nth(span.line - 1)?;
        let indent = span.column - 1;
        let rest = line.chars().count().saturating_sub(indent);
        let inside = text.get(span.start..span.end).unwrap_or_default();
        let width = inside.lines().next().map_or(0, |line| line.chars().count()).min(rest).max(1);
        let (line, cut) = match error.excerpt {
            Excerpt::UpToSpan => (line.chars().take(indent + width).collect(), rest > width),
            _ => (line.chars().take(WIDTH).collect::<String>(), indent + rest > WIDTH),
        };
        // Tabs would put the caret elsewhere, other controls are nobody's to show.
        let line = line.replace(|c: char| c.is_control(), " ");
        Some(Self { line: line + if cut { "…" } else { "" }, indent, width })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (error, shown) in &self.errors {
            self.show(f, error, shown.as_ref())?;
        }
        let count = self.errors.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        writeln!(f, "{count} {mistakes} in {}", self.name.display())
    }
}

impl Report {
    fn show(
        &self,
        f: &mut fmt::Formatter<'_>,
        error: &OptionError,
        shown: Option<&Shown>,
    ) -> fmt::Result {
        let span = error.place.span;
        write!(f, "{}:", self.name.display())?;
        if span.line > 0 {
            write!(f, "{}:{}:", span.line, span.column)?;
        }
        if !error.place.path.is_empty() {
            write!(f, " {}:", error.place.path)?;
        }
        write!(f, " {}", error.message)?;
        let help = error.help.as_deref();
        let Some(Shown { line, indent, width }) = shown.filter(|shown| shown.indent <= WIDTH)
        else {
            return match help {
                Some(help) => writeln!(f, " ({help})"),
                None => writeln!(f),
            };
        };
        let number = span.line.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n{margin} |\n{number} | {line}\n{margin} | ")?;
        write!(f, "{}{}", " ".repeat(*indent), "^".repeat((*width).min(WIDTH)))?;
        match help {
            Some(help) => writeln!(f, " {help}"),
            None => writeln!(f),
        }
    }
}

impl Error for Report {}
