//! Bytes to SMTP and LMTP commands and replies, and back: the codec for both sides.

#![doc = include_str!("../README.md")]

mod auth;
mod data;
mod flaw;
mod line;
mod proxy;

pub use auth::{
    AUTH_RESPONSE_MAXIMUM, AuthLineError, AuthResponse, Initial, decode_challenge, encode_challenge,
};
pub use data::{BdatDecoder, DataDecoder, DataEncoder, Decoded, EncodeError};
pub use flaw::{Flaw, Flaws};
pub use line::{AUTH_LINE_MINIMUM, COMMAND_LINE_MINIMUM, Line, LineFramer};
pub use proxy::{PROXY_HEADER_LIMIT, ProxyError, ProxyHeader, ProxyProgress};
