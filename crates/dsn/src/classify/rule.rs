//! Rules that name the class of a reply: their text, and when they fit.

use merpati_types::{Class, EnhancedStatus};

use super::{BounceClass, Symptom};

/// The most rules of one table.
const RULE_LIMIT: usize = 10_000;
/// The most `...` of one rule: each multiplies what is tried.
const GAP_LIMIT: usize = 3;
/// The most words that `...` stands for.
const GAP: usize = 6;
/// The most octets of a reply that are looked at.
const TEXT_LIMIT: usize = 2_000;

/// Rules in their order; the first that fits decides.
///
/// ```text
/// # A line is a rule, an empty line or a comment.
/// CLASS [STATUS] [CODE] [: WORDS]
/// rate    4.2.1        : receiving mail at a rate
/// policy  *.7.*   5xx
/// ```
/// All that a rule names has to fit. `*` stands for any number of a status, and `x` for any digit
/// of a code. Words stand in a row: `a|b` is either, `a*` is any word that begins so, `...` is up
/// to six words. Letter case, punctuation and apostrophes do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassRules(Vec<Rule>);

/// Where a rule is wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct RuleError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub fault: RuleFault,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// The first word is no class.
    #[error("no such class")]
    Class,
    /// A word before the colon is neither a status nor a code, or there are two of one kind.
    #[error("neither an enhanced status, such as 5.1.* or *.2.2, nor a code, such as 550 or 4xx")]
    Condition,
    /// Nothing would have to fit.
    #[error("the rule has no condition")]
    Empty,
    /// Words that no reply can have, or `...` where it parts nothing.
    #[error("not a pattern of words")]
    Words,
    /// More than three `...` in a rule.
    #[error("more than {GAP_LIMIT} gaps")]
    Gaps,
    /// More than 10,000 rules.
    #[error("more than {RULE_LIMIT} rules")]
    TooMany,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    class: BounceClass,
    status: Option<StatusPattern>,
    code: Option<CodePattern>,
    /// Words in a row, with gaps between the rows. None is no condition.
    rows: Vec<Vec<Word>>,
}

/// Class digit, subject, detail; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusPattern([Option<u16>; 3]);

/// Three digits; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodePattern([Option<u8>; 3]);

/// One of these, in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word(Vec<Choice>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Is(String),
    Begins(String),
}

impl ClassRules {
    /// Reads a table.
    ///
    /// # Errors
    /// [`RuleError`] for the first rule that is wrong.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let error = |(rest, fault): (&str, RuleFault)| {
                // `rest` is a piece of the line.
                let offset = rest.as_ptr().addr() - line.as_ptr().addr();
                let column = line[..offset].chars().count() + 1;
                RuleError { line: number + 1, column, fault }
            };
            if rules.len() >= RULE_LIMIT {
                return Err(error((trimmed, RuleFault::TooMany)));
            }
            rules.push(Rule::parse(trimmed).map_err(error)?);
        }
        Ok(Self(rules))
    }

    pub(super) fn class(&self, symptom: &Symptom<'_>, words: &Words) -> Option<BounceClass> {
        self.0.iter().find(|rule| rule.fits(symptom, words)).map(|rule| rule.class)
    }
}

impl Rule {
    /// An error comes with the piece of the line that it is about.
    fn parse(line: &str) -> Result<Self, (&str, RuleFault)> {
        let (conditions, words) = match line.split_once(':') {
            Some((conditions, words)) => (conditions, Some(words)),
            None => (line, None),
        };
        let mut conditions = conditions.split_whitespace();
        let class = conditions.next().unwrap_or(line);
        let class = class.parse().map_err(|_| (class, RuleFault::Class))?;
        let mut rule = Self { class, status: None, code: None, rows: Vec::new() };
        for word in conditions {
            let fault = || (word, RuleFault::Condition);
            match (StatusPattern::parse(word), CodePattern::parse(word)) {
                (Some(status), _) if rule.status.is_none() => rule.status = Some(status),
                (None, Some(code)) if rule.code.is_none() => rule.code = Some(code),
                _ => return Err(fault()),
            }
        }
        match words {
            Some(words) => rule.rows = rows(words)?,
            None if rule.status.is_none() && rule.code.is_none() => {
                return Err((line, RuleFault::Empty));
            }
            None => {}
        }
        Ok(rule)
    }

    fn fits(&self, symptom: &Symptom<'_>, words: &Words) -> bool {
        self.status.is_none_or(|pattern| symptom.status.is_some_and(|own| pattern.fits(own)))
            && self.code.is_none_or(|pattern| symptom.code.is_some_and(|own| pattern.fits(own)))
            && words.have(&self.rows)
    }
}

