//! Queries with parameters by name.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use crate::address::Part;

/// How a database writes parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each driver needs one of them")]
pub(crate) enum Placeholder {
    /// `$1`, `$2`, …
    Numbered,
    /// `?` each time.
    Mark,
}

/// A query as the database reads it, and what is bound to its parameters in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) parameters: Vec<Part>,
}

/// Why a query cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueryError {
    Unknown(String),
    NoParameter,
    Open(&'static str),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "`:{name}` is no parameter: there are :key, :local and :domain")
            }
            Self::NoParameter => f.write_str("the query names none of :key, :local and :domain"),
            Self::Open(what) => write!(f, "{what} does not end"),
        }
    }
}

impl Query {
    /// Puts the database's placeholders for `:key`, `:local` and `:domain`, wherever these are
    /// parameters: not in strings, quoted names and comments, and not in a cast (`::text`).
    pub(crate) fn parse(text: &str, placeholder: Placeholder) -> Result<Self, QueryError> {
        let mut query = Self { text: String::with_capacity(text.len()), parameters: Vec::new() };
        let mut rest = text.char_indices().peekable();
        let mut kept = 0;
        while let Some((at, character)) = rest.next() {
            let next = rest.peek().map(|(_, next)| *next);
            match (character, next) {
                ('\'', _) => skip_quoted(&mut rest, '\'', "a string")?,
                ('"', _) => skip_quoted(&mut rest, '"', "a quoted name")?,
                ('`', _) => skip_quoted(&mut rest, '`', "a quoted name")?,
                ('-', Some('-')) => while rest.next_if(|(_, c)| *c != '\n').is_some() {},
                ('/', Some('*')) => skip_comment(&mut rest)?,
                (':', Some(':')) => {
                    rest.next();
                }
                (':', Some(first)) if first.is_ascii_alphabetic() => {
                    let mut end = at + 1;
                    while rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_').is_some() {
                        end += 1;
                    }
                    let name = &text[at + 1..end];
                    let unknown = || QueryError::Unknown(name.to_owned());
                    query.parameters.push(Part::named(name).ok_or_else(unknown)?);
                    query.text.push_str(&text[kept..at]);
                    query.push_placeholder(placeholder);
                    kept = end;
                }
                _ => {}
            }
        }
        query.text.push_str(&text[kept..]);
        if query.parameters.is_empty() { Err(QueryError::NoParameter) } else { Ok(query) }
    }

    fn push_placeholder(&mut self, placeholder: Placeholder) {
        match placeholder {
            Placeholder::Numbered => self.text.push_str(&format!("${}", self.parameters.len())),
            Placeholder::Mark => self.text.push('?'),
        }
    }
}

/// A quote in the string is doubled, which reads as two strings side by side.
fn skip_quoted(
    rest: &mut Peekable<CharIndices<'_>>,
    quote: char,
    what: &'static str,
) -> Result<(), QueryError> {
    rest.find(|(_, c)| *c == quote).map(drop).ok_or(QueryError::Open(what))
}

fn skip_comment(rest: &mut Peekable<CharIndices<'_>>) -> Result<(), QueryError> {
    rest.next();
    while rest.find(|(_, c)| *c == '*').is_some() {
        if rest.next_if(|(_, c)| *c == '/').is_some() {
            return Ok(());
        }
    }
    Err(QueryError::Open("a comment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_placeholders() {
        let check = |text: &str, numbered: &str, mark: &str, expected: &[Part]| {
            let parse = |placeholder| Query::parse(text, placeholder).unwrap();
            let (first, second) = (parse(Placeholder::Numbered), parse(Placeholder::Mark));
            assert_eq!((first.text.as_str(), second.text.as_str()), (numbered, mark));
            assert_eq!((&*first.parameters, &*second.parameters), (expected, expected));
        };
        use Part::{Domain, Key, Local};
        check("a = :key", "a = $1", "a = ?", &[Key]);
        check(":local,:domain,:key", "$1,$2,$3", "?,?,?", &[Local, Domain, Key]);
        check(":key or :key;", "$1 or $2;", "? or ?;", &[Key, Key]);
        check(":key::text", "$1::text", "?::text", &[Key]);
        let same = "'it''s :key' \":key\" `:key` /* :key ** */ [1:2] -- :key";
        check(&format!("{same}\n:key"), &format!("{same}\n$1"), &format!("{same}\n?"), &[Key]);
        check("'ü' :key 'ü'", "'ü' $1 'ü'", "'ü' ? 'ü'", &[Key]);
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        let check = |text: &str, expected: QueryError| {
            assert_eq!(Query::parse(text, Placeholder::Mark), Err(expected), "{text}");
        };
        check("a = :user", QueryError::Unknown("user".into()));
        check("a = :keys", QueryError::Unknown("keys".into()));
        check("a = 1", QueryError::NoParameter);
        check("", QueryError::NoParameter);
        check("a = ':key'", QueryError::NoParameter);
        check("a = ?", QueryError::NoParameter);
        check(":key = 'a", QueryError::Open("a string"));
        check(":key /* a *", QueryError::Open("a comment"));
        check("\":key", QueryError::Open("a quoted name"));
    }
}
