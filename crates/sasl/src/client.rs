//! The client's side: from credentials to messages.
//!
//! [`choose`] names the mechanism, [`Exchange`] speaks it, and once the server says that we are
//! known, [`Exchange::finish`] says whether the server is.

mod choice;
mod cram_md5;
mod credentials;
mod hash;
mod oauth;
mod password;
mod scram;

use crate::mechanism::Mechanism;

pub use choice::{Channel, InClear, choose};
pub use credentials::{Credentials, CredentialsError};
pub use scram::{Binding, BindingKind, ITERATIONS_LEAST, ITERATIONS_MOST};

use cram_md5::CramMd5;
use oauth::Bearer;
use password::Password;
use scram::Scram;

/// Why an exchange is to be cancelled, or its success not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The server asks for something the mechanism has no answer to.
    #[error("the server's challenge does not fit the mechanism")]
    UnexpectedChallenge,
    /// A message breaks the mechanism's syntax.
    #[error("malformed challenge: {0}")]
    Malformed(&'static str),
    /// Fewer iterations would give the password away, more are there to keep us busy.
    #[error(
        "the server asks for {0} iterations; {ITERATIONS_LEAST} to {ITERATIONS_MOST} are allowed"
    )]
    Iterations(u64),
    /// The server says what is wrong.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The server has not shown that it knows us: whoever it is, it is not whom we have a
    /// password of.
    #[error("the server has not proven that it knows the password")]
    Impostor,
}

/// An exchange in progress. Nothing of it shows in `Debug`.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    Password(Password),
    CramMd5(CramMd5),
    Bearer(Bearer),
    Scram(Box<Scram>),
}

impl Exchange {
    /// An exchange with a mechanism that [`choose`] has named for these credentials and this
    /// channel; `None` if the credentials are of another kind.
    ///
    /// `nonce` is 16 random octets or more, and never the same.
    #[must_use]
    pub fn new(
        mechanism: Mechanism,
        credentials: &Credentials,
        channel: &Channel<'_>,
        nonce: &[u8],
    ) -> Option<Self> {
        let state = match (mechanism, credentials) {
            (Mechanism::Plain, Credentials::Password { user, password }) => {
                State::Password(Password::plain(user, password))
            }
            (Mechanism::Login, Credentials::Password { user, password }) => {
                State::Password(Password::login(user, password))
            }
            (Mechanism::CramMd5, Credentials::Password { user, password }) => {
                State::CramMd5(CramMd5::new(user, password))
            }
            (Mechanism::OauthBearer, Credentials::Token { user, token }) => {
                State::Bearer(Bearer::oauthbearer(user, token))
            }
            (Mechanism::Xoauth2, Credentials::Token { user, token }) => {
                State::Bearer(Bearer::xoauth2(user, token))
            }
            (_, Credentials::Password { user, password }) => {
                let scram = Scram::new(mechanism, user, password, channel, nonce)?;
                State::Scram(Box::new(scram))
            }
            (_, Credentials::Token { .. }) => return None,
        };
        Some(Self { mechanism, state })
    }

    /// The mechanism.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, for servers that take one with the command. LOGIN has none: some
    /// servers ask for the user name all the same. Neither has CRAM-MD5.
    ///
    /// One that is too long for the command is the response to the first challenge, which is
    /// empty (RFC 4954 §4).
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Password(password) => password.initial(),
            State::CramMd5(_) => None,
            State::Bearer(bearer) => bearer.initial(),
            State::Scram(scram) => scram.initial(),
        }
    }

    /// The response to a challenge. SCRAM hashes the password here, thousands of times.
    ///
    /// # Errors
    /// [`ExchangeError`]: cancel the exchange.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        match &mut self.state {
            State::Password(password) => password.respond(),
            State::CramMd5(cram) => cram.respond(challenge),
            State::Bearer(bearer) => bearer.respond(challenge),
            State::Scram(scram) => scram.respond(challenge),
        }
    }

    /// What the server's success means.
    ///
    /// # Errors
    /// [`ExchangeError::Impostor`], where the mechanism lets servers prove themselves, and this
    /// one has not: nothing may be entrusted to it.
    pub fn finish(&self) -> Result<(), ExchangeError> {
        match &self.state {
            State::Scram(scram) => scram.finish(),
            State::Password(_) | State::CramMd5(_) | State::Bearer(_) => Ok(()),
        }
    }

    /// The `status` of the JSON error with which a server refused a token (RFC 7628 §3.2.2), such
    /// as `invalid_token` or `401`.
    #[must_use]
    pub fn token_status(&self) -> Option<&str> {
        match &self.state {
            State::Bearer(bearer) => bearer.status(),
            State::Password(_) | State::CramMd5(_) | State::Scram(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
