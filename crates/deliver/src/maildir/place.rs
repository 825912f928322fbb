//! From a recipient to a directory, without letting its name lead anywhere else.

use std::fmt::Write as _;
use std::path::PathBuf;

use merpati_types::{Host, Mailbox};

/// A path with places for the parts of an address: `{domain}`, `{local}`, and `{user}`, which is
/// the local part without a `+tag`.
///
/// The parts are written in lower case, and every character but letters, digits, `-`, `_`, `+`,
/// `=` and inner dots becomes `%HH`, so that no address is a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

/// Why a path is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It would give one directory to several recipients.
    #[error("the path must contain {{local}} or {{user}}")]
    Shared,
    /// A name in braces that is none of ours.
    #[error("unknown name in braces; there are {{domain}}, {{local}} and {{user}}")]
    Unknown,
    /// A relative path depends on where the server was started.
    #[error("the path must be absolute")]
    Relative,
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`PlaceError`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, PlaceError> {
        if !text.starts_with('/') {
            return Err(PlaceError::Relative);
        }
        if !text.contains("{local}") && !text.contains("{user}") {
            return Err(PlaceError::Shared);
        }
        let rest = ["{domain}", "{local}", "{user}"]
            .iter()
            .fold(text.to_owned(), |rest, name| rest.replace(name, ""));
        if rest.contains(['{', '}']) {
            return Err(PlaceError::Unknown);
        }
        Ok(Self(text.to_owned()))
    }

    /// The recipient's directory.
    #[must_use]
    pub fn directory(&self, recipient: &Mailbox) -> PathBuf {
        let domain = match recipient.host() {
            Host::Domain(domain) => safe(domain.as_ascii()),
            literal @ Host::Literal(_) => safe(&literal.to_string()),
        };
        let local = recipient.local().as_str();
        let user = recipient.local().split_detail('+').map_or(local, |(user, _)| user);
        let path = self.0.replace("{domain}", &domain);
        PathBuf::from(path.replace("{local}", &safe(local)).replace("{user}", &safe(user)))
    }
}

/// A folder of a Maildir, in the form of Maildir++: `.Junk`.
pub(super) fn folder(name: &str) -> String {
    format!(".{}", safe(name))
}

/// A host's name within a file's name.
pub(super) fn host(name: &str) -> String {
    safe(name)
}

fn safe(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for (place, byte) in part.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'=');
        if plain || (byte == b'.' && place > 0) {
            out.push(char::from(byte.to_ascii_lowercase()));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if out.is_empty() {
        out.push('%');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leaves_its_place() {
        let template = Template::new("/m/{domain}/{user}/Maildir").unwrap();
        let check = |address: &str, expected: &str| {
            let directory = template.directory(&Mailbox::parse(address).unwrap());
            assert_eq!(directory.to_str().unwrap(), expected, "{address}");
        };
        check("Bob@Receiver.test", "/m/receiver.test/bob/Maildir");
        check("bob+list@receiver.test", "/m/receiver.test/bob/Maildir");
        check("\"../../etc\"@receiver.test", "/m/receiver.test/%2E.%2F..%2Fetc/Maildir");
        check("\"..\"@receiver.test", "/m/receiver.test/%2E./Maildir");
        check("\"a/b\"@[192.0.2.1]", "/m/%5B192.0.2.1%5D/a%2Fb/Maildir");
        check("\"\"@receiver.test", "/m/receiver.test/%/Maildir");
        check("ü@receiver.test", "/m/receiver.test/%C3%BC/Maildir");
        check("+tag@receiver.test", "/m/receiver.test/+tag/Maildir");
    }

    #[test]
    fn templates_are_checked() {
        assert_eq!(Template::new("m/{user}"), Err(PlaceError::Relative));
        assert_eq!(Template::new("/m/{domain}"), Err(PlaceError::Shared));
        assert_eq!(Template::new("/m/{user}/{usr}"), Err(PlaceError::Unknown));
    }
}
