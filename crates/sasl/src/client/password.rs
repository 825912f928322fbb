//! PLAIN (RFC 4616) and LOGIN: the password itself.

use merpati_types::Secret;

use super::ExchangeError;

/// An exchange that hands the password over.
#[derive(Debug)]
pub(super) struct Password {
    user: String,
    password: Secret<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// PLAIN's only message is next.
    Plain,
    /// LOGIN's user name is next.
    LoginUser,
    /// LOGIN's password is next.
    LoginPassword,
    Over,
}

impl Password {
    pub(super) fn plain(user: &str, password: &Secret<String>) -> Self {
        Self { user: user.to_owned(), password: password.clone(), state: State::Plain }
    }

    pub(super) fn login(user: &str, password: &Secret<String>) -> Self {
        Self { user: user.to_owned(), password: password.clone(), state: State::LoginUser }
    }

    pub(super) fn initial(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::Plain => self.respond().ok(),
            State::LoginUser | State::LoginPassword | State::Over => None,
        }
    }

    /// What LOGIN's prompts say differs from server to server; their order does not.
    pub(super) fn respond(&mut self) -> Result<Vec<u8>, ExchangeError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Plain => {
                let parts =
                    [b"".as_slice(), self.user.as_bytes(), self.password.expose().as_bytes()];
                Ok(parts.join(&0))
            }
            State::LoginUser => {
                self.state = State::LoginPassword;
                Ok(self.user.clone().into_bytes())
            }
            State::LoginPassword => Ok(self.password.expose().clone().into_bytes()),
            State::Over => Err(ExchangeError::UnexpectedChallenge),
        }
    }
}
