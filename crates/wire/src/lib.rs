//! The codec of SMTP and LMTP.
//!
#![doc = include_str!("../README.md")]

mod auth;
mod capability;
mod command;
mod data;
mod flaw;
mod line;
mod params;
mod proxy;
mod reply;
mod schedule;
mod xclient;

pub use auth::{
    AUTH_RESPONSE_MAXIMUM, AuthLineError, AuthResponse, Initial, decode_challenge, encode_challenge,
};
pub use capability::{Capabilities, FutureRelease, Limits, SizeLimit};
pub use command::{Command, CommandError, HelloName, Last};
pub use data::{BdatDecoder, DataDecoder, DataEncoder, Decoded, EncodeError};
pub use flaw::{Flaw, Flaws};
pub use line::{AUTH_LINE_MINIMUM, COMMAND_LINE_MINIMUM, Line, LineFramer};
pub use params::{MailParams, RcptParams};
pub use proxy::{PROXY_HEADER_LIMIT, ProxyError, ProxyHeader, ProxyProgress};
pub use reply::{
    REPLY_LINE_LIMIT, REPLY_LINE_TOLERANCE, REPLY_LINES_LIMIT, REPLY_SIZE_LIMIT, ReplyError,
    ReplyParser, encode_reply,
};
pub use schedule::{By, Hold, Priority};
pub use xclient::{Attribute, ForwardedProtocol, ForwardedSource, Xclient, Xforward};