impl StatusPattern {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut numbers = [None; 3];
        for number in &mut numbers {
            *number = match parts.next()? {
                "*" => None,
                digits => Some(digits.parse().ok().filter(|number| *number < 1_000)?),
            };
        }
        parts.next().is_none().then_some(Self(numbers))
    }

    fn fits(self, status: EnhancedStatus) -> bool {
        let class = match status.class {
            Class::Success => 2,
            Class::Transient => 4,
            Class::Permanent => 5,
        };
        let own = [class, status.status.subject(), status.status.detail()];
        self.0.iter().zip(own).all(|(pattern, own)| pattern.is_none_or(|number| number == own))
    }
}

impl CodePattern {
    fn parse(text: &str) -> Option<Self> {
        let [first, second, third] = text.as_bytes() else { return None };
        let digit = |byte: u8| match byte {
            b'x' => Some(None),
            b'0'..=b'9' => Some(Some(byte - b'0')),
            _ => None,
        };
        let first = digit(*first).filter(Option::is_some)?;
        Some(Self([first, digit(*second)?, digit(*third)?]))
    }

    fn fits(self, code: u16) -> bool {
        let own = [code / 100, code / 10 % 10, code % 10];
        self.0
            .iter()
            .zip(own)
            .all(|(pattern, own)| pattern.is_none_or(|digit| u16::from(digit) == own))
    }
}

fn rows(text: &str) -> Result<Vec<Vec<Word>>, (&str, RuleFault)> {
    let mut rows = vec![Vec::new()];
    for word in text.split_whitespace() {
        if word == "..." {
            if rows.len() > GAP_LIMIT {
                return Err((word, RuleFault::Gaps));
            }
            if rows.last().is_some_and(Vec::is_empty) {
                return Err((word, RuleFault::Words));
            }
            rows.push(Vec::new());
            continue;
        }
        let choices = word.split('|').map(Choice::parse).collect::<Option<Vec<_>>>();
        let choices = choices.ok_or((word, RuleFault::Words))?;
        if let Some(row) = rows.last_mut() {
            row.push(Word(choices));
        }
    }
    if rows.last().is_some_and(Vec::is_empty) {
        return Err((text, RuleFault::Words));
    }
    Ok(rows)
}

impl Choice {
    fn parse(text: &str) -> Option<Self> {
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let word = text.replace(['\'', '\u{2019}'], "").to_lowercase();
        if word.is_empty() || !word.chars().all(char::is_alphanumeric) {
            return None;
        }
        Some(if is_prefix { Self::Begins(word) } else { Self::Is(word) })
    }

    fn fits(&self, word: &str) -> bool {
        match self {
            Self::Is(own) => own == word,
            Self::Begins(own) => word.starts_with(own.as_str()),
        }
    }
}

/// The words of a reply, in lower case.
pub(super) struct Words(Vec<String>);

impl Words {
    pub(super) fn of(symptom: &Symptom<'_>) -> Self {
        let text = symptom.text;
        let mut end = text.len().min(TEXT_LIMIT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text[..end].replace(['\'', '\u{2019}'], "").to_lowercase();
        let code = symptom.code.map(|code| code.to_string());
        let mut words = Vec::new();
        for piece in text.split_whitespace() {
            // A reply of several lines has code and status in every line.
            let piece = match &code {
                Some(code) => match piece.strip_prefix(code.as_str()) {
                    Some(rest) => rest.strip_prefix('-').unwrap_or(rest),
                    None => piece,
                },
                None => piece,
            };
            // An address says nothing: `spam@…` may be unknown. Of a URL only the host does.
            if piece.contains('@') {
                continue;
            }
            let piece = match piece.split_once("://") {
                Some((_, rest)) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
                None => piece,
            };
            let bare = piece.trim_matches(|c: char| !c.is_ascii_digit());
            if bare.parse::<EnhancedStatus>().is_ok() {
                continue;
            }
            let parts = piece.split(|c: char| !c.is_alphanumeric());
            words.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        }
        Self(words)
    }

    fn have(&self, rows: &[Vec<Word>]) -> bool {
        let Some((first, rest)) = rows.split_first() else { return true };
        (0..self.0.len()).any(|start| self.have_at(start, first, rest))
    }

    fn have_at(&self, start: usize, row: &[Word], rest: &[Vec<Word>]) -> bool {
        let Some(found) = self.0.get(start..start + row.len()) else { return false };
        let fits = |(word, own): (&Word, &String)| word.0.iter().any(|choice| choice.fits(own));
        if !row.iter().zip(found).all(fits) {
            return false;
        }
        let Some((next, rest)) = rest.split_first() else { return true };
        let end = start + row.len();
        (end..=end + GAP).any(|start| self.have_at(start, next, rest))
    }
}
