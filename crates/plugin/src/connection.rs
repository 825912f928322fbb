//! What is known of a peer: the connection, and what the conversation has added to it.

use std::net::SocketAddr;
use std::sync::Arc;

use merpati_types::Mailbox;

/// The protocol a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// One accepted connection, as it stands before the first byte.
///
/// After XCLIENT or PROXY the addresses are those the trusted front end named.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Counts connections since the process started; ties log lines together.
    pub id: u64,
    /// The name of the listener, as configured.
    pub listener: Arc<str>,
    /// The protocol spoken on the listener.
    pub protocol: Protocol,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub peer: SocketAddr,
}

/// The name a peer gave in EHLO, HELO or LHLO. It is a claim, not a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The argument as sent, printable, at most 255 octets.
    pub name: String,
    /// Whether the peer asked for extensions (EHLO, LHLO) or not (HELO).
    pub extended: bool,
}

/// What the TLS handshake established.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// As IANA spells it, for example `TLSv1.3`.
    pub version: String,
    /// The cipher suite, as IANA spells it.
    pub cipher: String,
    /// The server name the peer asked for, if it did.
    pub server_name: Option<String>,
    /// DNS names and e-mail addresses of a client certificate that chains to a configured root.
    pub client_names: Vec<String>,
}

/// Who a peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name that was authenticated, in the form the back end knows it by.
    pub login: String,
    /// The addresses the account may send as. Empty means none is known.
    pub addresses: Vec<Mailbox>,
}

/// All that is known of the peer at some moment of its session.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The connection under it.
    pub connection: Connection,
    /// Whether bytes came before our greeting did (a pre-greeter).
    pub early_talker: bool,
    /// Set once the peer has said hello.
    pub hello: Option<Hello>,
    /// Set while the channel is encrypted.
    pub tls: Option<TlsFacts>,
    /// Set once the peer has authenticated.
    pub account: Option<Account>,
}

impl Conversation {
    /// The start of a conversation over `connection`.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, early_talker: false, hello: None, tls: None, account: None }
    }
}
