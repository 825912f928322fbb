//! Filters with parts of the key in them.

use std::fmt;

use crate::address::Part;

/// A filter with places for parts of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// What stands before each part, and after the last.
    text: Vec<String>,
    parts: Vec<Part>,
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterError {
    Unknown(String),
    NoPart,
    Syntax,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "`{{{name}}}` is not known: there are {{key}}, {{local}} and {{domain}}")
            }
            Self::NoPart => f.write_str("the filter names none of {key}, {local} and {domain}"),
            Self::Syntax => f.write_str("this is no filter (RFC 4515)"),
        }
    }
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self { text: Vec::new(), parts: Vec::new() };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(FilterError::Syntax)?;
            let unknown = || FilterError::Unknown(name.to_owned());
            filter.parts.push(Part::named(name).ok_or_else(unknown)?);
            filter.text.push(before.to_owned());
            rest = after;
        }
        filter.text.push(rest.to_owned());
        if filter.parts.is_empty() {
            return Err(FilterError::NoPart);
        }
        // Whether a part stands where a value may does not depend on what is in it.
        let tried = filter.fill(&vec!["x".to_owned(); filter.parts.len()]);
        ldap3::parse_filter(&tried).map_err(|()| FilterError::Syntax)?;
        Ok(filter)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The filter with these values, escaped, for its parts.
    pub(super) fn fill(&self, values: &[String]) -> String {
        let mut filled = String::new();
        for (place, text) in self.text.iter().enumerate() {
            filled += text;
            if let Some(value) = values.get(place) {
                filled += &ldap3::ldap_escape(value);
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped() {
        let check = |text: &str, values: &[&str], expected: &str| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            let filled = Filter::parse(text).unwrap().fill(&values);
            assert_eq!(filled, expected);
            ldap3::parse_filter(&filled).unwrap();
        };
        check("(mail={key})", &["bob@x"], "(mail=bob@x)");
        check("(&(a={local})(b={domain}))", &["l", "d"], "(&(a=l)(b=d))");
        check("(mail={key})", &["*)(uid=*"], "(mail=\\2a\\29\\28uid=\\2a)");
        check("(mail={key})", &["\\2a"], "(mail=\\5c2a)");
        check("(mail={key})", &["a\0"], "(mail=a\\00)");
        check("(mail={key})", &[""], "(mail=)");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let check = |text: &str, expected: FilterError| {
            assert_eq!(Filter::parse(text), Err(expected), "{text}");
        };
        check("(mail=*)", FilterError::NoPart);
        check("(mail={user})", FilterError::Unknown("user".into()));
        check("(mail={key", FilterError::Syntax);
        check("(mail={key}", FilterError::Syntax);
        check("mail {key}", FilterError::Syntax);
    }
}
