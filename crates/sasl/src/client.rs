//! The client's side: from a user and a password to messages.

use merpati_types::Secret;

use crate::mechanism::Mechanism;

/// The server asks for something the mechanism has no answer to; cancel the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's challenge does not fit the mechanism")]
pub struct UnexpectedChallenge;

/// An exchange in progress. Nothing of it shows in `Debug`.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    user: String,
    password: Secret<String>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// PLAIN's message, or LOGIN's user name, is next.
    First,
    /// LOGIN's password is next.
    Password,
    Over,
}

impl Exchange {
    /// PLAIN (RFC 4616).
    #[must_use]
    pub fn plain(user: &str, password: Secret<String>) -> Self {
        Self::new(Mechanism::Plain, user, password)
    }

    /// LOGIN.
    #[must_use]
    pub fn login(user: &str, password: Secret<String>) -> Self {
        Self::new(Mechanism::Login, user, password)
    }

    fn new(mechanism: Mechanism, user: &str, password: Secret<String>) -> Self {
        Self { mechanism, user: user.to_owned(), password, state: State::First }
    }

    /// The mechanism.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, for servers that take one with the command. LOGIN has none: some
    /// servers ask for the user name all the same.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match self.mechanism {
            Mechanism::Plain => self.respond(b"").ok(),
            Mechanism::Login => None,
        }
    }

    /// The response to a challenge.
    ///
    /// # Errors
    /// [`UnexpectedChallenge`], when there is nothing left to say.
    pub fn respond(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, UnexpectedChallenge> {
        match (self.mechanism, std::mem::replace(&mut self.state, State::Over)) {
            (Mechanism::Plain, State::First) => {
                let parts =
                    [b"".as_slice(), self.user.as_bytes(), self.password.expose().as_bytes()];
                Ok(parts.join(&0))
            }
            // What LOGIN's prompts say differs from server to server; their order does not.
            (Mechanism::Login, State::First) => {
                self.state = State::Password;
                Ok(self.user.clone().into_bytes())
            }
            (Mechanism::Login, State::Password) => Ok(self.password.expose().clone().into_bytes()),
            (Mechanism::Plain, State::Password) | (_, State::Over) => Err(UnexpectedChallenge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{self, Step};

    #[test]
    fn both_sides_understand_each_other() {
        for mechanism in Mechanism::ALL {
            let mut client = Exchange::new(mechanism, "tim", Secret::new("x".to_owned()));
            let (mut server, mut step) = server::Exchange::start(mechanism, client.initial());
            while let Step::Challenge(challenge) = &step {
                step = server.respond(client.respond(challenge).unwrap());
            }
            let Step::Check(claim) = step else { panic!("{mechanism}: {step:?}") };
            assert_eq!((claim.user.as_str(), claim.password.expose().as_str()), ("tim", "x"));
            assert_eq!(client.respond(b""), Err(UnexpectedChallenge));
        }
    }
}
