//! Who a user is: back ends behind SASL.

use std::error::Error;

use async_trait::async_trait;
use merpati_types::Secret;

use crate::connection::Account;

/// What a back end can serve; the server offers a mechanism only if it is covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// [`Authenticator::check_password`] works: PLAIN and LOGIN.
    pub password: bool,
}

/// What a back end says of a claim.
#[derive(Debug)]
pub enum AuthAnswer {
    /// The claim holds.
    Account(Account),
    /// The claim does not hold, or the user is unknown: the caller cannot tell which.
    Refused,
    /// The back end cannot say now. The client hears 454 and never 535.
    Unavailable(Box<dyn Error + Send + Sync>),
}

/// A back end that knows users.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The name that logs and metrics show.
    fn name(&self) -> &str;

    /// What this back end can serve.
    fn mechanisms(&self) -> Mechanisms;

    /// Checks a password. Unknown users cost the same work as known ones.
    async fn check_password(&self, _user: &str, _password: &Secret<String>) -> AuthAnswer {
        AuthAnswer::Refused
    }
}
