//! What proves who we are.

use merpati_types::Secret;

/// The text cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// An empty user name, or a control character in it.
    #[error("a user name is not empty, and has no control characters")]
    User,
    /// An empty password, or a NUL in it: PLAIN (RFC 4616) has no way to say it.
    #[error("a password is not empty, and has no NUL")]
    Password,
    /// RFC 6750 §2.1: a bearer token is of visible ASCII characters.
    #[error("a token is of visible ASCII characters")]
    Token,
}

/// A user, with what proves that it is us. Secrets do not show in `Debug`.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// An OAuth access token (RFC 6750).
    Token {
        /// The user.
        user: String,
        /// The token.
        token: Secret<String>,
    },
}

impl Credentials {
    /// A user and a password.
    ///
    /// # Errors
    /// [`CredentialsError::User`], [`CredentialsError::Password`].
    pub fn password(user: &str, password: Secret<String>) -> Result<Self, CredentialsError> {
        let user = checked(user)?;
        if password.expose().is_empty() || password.expose().contains('\0') {
            return Err(CredentialsError::Password);
        }
        Ok(Self::Password { user, password })
    }

    /// A user and an access token.
    ///
    /// # Errors
    /// [`CredentialsError::User`], [`CredentialsError::Token`].
    pub fn token(user: &str, token: Secret<String>) -> Result<Self, CredentialsError> {
        let user = checked(user)?;
        let text = token.expose();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CredentialsError::Token);
        }
        Ok(Self::Token { user, token })
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::Token { user, .. } => user,
        }
    }
}

fn checked(user: &str) -> Result<String, CredentialsError> {
    match user.is_empty() || user.chars().any(char::is_control) {
        true => Err(CredentialsError::User),
        false => Ok(user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_said_is_refused() {
        let check = |user: &str, secret: &str, as_password: bool, as_token: bool| {
            let secret = Secret::new(secret.to_owned());
            assert_eq!(Credentials::password(user, secret.clone()).is_ok(), as_password);
            assert_eq!(Credentials::token(user, secret).is_ok(), as_token);
        };
        check("tim", "x", true, true);
        check("tim", "x y", true, false);
        check("tim", "kennw\u{f6}rter", true, false);
        check("tim", "x\u{1}", true, false);
        check("tim", "x\0", false, false);
        check("tim", "", false, false);
        check("", "x", false, false);
        check("t\u{1}im", "x", false, false);
    }
}
