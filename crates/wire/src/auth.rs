//! The lines of an AUTH exchange (RFC 4954 §4): base64, `=` and `*`.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest decoded response that fits a line of [`AUTH_LINE_MINIMUM`](crate::AUTH_LINE_MINIMUM)
/// octets.
pub const AUTH_RESPONSE_MAXIMUM: usize = 9_216;

/// Canonical base64 with its padding, as RFC 4954 §4 asks for (RFC 4648 §4).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The initial response of an AUTH command, decoded. `Debug` does not show it: it holds passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Initial(Vec<u8>);

impl Initial {
    /// The octets of an initial response.
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Initial(octets.into())
    }

    /// The decoded octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The decoded octets.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Reads the argument of AUTH: base64, or `=` for an empty response.
    ///
    /// # Errors
    /// The argument is neither; the reply is 501 5.5.2, or 500 5.5.6.
    pub fn parse(argument: &[u8]) -> Result<Self, AuthLineError> {
        if argument == b"=" {
            return Ok(Initial(Vec::new()));
        }
        if argument.is_empty() {
            return Err(AuthLineError::Base64);
        }
        decode(argument).map(Initial)
    }

    /// The argument of AUTH: base64, or `=` for an empty response.
    pub fn encode(&self) -> String {
        if self.0.is_empty() { "=".to_owned() } else { BASE64.encode(&self.0) }
    }
}

impl fmt::Debug for Initial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initial([redacted])")
    }
}

/// The client's answer to a 334 challenge. `Debug` does not show the data: it holds passwords.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthResponse {
    /// The decoded response, which may be empty.
    Data(Vec<u8>),
    /// `*`: the client gives up; the reply is 501 5.7.0.
    Cancelled,
}

impl fmt::Debug for AuthResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthResponse::Data(_) => "Data([redacted])",
            AuthResponse::Cancelled => "Cancelled",
        })
    }
}

impl AuthResponse {
    /// Reads a response line, given without its CRLF.
    ///
    /// # Errors
    /// The line is neither `*` nor base64, or too long; the reply is 501 5.5.2, or 500 5.5.6.
    pub fn parse(line: &[u8]) -> Result<Self, AuthLineError> {
        if line == b"*" {
            return Ok(AuthResponse::Cancelled);
        }
        decode(line).map(AuthResponse::Data)
    }

    /// Writes the response line, without its CRLF.
    pub fn encode(&self) -> String {
        match self {
            AuthResponse::Data(data) => BASE64.encode(data),
            AuthResponse::Cancelled => "*".to_owned(),
        }
    }
}

/// A line of an AUTH exchange that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthLineError {
    /// Not base64 with canonical padding: 501 5.5.2 (RFC 4954 §4).
    #[error("not base64")]
    Base64,
    /// Over [`AUTH_RESPONSE_MAXIMUM`] octets: 500 5.5.6 (RFC 4954 §4).
    #[error("longer than {limit} octets when decoded")]
    TooLong {
        /// The limit in octets.
        limit: usize,
    },
}

/// The text of a 334 reply that carries `challenge`.
pub fn encode_challenge(challenge: &[u8]) -> String {
    BASE64.encode(challenge)
}

/// Reads the text of a 334 reply.
///
/// # Errors
/// The text is not base64, or too long. A client answers such a challenge with `*`.
pub fn decode_challenge(text: &str) -> Result<Vec<u8>, AuthLineError> {
    decode(text.trim_end_matches(' ').as_bytes())
}

fn decode(text: &[u8]) -> Result<Vec<u8>, AuthLineError> {
    if text.len() / 4 * 3 > AUTH_RESPONSE_MAXIMUM {
        return Err(AuthLineError::TooLong { limit: AUTH_RESPONSE_MAXIMUM });
    }
    BASE64.decode(text).map_err(|_| AuthLineError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        let data = |octets: &[u8]| Ok(AuthResponse::Data(octets.to_vec()));
        let cases: &[(&str, Result<AuthResponse, AuthLineError>)] = &[
            ("", data(b"")),
            ("*", Ok(AuthResponse::Cancelled)),
            ("AA==", data(b"\0")),
            ("AGFsaWNlAHNlY3JldA==", data(b"\0alice\0secret")),
            ("AGFsaWNlAHNlY3JldA", Err(AuthLineError::Base64)),
            ("AGFsaWNlAHNlY3JldB==", Err(AuthLineError::Base64)),
            ("AA== ", Err(AuthLineError::Base64)),
            (" AA==", Err(AuthLineError::Base64)),
            ("=", Err(AuthLineError::Base64)),
            ("**", Err(AuthLineError::Base64)),
            ("A-_=", Err(AuthLineError::Base64)),
            ("A\0==", Err(AuthLineError::Base64)),
        ];
        for (line, expected) in cases {
            let parsed = AuthResponse::parse(line.as_bytes());
            assert_eq!(&parsed, expected, "{line:?}");
            if let Ok(response) = parsed {
                assert_eq!(&response.encode(), line);
            }
        }
    }

    #[test]
    fn length_is_bounded() {
        let fits = "AAAA".repeat(AUTH_RESPONSE_MAXIMUM / 3);
        assert!(matches!(AuthResponse::parse(fits.as_bytes()), Ok(AuthResponse::Data(_))));
        let over = format!("{fits}AAAA");
        assert_eq!(
            AuthResponse::parse(over.as_bytes()),
            Err(AuthLineError::TooLong { limit: AUTH_RESPONSE_MAXIMUM })
        );
    }

    #[test]
    fn initial_responses() {
        assert_eq!(Initial::parse(b"="), Ok(Initial::new(*b"")));
        assert_eq!(Initial::parse(b"AGEAYg=="), Ok(Initial::new(*b"\0a\0b")));
        assert_eq!(Initial::parse(b""), Err(AuthLineError::Base64));
        assert_eq!(Initial::new(*b"").encode(), "=");
        assert_eq!(Initial::new(*b"\0a\0b").encode(), "AGEAYg==");
    }

    #[test]
    fn challenges() {
        assert_eq!(encode_challenge(b"Username:"), "VXNlcm5hbWU6");
        assert_eq!(decode_challenge("VXNlcm5hbWU6"), Ok(b"Username:".to_vec()));
        assert_eq!(decode_challenge("VXNlcm5hbWU6 "), Ok(b"Username:".to_vec()));
        assert_eq!(decode_challenge(""), Ok(Vec::new()));
        assert_eq!(decode_challenge("go ahead"), Err(AuthLineError::Base64));
    }

    #[test]
    fn secrets_do_not_show() {
        assert!(!format!("{:?}", Initial::new(*b"hunter2")).contains("hunter2"));
        assert!(!format!("{:?}", AuthResponse::Data(b"104".to_vec())).contains("49"));
    }
}
