//! What a query may name of the key.

use merpati_types::Mailbox;

/// The longest key that a database or directory is asked for, in octets. What is longer is in no
/// table: an address has 320 at most.
const MAX_KEY: usize = 4096;

/// A part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Key,
    /// The local part, without the quotes it may need.
    Local,
    /// The domain, in its A-label form, or the address literal.
    Domain,
}

impl Part {
    pub(crate) const NAMES: [(&str, Self); 3] =
        [("key", Self::Key), ("local", Self::Local), ("domain", Self::Domain)];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
    }

    /// The parts of a key, each as text; `None` if the key has not all of them, or is one that no
    /// table can have.
    pub(crate) fn all_of(parts: &[Self], key: &str) -> Option<Vec<String>> {
        if key.len() > MAX_KEY || key.contains('\0') {
            return None;
        }
        let address = parts.iter().any(|part| *part != Self::Key).then(|| Mailbox::parse(key).ok());
        let value = |part: &Self| match (part, &address) {
            (Self::Key, _) => Some(key.to_owned()),
            (Self::Local, Some(Some(address))) => Some(address.local().as_str().to_owned()),
            (Self::Domain, Some(Some(address))) => Some(match address.host().domain() {
                Some(domain) => domain.as_ascii().to_owned(),
                None => address.host().to_string(),
            }),
            _ => None,
        };
        parts.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart() {
        let check = |parts: &[Part], key: &str, expected: Option<&str>| {
            let found = Part::all_of(parts, key).map(|values| values.join("|"));
            assert_eq!(found.as_deref(), expected, "{key}");
        };
        let all = [Part::Domain, Part::Local, Part::Key];
        check(&all, "bob+x@Example.org", Some("example.org|bob+x|bob+x@Example.org"));
        check(&all, "\"a b\"@x", Some("x|a b|\"a b\"@x"));
        check(&all, "b@[192.0.2.1]", Some("[192.0.2.1]|b|b@[192.0.2.1]"));
        check(&all, "example.org", None);
        check(&all, "@example.org", None);
        check(&[Part::Key], "@example.org", Some("@example.org"));
        check(&[Part::Key], "", Some(""));
        check(&[Part::Key], "a\0", None);
        check(&[Part::Key], &"x".repeat(MAX_KEY + 1), None);
    }
}
