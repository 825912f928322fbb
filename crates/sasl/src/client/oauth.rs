//! OAUTHBEARER (RFC 7628) and XOAUTH2: an access token, and what a server says of one that it
//! does not take.

use merpati_types::Secret;

use super::ExchangeError;

/// The longest status that is kept of an error.
const STATUS_LIMIT: usize = 64;

/// An exchange that shows a token.
#[derive(Debug)]
pub(super) struct Bearer {
    state: State,
    /// The response to the challenge that tells of an error.
    dummy: &'static [u8],
    status: Option<String>,
}

#[derive(Debug)]
enum State {
    /// The message with the token is next.
    Token(Secret<Vec<u8>>),
    /// Another challenge can only be an error.
    Shown,
    Over,
}

impl Bearer {
    /// ```text
    /// client-resp = gs2-header kvsep *kvpair kvsep           RFC 7628 §3.1
    /// kvpair      = key "=" value kvsep        kvsep = %x01
    /// ```
    pub(super) fn oauthbearer(user: &str, token: &Secret<String>) -> Self {
        // RFC 5801 §4: the two characters with a meaning in the header.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let message = format!("n,a={user},\u{1}auth=Bearer {}\u{1}\u{1}", token.expose());
        // RFC 7628 §3.2.3: the answer to an error is a lone separator.
        Self::new(message, b"\x01")
    }

    pub(super) fn xoauth2(user: &str, token: &Secret<String>) -> Self {
        let message = format!("user={user}\u{1}auth=Bearer {}\u{1}\u{1}", token.expose());
        Self::new(message, b"")
    }

    fn new(message: String, dummy: &'static [u8]) -> Self {
        Self { state: State::Token(Secret::new(message.into_bytes())), dummy, status: None }
    }

    pub(super) fn initial(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Shown) {
            State::Token(message) => Some(message.expose().clone()),
            other => {
                self.state = other;
                None
            }
        }
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Token(message) => {
                self.state = State::Shown;
                Ok(message.expose().clone())
            }
            State::Shown => {
                self.status = status(challenge);
                Ok(self.dummy.to_vec())
            }
            State::Over => Err(ExchangeError::UnexpectedChallenge),
        }
    }

    pub(super) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }
}

/// The value of `status` in a JSON object. It is shown and compared, and nothing hangs on it, so
/// the rest of the object is not looked at.
fn status(error: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(error).ok()?;
    let (_, rest) = text.split_once("\"status\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        // Some servers have a number here.
        None => value.split(|c: char| !c.is_ascii_alphanumeric()).next()?,
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(&byte);
    let fits = !value.is_empty() && value.len() <= STATUS_LIMIT && value.bytes().all(is_word);
    fits.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7628 §4.1, without the host and the port that it says a client may send.
    #[test]
    fn tokens_are_shown_and_errors_kept() {
        let token = Secret::new("vF9dft4qmT".to_owned());
        let mut bearer = Bearer::oauthbearer("u=s,er@example.com", &token);
        let message = bearer.initial().unwrap();
        assert_eq!(message, b"n,a=u=3Ds=2Cer@example.com,\x01auth=Bearer vF9dft4qmT\x01\x01");
        assert_eq!(bearer.initial(), None);
        let error = br#"{"status":"invalid_token","scope":"example_scope"}"#;
        assert_eq!(bearer.respond(error), Ok(b"\x01".to_vec()));
        assert_eq!(bearer.status(), Some("invalid_token"));
        assert_eq!(bearer.respond(error), Err(ExchangeError::UnexpectedChallenge));

        let mut bearer = Bearer::xoauth2("tim@example.com", &token);
        let message = bearer.respond(b"").unwrap();
        assert_eq!(message, b"user=tim@example.com\x01auth=Bearer vF9dft4qmT\x01\x01");
        assert_eq!(bearer.respond(br#"{"status":"400","schemes":"Bearer"}"#), Ok(Vec::new()));
        assert_eq!(bearer.status(), Some("400"));
    }

    #[test]
    fn the_status_of_an_error_is_found() {
        let check = |error: &[u8], expected: Option<&str>| {
            assert_eq!(status(error).as_deref(), expected, "{}", error.escape_ascii());
        };
        check(br#"{ "scope": "x", "status" : "401" }"#, Some("401"));
        check(br#"{"status":401}"#, Some("401"));
        check(br#"{"status":""}"#, None);
        check(br#"{"status":"a\"b"}"#, None);
        check(
            br#"{"status":"two
lines"}"#,
            None,
        );
        check(br#"{"status""#, None);
        check(b"\xff", None);
        check(b"", None);
        check(format!("{{\"status\":\"{}\"}}", "x".repeat(65)).as_bytes(), None);
    }
}
