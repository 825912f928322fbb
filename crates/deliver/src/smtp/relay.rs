//! Hosts that a configuration names, and how they are written.

use std::fmt;
use std::str::FromStr;

use merpati_types::{Host, MailboxError};

/// A host that takes mail for others: `relay.example.org`, `relay.example.org:587`,
/// `[192.0.2.25]:587` or `[IPv6:2001:db8::25]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayHost {
    /// The host.
    pub host: Host,
    /// Its port; the transport's without one.
    pub port: Option<u16>,
}

/// The text names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayHostError {
    /// The part before the port.
    #[error("{0}")]
    Host(#[from] MailboxError),
    /// The part after the colon.
    #[error("`{0}` is no port")]
    Port(String),
}

impl FromStr for RelayHost {
    type Err = RelayHostError;

    fn from_str(text: &str) -> Result<Self, RelayHostError> {
        // Literals have colons of their own, within brackets.
        let end = text.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match text[end..].find(':') {
            Some(colon) => (&text[..end + colon], Some(&text[end + colon + 1..])),
            None => (text, None),
        };
        let port = port.map(|port| {
            let number = port.parse().ok().filter(|number| *number != 0);
            number.ok_or_else(|| RelayHostError::Port(port.to_owned()))
        });
        Ok(Self { host: Host::parse(host)?, port: port.transpose()? })
    }
}

impl fmt::Display for RelayHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_their_ports() {
        let check = |text: &str, expected: Option<&str>| {
            let read = text.parse::<RelayHost>().ok();
            let said = read.map(|RelayHost { host, port }| format!("{host} {port:?}"));
            assert_eq!(said.as_deref(), expected, "{text}");
        };
        check("a.test", Some("a.test None"));
        check("a.test:587", Some("a.test Some(587)"));
        check("[192.0.2.1]", Some("[192.0.2.1] None"));
        check("[192.0.2.1]:25", Some("[192.0.2.1] Some(25)"));
        check("[IPv6:2001:db8::1]:25", Some("[IPv6:2001:db8::1] Some(25)"));
        for wrong in ["", "a.test:", "a.test:0", "a.test:65536", "a.test:x", "a b", ":25", "[::1"] {
            check(wrong, None);
        }
    }
}
