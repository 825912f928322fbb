//! The words of the human part, in the language of whoever reads it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::action::Action;
use crate::classify::BounceClass;

mod choice;
mod template;

pub use choice::Languages;
pub use template::{WordingError, WordingFault};

pub(crate) use template::{Template, Values};

/// The longest text of a wording, in octets.
const TEXT_LIMIT: usize = 256 * 1024;
/// The longest language tag (RFC 5646 §4.4.1).
const TAG_LIMIT: usize = 35;

static ENGLISH: LazyLock<Wording> = LazyLock::new(|| shipped(include_str!("wording/en.txt")));
static INDONESIAN: LazyLock<Wording> = LazyLock::new(|| shipped(include_str!("wording/id.txt")));

fn shipped(text: &str) -> Wording {
    let nothing = Wording { language: String::new(), texts: BTreeMap::new() };
    Wording::parse(text, &nothing).expect("a test reads the shipped wordings")
}

/// The sentences of reports for people, in one language.
///
/// They are written as text in sections; the shipped ones, `src/wording/en.txt` and `id.txt`, tell
/// the form and serve as patterns. An empty section says nothing in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    language: String,
    texts: BTreeMap<Slot, Template>,
}

/// A place in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// Who writes: the display name beside `MAILER-DAEMON@…`.
    From,
    Greeting,
    Subject(News),
    Opening(News),
    Closing(News),
    /// What became of one recipient, where all went well.
    Done(Done),
    /// Before the words of another host.
    Said,
    /// When we give up.
    TriedUntil,
    /// What has happened.
    Reason(BounceClass),
    /// What the sender can do.
    Advice(BounceClass),
}

/// What a report as a whole is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    Failed,
    Delayed,
    Delivered,
}

/// How things went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Done {
    Delivered,
    Relayed,
    Expanded,
}

/// What is known where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Message,
    Recipient,
    Said,
    TriedUntil,
}

impl Wording {
    /// English.
    #[must_use]
    pub fn english() -> &'static Self {
        &ENGLISH
    }

    /// Indonesian.
    #[must_use]
    pub fn indonesian() -> &'static Self {
        &INDONESIAN
    }

    /// Those that come with this crate.
    #[must_use]
    pub fn shipped() -> [&'static Self; 2] {
        [Self::english(), Self::indonesian()]
    }

    /// Reads the sections of `text`; what it lacks is said in the words of `base`.
    ///
    /// # Errors
    /// [`WordingError`] for the first thing that is wrong, with its place.
    pub fn parse(text: &str, base: &Self) -> Result<Self, WordingError> {
        if text.len() > TEXT_LIMIT {
            let fault = WordingFault::TooLong { limit: TEXT_LIMIT };
            return Err(WordingError { line: 1, column: 1, fault });
        }
        let mut wording = base.clone();
        let mut seen = Vec::new();
        for section in template::sections(text)? {
            let error = |fault| WordingError { line: section.line, column: 1, fault };
            if seen.contains(&section.name) {
                return Err(error(WordingFault::RepeatedSection));
            }
            seen.push(section.name);
            if section.name == "language" {
                wording.language = section.words();
                if !is_tag(&wording.language) {
                    return Err(error(WordingFault::Language));
                }
                continue;
            }
            let slot = Slot::of(section.name).ok_or(error(WordingFault::UnknownSection))?;
            wording.texts.insert(slot, Template::parse(&section, slot.scope())?);
        }
        Ok(wording)
    }

    /// Its language tag (RFC 5646).
    #[must_use]
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The paragraphs that stand in a place.
    pub(crate) fn paragraphs(&self, slot: Slot, values: &Values<'_>) -> Vec<String> {
        self.texts.get(&slot).map(|text| text.paragraphs(values)).unwrap_or_default()
    }

    /// What stands in a place, on one line.
    pub(crate) fn line(&self, slot: Slot, values: &Values<'_>) -> String {
        self.paragraphs(slot, values).join(" ")
    }
}

impl News {
    pub(crate) fn of(action: Action) -> Self {
        match action {
            Action::Failed => Self::Failed,
            Action::Delayed => Self::Delayed,
            Action::Delivered | Action::Relayed | Action::Expanded => Self::Delivered,
        }
    }
}

impl Slot {
    /// What is said of one recipient.
    pub(crate) fn of_recipient(action: Action, class: BounceClass) -> Vec<Self> {
        match action {
            Action::Failed => vec![Self::Reason(class), Self::Advice(class)],
            Action::Delayed => vec![Self::Reason(class)],
            Action::Delivered => vec![Self::Done(Done::Delivered)],
            Action::Relayed => vec![Self::Done(Done::Relayed)],
            Action::Expanded => vec![Self::Done(Done::Expanded)],
        }
    }

    fn of(name: &str) -> Option<Self> {
        let news = |name| match name {
            "failed" => Some(News::Failed),
            "delayed" => Some(News::Delayed),
            "delivered" => Some(News::Delivered),
            _ => None,
        };
        match name.split_once('.') {
            None if name == "from" => Some(Self::From),
            None if name == "greeting" => Some(Self::Greeting),
            None if name == "said" => Some(Self::Said),
            None if name == "tried-until" => Some(Self::TriedUntil),
            Some(("reason", class)) => class.parse().ok().map(Self::Reason),
            Some(("advice", class)) => class.parse().ok().map(Self::Advice),
            Some(("recipient", "delivered")) => Some(Self::Done(Done::Delivered)),
            Some(("recipient", "relayed")) => Some(Self::Done(Done::Relayed)),
            Some(("recipient", "expanded")) => Some(Self::Done(Done::Expanded)),
            Some((name, "subject")) => news(name).map(Self::Subject),
            Some((name, "opening")) => news(name).map(Self::Opening),
            Some((name, "closing")) => news(name).map(Self::Closing),
            _ => None,
        }
    }

    fn scope(self) -> Scope {
        match self {
            Self::From
            | Self::Greeting
            | Self::Subject(_)
            | Self::Opening(_)
            | Self::Closing(_) => Scope::Message,
            Self::Done(_) | Self::Reason(_) | Self::Advice(_) => Scope::Recipient,
            Self::Said => Scope::Said,
            Self::TriedUntil => Scope::TriedUntil,
        }
    }
}

/// Whether a text has the form of a language tag.
fn is_tag(text: &str) -> bool {
    text.len() <= TAG_LIMIT
        && text.split('-').all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests;
