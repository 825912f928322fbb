//! What a route leads to, and how tables write it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use merpati_types::{
    Class, Domain, DomainError, EnhancedStatus, RejectCode, Rejection, Severity, Status,
};

use crate::smtp::{RelayHost, RelayHostError};

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To the transport of this name.
    Transport(Arc<str>),
    /// To this host, over SMTP.
    Relay(Relay),
    /// To nobody: recipients fail, or wait, with this.
    Refuse(Rejection),
    /// Where it would go without rules.
    Usual,
}

/// A host that a table names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    /// `smtp:[host]:port`: this one.
    Host(RelayHost),
    /// `smtp:domain`: the exchangers of this domain.
    Mx(Domain),
}

/// The text is no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// Not one of the words before the colon.
    #[error("transport:NAME, smtp:[HOST]:PORT, smtp:DOMAIN, discard: or error:TEXT is expected")]
    Unknown,
    /// Not a host.
    #[error("{0}")]
    Host(#[from] RelayHostError),
    /// Not a domain.
    #[error("{0}")]
    Domain(#[from] DomainError),
}

/// ```text
/// action = ""                              as if there were no rules
///        / "transport:" name
///        / "smtp:[" host "]" [":" port]    this host
///        / "smtp:" domain                  its exchangers
///        / "smtp:"                         the recipient's exchangers
///        / "discard:"
///        / "error:" [code SP] [status SP] text
/// ```
impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let text = text.trim();
        if text.is_empty() || text == ":" {
            return Ok(Self::Usual);
        }
        let (word, rest) = text.split_once(':').ok_or(ActionError::Unknown)?;
        let rest = rest.trim();
        match word {
            "transport" if !rest.is_empty() => Ok(Self::Transport(rest.into())),
            "smtp" if rest.is_empty() => Ok(Self::Transport(crate::transports::DEFAULT.into())),
            "smtp" => rest.parse().map(Self::Relay),
            "discard" => Ok(Self::Transport(crate::transports::DISCARD.into())),
            "error" => Ok(Self::Refuse(rejection(rest))),
            _ => Err(ActionError::Unknown),
        }
    }
}

impl FromStr for Relay {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        let Some(bracketed) = text.strip_prefix('[') else {
            return Ok(Self::Mx(Domain::parse(text)?));
        };
        let (host, port) = bracketed.split_once(']').ok_or(ActionError::Unknown)?;
        // Brackets around a name say that its exchangers are not to be asked for; those around an
        // address are its own.
        let is_address = host.parse::<std::net::Ipv4Addr>().is_ok()
            || host.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        match is_address {
            true => Ok(Self::Host(text.parse()?)),
            false => Ok(Self::Host(format!("{host}{port}").parse()?)),
        }
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(domain) => write!(f, "smtp:{}", domain.as_ascii()),
            Self::Host(RelayHost { host, port }) => {
                match host.domain() {
                    Some(domain) => write!(f, "smtp:[{}]", domain.as_ascii())?,
                    None => write!(f, "smtp:{host}")?,
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// `550 5.1.2 text`, `4.7.1 text` or only a text; what is not said is 550 5.4.0, or 451 where the
/// status begins with a 4.
pub(crate) fn rejection(text: &str) -> Rejection {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let code = (first.len() == 3).then(|| first.parse::<u16>().ok()).flatten();
    let code = code.and_then(RejectCode::from_u16);
    let text = if code.is_some() { rest.trim_start() } else { text };
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = first.parse::<EnhancedStatus>().ok();
    let text = if status.is_some() { rest.trim_start() } else { text };
    let severity = match (code, status) {
        (Some(code), _) => code.severity(),
        (None, Some(EnhancedStatus { class: Class::Transient, .. })) => Severity::Transient,
        (None, _) => Severity::Permanent,
    };
    let status = status.map_or(Status::NETWORK, |enhanced| enhanced.status);
    let text = if text.is_empty() { "mail for this address is not accepted" } else { text };
    match (code, severity) {
        (Some(code), _) => Rejection::with(code, status, text),
        (None, Severity::Permanent) => Rejection::permanent(status, text),
        (None, Severity::Transient) => Rejection::transient(status, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_write_actions_as_people_know_them() {
        let check = |text: &str, expected: &str| {
            let said = match text.parse::<Action>() {
                Ok(Action::Transport(name)) => format!("transport {name}"),
                Ok(Action::Relay(relay)) => format!("relay {relay}"),
                Ok(Action::Refuse(rejection)) => format!("refuse {rejection}"),
                Ok(Action::Usual) => "usual".to_owned(),
                Err(_) => "wrong".to_owned(),
            };
            assert_eq!(said, expected, "{text}");
        };
        check("", "usual");
        check(":", "usual");
        check("transport:partner", "transport partner");
        check("smtp:", "transport mx");
        check("discard:", "transport discard");
        check("discard: whatever", "transport discard");
        check("smtp:[a.test]:587", "relay smtp:[a.test]:587");
        check("smtp:[A.test]", "relay smtp:[a.test]");
        check("smtp:[192.0.2.1]:25", "relay smtp:[192.0.2.1]:25");
        check("smtp:[IPv6:2001:db8::1]", "relay smtp:[IPv6:2001:db8::1]");
        check("smtp:example.org", "relay smtp:example.org");
        check("error:550 5.1.2 no such place", "refuse 550 5.1.2 no such place");
        check("error:5.1.2 no such place", "refuse 550 5.1.2 no such place");
        check("error:4.7.1 not now", "refuse 451 4.7.1 not now");
        check("error:450 4.7.1 not now", "refuse 450 4.7.1 not now");
        // What the code says counts.
        check("error:450 5.7.1 not now", "refuse 450 4.7.1 not now");
        check("error:gone", "refuse 550 5.4.0 gone");
        check("error:", "refuse 550 5.4.0 mail for this address is not accepted");
        for wrong in ["smtp", "transport:", "uucp:x", "smtp:[a.test", "smtp:[a.test]:x", "smtp:a b"]
        {
            check(wrong, "wrong");
        }
    }
}
