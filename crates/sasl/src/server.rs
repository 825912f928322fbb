//! The server's side: from messages to a claim that somebody checks.

use merpati_types::Secret;

use crate::mechanism::Mechanism;

/// The longest user name or password, in octets. RFC 4616 names none; a server has to have one.
pub const FIELD_LIMIT: usize = 1_024;

/// What the server does next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this challenge; hand the response to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// The peer claims to be this user: check it, and the exchange is over.
    Check(Claim),
    /// The exchange has failed, and is over.
    Failed(ExchangeError),
}

/// A user name with the password that is to prove it.
#[derive(Debug)]
pub struct Claim {
    /// The name: UTF-8, not empty.
    pub user: String,
    /// The password: UTF-8, not empty.
    pub password: Secret<String>,
}

/// Why an exchange failed before anything could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The message breaks the mechanism's syntax; for SMTP, 501 5.5.2.
    #[error("malformed message")]
    Malformed,
    /// The peer wants to act as somebody else, which nobody may; for SMTP, 535 5.7.8.
    #[error("acting for another user is not allowed")]
    OtherIdentity,
    /// A message came when none was expected.
    #[error("the exchange is over")]
    Over,
    /// This side speaks PLAIN and LOGIN alone; for SMTP, 504 5.5.4.
    #[error("the server does not speak this mechanism")]
    NotSpoken,
}

/// An exchange in progress.
#[derive(Debug)]
pub struct Exchange(State);

#[derive(Debug)]
enum State {
    /// PLAIN: its only message is expected.
    Plain,
    /// LOGIN: the user name is expected.
    LoginUser,
    /// LOGIN: the password is expected.
    LoginPassword {
        user: String,
    },
    Over,
}

impl Exchange {
    /// Begins an exchange, with the initial response if one came with the command.
    #[must_use]
    pub fn start(mechanism: Mechanism, initial: Option<Vec<u8>>) -> (Self, Step) {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::LoginUser,
            _ => return (Self(State::Over), Step::Failed(ExchangeError::NotSpoken)),
        };
        let mut exchange = Self(state);
        let step = match (initial, &exchange.0) {
            (Some(response), _) => exchange.respond(response),
            // PLAIN's first challenge is empty (RFC 4954 §4).
            (None, State::Plain) => Step::Challenge(Vec::new()),
            (None, _) => Step::Challenge(b"Username:".to_vec()),
        };
        (exchange, step)
    }

    /// Takes the peer's response to the last challenge.
    pub fn respond(&mut self, response: Vec<u8>) -> Step {
        let result = match std::mem::replace(&mut self.0, State::Over) {
            State::Plain => plain(response).map(Step::Check),
            State::LoginUser => text(response).map(|user| {
                self.0 = State::LoginPassword { user };
                Step::Challenge(b"Password:".to_vec())
            }),
            State::LoginPassword { user } => text(response)
                .map(|password| Step::Check(Claim { user, password: Secret::new(password) })),
            State::Over => Err(ExchangeError::Over),
        };
        result.unwrap_or_else(Step::Failed)
    }
}

/// ```text
/// message = [authzid] NUL authcid NUL passwd             RFC 4616 §2
/// ```
fn plain(response: Vec<u8>) -> Result<Claim, ExchangeError> {
    // Wiped when it goes: the password is in it.
    let response = Secret::new(response);
    let mut parts = response.expose().split(|&byte| byte == 0);
    let mut part = || parts.next().ok_or(ExchangeError::Malformed);
    let (authzid, user, password) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(ExchangeError::Malformed);
    }
    if !authzid.is_empty() && authzid != user {
        return Err(ExchangeError::OtherIdentity);
    }
    let user = text(user.to_vec())?;
    Ok(Claim { user, password: Secret::new(text(password.to_vec())?) })
}

fn text(octets: Vec<u8>) -> Result<String, ExchangeError> {
    if octets.is_empty() || octets.len() > FIELD_LIMIT || octets.contains(&0) {
        return Err(ExchangeError::Malformed);
    }
    String::from_utf8(octets).map_err(|_| ExchangeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mechanism: Mechanism, initial: Option<&[u8]>, responses: &[&[u8]]) -> String {
        let (mut exchange, mut step) = Exchange::start(mechanism, initial.map(<[u8]>::to_vec));
        for response in responses {
            assert!(matches!(step, Step::Challenge(_)), "{step:?}");
            step = exchange.respond(response.to_vec());
        }
        match step {
            Step::Challenge(challenge) => String::from_utf8(challenge).unwrap(),
            Step::Check(claim) => format!("{}={}", claim.user, claim.password.expose()),
            Step::Failed(error) => error.to_string(),
        }
    }

    #[test]
    fn plain() {
        let check = |response: &[u8], expected: &str| {
            assert_eq!(run(Mechanism::Plain, Some(response), &[]), expected);
            assert_eq!(run(Mechanism::Plain, None, &[response]), expected);
        };
        check(b"\0tim\0tanstaaftanstaaf", "tim=tanstaaftanstaaf");
        check(b"tim\0tim\0x", "tim=x");
        check(b"Ursel\0Kurt\0xipj3plmq", "acting for another user is not allowed");
        check(b"\0tim\0", "malformed message");
        check(b"\0\0x", "malformed message");
        check(b"\0tim\0x\0", "malformed message");
        check(b"tim\0x", "malformed message");
        check(b"", "malformed message");
        check(b"\0t\xffm\0x", "malformed message");
        check(&[b"\0tim\0".as_slice(), &[b'x'; 1_025]].concat(), "malformed message");
    }

    #[test]
    fn login() {
        assert_eq!(run(Mechanism::Login, None, &[]), "Username:");
        assert_eq!(run(Mechanism::Login, None, &[b"tim", b"x"]), "tim=x");
        assert_eq!(run(Mechanism::Login, Some(b"tim"), &[b"x"]), "tim=x");
        assert_eq!(run(Mechanism::Login, Some(b"tim"), &[b""]), "malformed message");
        assert_eq!(run(Mechanism::Login, None, &[b"t\0m"]), "malformed message");
    }

    #[test]
    fn nothing_follows_the_end() {
        let (mut exchange, _) = Exchange::start(Mechanism::Plain, Some(b"\0a\0b".to_vec()));
        let step = exchange.respond(b"\0a\0b".to_vec());
        assert!(matches!(step, Step::Failed(ExchangeError::Over)), "{step:?}");
    }
}
