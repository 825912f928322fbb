//! CRAM-MD5 (RFC 2195): a keyed digest of what the server says.

use std::fmt::Write as _;

use merpati_types::Secret;

use super::ExchangeError;
use super::hash::hmac_md5;

/// An exchange; over once it has answered.
#[derive(Debug)]
pub(super) struct CramMd5 {
    user: String,
    password: Option<Secret<String>>,
}

impl CramMd5 {
    pub(super) fn new(user: &str, password: &Secret<String>) -> Self {
        Self { user: user.to_owned(), password: Some(password.clone()) }
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        let password = self.password.take().ok_or(ExchangeError::UnexpectedChallenge)?;
        // An empty one would be the same every time: what is heard once could be said again.
        if challenge.is_empty() {
            return Err(ExchangeError::Malformed("an empty challenge"));
        }
        let mut response = format!("{} ", self.user);
        for octet in hmac_md5(password.expose().as_bytes(), challenge) {
            let _ = write!(response, "{octet:02x}");
        }
        Ok(response.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2195 §2.
    #[test]
    fn the_example_of_the_rfc() {
        let mut cram = CramMd5::new("tim", &Secret::new("tanstaaftanstaaf".to_owned()));
        let response = cram.respond(b"<1896.697170952@postoffice.reston.mci.net>").unwrap();
        assert_eq!(response, b"tim b913a602c7eda7a495b4e6e7334d3890");
        assert_eq!(cram.respond(b"<2@x>"), Err(ExchangeError::UnexpectedChallenge));
        let mut cram = CramMd5::new("tim", &Secret::new("x".to_owned()));
        assert!(matches!(cram.respond(b""), Err(ExchangeError::Malformed(_))));
    }
}
