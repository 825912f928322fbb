//! Texts with placeholders, in sections.

use super::Scope;

/// The longest text of a section, in octets.
const SECTION_LIMIT: usize = 8 * 1024;

/// Where a wording is wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct WordingError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub fault: WordingFault,
}

/// What is wrong with a wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordingFault {
    /// No place in a report is called so.
    #[error("no such section")]
    UnknownSection,
    /// The section stands there twice.
    #[error("the section is there already")]
    RepeatedSection,
    /// Words before the first section.
    #[error("text outside of a section")]
    OutsideSection,
    /// Nothing is filled in for this name.
    #[error("no such placeholder")]
    UnknownPlaceholder,
    /// The placeholder is none of this section: what it stands for is not known there.
    #[error("the placeholder has no value in this section")]
    MisplacedPlaceholder,
    /// A brace that is not one of a pair; one that is to be shown is written twice.
    #[error("a lone brace: write it twice to show it")]
    Brace,
    /// A control character other than a tab.
    #[error("a control character")]
    Control,
    /// It is no language tag, such as `en` or `pt-BR`.
    #[error("not a language tag")]
    Language,
    /// The text, or one section of it, is too long.
    #[error("longer than {limit} octets")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// A section as it is written.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    /// The line of its name.
    pub(super) line: usize,
    /// Its lines, with their numbers; comments are left out.
    lines: Vec<(usize, &'a str)>,
}

impl Section<'_> {
    /// Its words, on one line.
    pub(super) fn words(&self) -> String {
        let words = self.lines.iter().flat_map(|(_, line)| line.split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Cuts a text into its sections.
pub(super) fn sections(text: &str) -> Result<Vec<Section<'_>>, WordingError> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('#') {
            continue;
        }
        if let Some(name) = section_name(line) {
            sections.push(Section { name, line: number, lines: Vec::new() });
            continue;
        }
        match sections.last_mut() {
            Some(section) => section.lines.push((number, line)),
            None if line.trim().is_empty() => {}
            None => {
                let fault = WordingFault::OutsideSection;
                return Err(WordingError { line: number, column: 1, fault });
            }
        }
    }
    Ok(sections)
}

fn section_name(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'-');
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

/// A text whose placeholders are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    paragraphs: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Host,
    Sender,
    Arrived,
    Id,
    Recipient,
    Status,
    Remote,
    Date,
}

/// What is filled in. Who fills in sees to it that nothing has control characters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) host: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) arrived: &'a str,
    pub(crate) id: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) status: &'a str,
    pub(crate) remote: &'a str,
    pub(crate) date: &'a str,
}

impl Template {
    pub(super) fn parse(section: &Section<'_>, scope: Scope) -> Result<Self, WordingError> {
        let length: usize = section.lines.iter().map(|(_, line)| line.len() + 1).sum();
        if length > SECTION_LIMIT {
            let fault = WordingFault::TooLong { limit: SECTION_LIMIT };
            return Err(WordingError { line: section.line, column: 1, fault });
        }
        let mut paragraphs: Vec<Vec<Piece>> = Vec::new();
        let mut is_open = false;
        for &(number, line) in &section.lines {
            if line.trim().is_empty() {
                is_open = false;
                continue;
            }
            let pieces = pieces(line, scope).map_err(|(column, fault)| WordingError {
                line: number,
                column,
                fault,
            })?;
            match paragraphs.last_mut().filter(|_| is_open) {
                Some(paragraph) => {
                    paragraph.push(Piece::Text(" ".to_owned()));
                    paragraph.extend(pieces);
                }
                None => paragraphs.push(pieces),
            }
            is_open = true;
        }
        Ok(Self { paragraphs })
    }

    pub(super) fn paragraphs(&self, values: &Values<'_>) -> Vec<String> {
        let fill = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(placeholder) => placeholder.value(values).to_owned(),
        };
        self.paragraphs.iter().map(|paragraph| paragraph.iter().map(fill).collect()).collect()
    }
}

/// The pieces of a line; an error comes with its column.
fn pieces(line: &str, scope: Scope) -> Result<Vec<Piece>, (usize, WordingFault)> {
    let line = line.trim_end();
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut characters = line.char_indices().zip(1..).peekable();
    while let Some(((place, character), column)) = characters.next() {
        let is_doubled = characters.peek().is_some_and(|((_, next), _)| *next == character);
        match character {
            '{' | '}' if is_doubled => {
                characters.next();
                text.push(character);
            }
            '{' => {
                let rest = &line[place + 1..];
                let end = rest.find(['{', '}']).filter(|end| rest[*end..].starts_with('}'));
                let name = &rest[..end.ok_or((column, WordingFault::Brace))?];
                let placeholder = Placeholder::of(name);
                let placeholder = placeholder.ok_or((column, WordingFault::UnknownPlaceholder))?;
                if !placeholder.is_known_in(scope) {
                    return Err((column, WordingFault::MisplacedPlaceholder));
                }
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Value(placeholder));
                // The name and its brace.
                characters.by_ref().take(name.chars().count() + 1).for_each(drop);
            }
            '}' => return Err((column, WordingFault::Brace)),
            '\t' => text.push(' '),
            control if control.is_control() => return Err((column, WordingFault::Control)),
            other => text.push(other),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

impl Placeholder {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "host" => Self::Host,
            "sender" => Self::Sender,
            "arrived" => Self::Arrived,
            "id" => Self::Id,
            "recipient" => Self::Recipient,
            "status" => Self::Status,
            "remote" => Self::Remote,
            "date" => Self::Date,
            _ => return None,
        })
    }

    fn is_known_in(self, scope: Scope) -> bool {
        match self {
            Self::Host | Self::Sender | Self::Arrived | Self::Id => true,
            Self::Recipient | Self::Status => scope != Scope::Message,
            Self::Remote => scope == Scope::Said,
            Self::Date => scope == Scope::TriedUntil,
        }
    }

    fn value<'a>(self, values: &Values<'a>) -> &'a str {
        match self {
            Self::Host => values.host,
            Self::Sender => values.sender,
            Self::Arrived => values.arrived,
            Self::Id => values.id,
            Self::Recipient => values.recipient,
            Self::Status => values.status,
            Self::Remote => values.remote,
            Self::Date => values.date,
        }
    }
}
