//! What DNSSEC says of an answer, and aliases followed with it.

use merpati_types::Domain;

/// What DNSSEC says of an answer (RFC 4033 §5). *Indeterminate* counts as insecure
/// (RFC 7672 §2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsState {
    /// Signed, and the chain of signatures is whole.
    Secure,
    /// Provably not signed, or not checked.
    Insecure,
    /// Signed, and the signatures do not hold; or there was no answer. Neither is a downgrade:
    /// somebody who can forge an answer can also make one fail.
    Bogus,
}

/// The most aliases that are followed from one name.
pub const ALIAS_LIMIT: usize = 8;

/// A CNAME record and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name that is an alias.
    pub name: Domain,
    /// What it stands for.
    pub target: Domain,
    /// What DNSSEC says of the record.
    pub state: DnsState,
}

/// Where aliases lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The name that is no alias.
    pub name: Domain,
    /// The weakest state on the way; secure where there was no alias.
    pub state: DnsState,
}

/// Aliases that lead nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AliasError {
    /// A name stands for itself in the end.
    #[error("aliases of {0} lead in a circle")]
    Loop(Domain),
    /// More than [`ALIAS_LIMIT`].
    #[error("{0} has more than {ALIAS_LIMIT} aliases in a row")]
    TooMany(Domain),
}

/// Follows the aliases among `records` from `start` on.
///
/// # Errors
/// [`AliasError`], when they form a circle or are too many.
pub fn follow(start: &Domain, records: &[Alias]) -> Result<Followed, AliasError> {
    let mut seen = vec![start];
    let mut state = DnsState::Secure;
    let mut name = start;
    while let Some(alias) = records.iter().find(|alias| alias.name == *name) {
        name = &alias.target;
        // The order of the states is that of weakness.
        state = state.max(alias.state);
        if seen.contains(&name) {
            return Err(AliasError::Loop(start.clone()));
        }
        if seen.len() > ALIAS_LIMIT {
            return Err(AliasError::TooMany(start.clone()));
        }
        seen.push(name);
    }
    Ok(Followed { name: name.clone(), state })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `records` is a list such as `a>b c?d e!f`: secure, insecure, bogus.
    fn check(records: &str, expected: Result<(&str, DnsState), &str>) {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let alias = |text: &str| {
            let at = text.find(['>', '?', '!']).unwrap();
            let state = match &text[at..=at] {
                ">" => DnsState::Secure,
                "?" => DnsState::Insecure,
                _ => DnsState::Bogus,
            };
            Alias { name: domain(&text[..at]), target: domain(&text[at + 1..]), state }
        };
        let records: Vec<_> = records.split_whitespace().map(alias).collect();
        let found = follow(&domain("a"), &records).map(|end| (end.name.to_string(), end.state));
        let found = found.map_err(|error| error.to_string());
        let found = found.as_ref().map(|(name, state)| (name.as_str(), *state));
        assert_eq!(found.map_err(String::as_str), expected, "{records:?}");
    }

    #[test]
    fn aliases_are_followed_within_bounds() {
        use DnsState::{Bogus, Insecure, Secure};
        check("", Ok(("a", Secure)));
        check("b>c", Ok(("a", Secure)));
        check("b>c a>b", Ok(("c", Secure)));
        check("a>b b?c c>d", Ok(("d", Insecure)));
        check("a?b b!c", Ok(("c", Bogus)));
        check("a>a", Err("aliases of a lead in a circle"));
        check("a>b b>c c>b", Err("aliases of a lead in a circle"));
        check("a>b b>c c>d d>e e>f f>g g>h h>i", Ok(("i", Secure)));
        check("a>b b>c c>d d>e e>f f>g g>h h>i i>j", Err("a has more than 8 aliases in a row"));
    }
}
