//! SMTP and LMTP conversations, server and client, as sans-IO state machines.

pub mod client;
pub mod server;
