//! Commands: what a client says, read and written.

use std::fmt::{self, Write as _};

use bytes::{BufMut, BytesMut};
use merpati_types::{ForwardPath, Host, PathError, ReversePath};

use crate::auth::{AuthLineError, Initial};
use crate::params::{MailParams, RcptParams};
use crate::xclient::{Xclient, Xforward};

mod parse;

pub(crate) use parse::decimal;

/// A command of SMTP or LMTP.
///
/// [`parse`](Self::parse) reads all of them whether or not the server offers the extension they
/// belong to: refusing what was not offered is for the session, which knows what was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// `EHLO name` (RFC 5321 §4.1.1.1).
    Ehlo(HelloName),
    /// `HELO name` (RFC 5321 §4.1.1.1).
    Helo(HelloName),
    /// `LHLO name` (RFC 2033 §4.1).
    Lhlo(HelloName),
    /// `MAIL FROM:<reverse-path> [parameters]` (RFC 5321 §4.1.1.2).
    Mail {
        /// The sender.
        path: ReversePath,
        /// What follows the path.
        params: MailParams,
    },
    /// `RCPT TO:<forward-path> [parameters]` (RFC 5321 §4.1.1.3).
    Rcpt {
        /// The recipient.
        path: ForwardPath,
        /// What follows the path.
        params: RcptParams,
    },
    /// `DATA` (RFC 5321 §4.1.1.4).
    Data,
    /// `BDAT size [LAST]` (RFC 3030 §2).
    Bdat {
        /// Octets in the chunk that follows; a number beyond 64 bits is read as `u64::MAX`, so that
        /// the session can refuse the chunk for its size.
        size: u64,
        /// Whether it is the last chunk.
        last: Last,
    },
    /// `RSET` (RFC 5321 §4.1.1.5).
    Rset,
    /// `NOOP [text]` (RFC 5321 §4.1.1.9); the text means nothing.
    Noop,
    /// `VRFY text` (RFC 5321 §4.1.1.6).
    Vrfy(String),
    /// `EXPN text` (RFC 5321 §4.1.1.7).
    Expn(String),
    /// `HELP [text]` (RFC 5321 §4.1.1.8).
    Help(Option<String>),
    /// `QUIT` (RFC 5321 §4.1.1.10).
    Quit,
    /// `STARTTLS` (RFC 3207 §4).
    StartTls,
    /// `AUTH mechanism [initial-response]` (RFC 4954 §4).
    Auth {
        /// The mechanism, in upper case: 1 to 20 of `A-Z 0-9 - _` (RFC 4422 §3.1).
        mechanism: String,
        /// The initial response, decoded; `=` is an empty one.
        initial: Option<Initial>,
    },
    /// `XCLIENT attributes` (Postfix `XCLIENT_README`).
    Xclient(Xclient),
    /// `XFORWARD attributes` (Postfix `XFORWARD_README`).
    Xforward(Xforward),
}

/// Whether a BDAT chunk is the last of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Last {
    /// `LAST` was said.
    Yes,
    /// More chunks follow.
    No,
}

/// The name that a client gives itself in EHLO, HELO or LHLO.
///
/// Clients give all sorts of names, and RFC 5321 §4.1.4 forbids to refuse mail for it alone, so that
/// any text is taken: without control characters, not empty, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloName {
    text: String,
    host: Option<Host>,
}

/// What is wrong with a command line; each variant has its reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such command: 500 5.5.1.
    #[error("unknown command")]
    Unknown,
    /// A verb of HTTP, such as a browser sends that was led here: close the connection, since what
    /// follows are header fields and a body of an attacker's choice.
    #[error("an HTTP request")]
    HttpVerb,
    /// A NUL in the line: 500 5.5.2.
    #[error("NUL in a command")]
    Nul,
    /// A bare CR or LF in the line: 500 5.5.2 (RFC 5321 §2.3.8).
    #[error("bare CR or LF in a command")]
    BareLineEnd,
    /// The arguments are not as they should be: 501 5.5.4.
    #[error("syntax: {usage}")]
    Syntax {
        /// How the command is written, for the reply's text.
        usage: &'static str,
    },
    /// The sender's address is malformed: 501 5.1.7.
    #[error("malformed sender: {0}")]
    Sender(#[source] PathError),
    /// The recipient's address is malformed: 501 5.1.3.
    #[error("malformed recipient: {0}")]
    Recipient(#[source] PathError),
    /// MAIL with an address beyond ASCII, and without SMTPUTF8: 553 5.6.7 (RFC 6531 §3.5). For RCPT
    /// the session has to see to it, with [`Command::is_internationalized`].
    #[error("an internationalized address needs SMTPUTF8")]
    Utf8Address,
    /// A parameter of MAIL or RCPT that is not known: 555 5.5.4.
    #[error("unknown parameter {name}")]
    UnknownParameter {
        /// Its keyword, in upper case.
        name: String,
    },
    /// A known parameter with a wrong value, none where it needs one, one where it takes none, or
    /// given twice: 501 5.5.4.
    #[error("bad value of parameter {name}")]
    BadParameter {
        /// Its keyword, in upper case.
        name: String,
    },
    /// AUTH with an initial response that can't be read: 501 5.5.2, or 500 5.5.6.
    #[error("initial response: {0}")]
    Initial(#[source] AuthLineError),
}

impl Command {
    /// Reads a command line, given without its CRLF.
    ///
    /// Beyond the letter of RFC 5321 it tolerates spaces between `MAIL FROM:` or `RCPT TO:` and the
    /// path, several spaces where one is due, and spaces and tabs at the end of the line, since
    /// clients in the field send them. Paths must have their angle brackets.
    ///
    /// # Errors
    /// The line is no command; the error's variant tells the reply.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        parse::command(line)
    }

    /// Writes the command, with its CRLF.
    ///
    /// Addresses are written as they were given: a client without SMTPUTF8 has to put domains in
    /// their A-label form first.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut line = Line(out);
        // Writing to memory does not fail.
        let _ = write!(line, "{self}\r\n");
    }

    /// The verb, in upper case.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Ehlo(_) => "EHLO",
            Command::Helo(_) => "HELO",
            Command::Lhlo(_) => "LHLO",
            Command::Mail { .. } => "MAIL",
            Command::Rcpt { .. } => "RCPT",
            Command::Data => "DATA",
            Command::Bdat { .. } => "BDAT",
            Command::Rset => "RSET",
            Command::Noop => "NOOP",
            Command::Vrfy(_) => "VRFY",
            Command::Expn(_) => "EXPN",
            Command::Help(_) => "HELP",
            Command::Quit => "QUIT",
            Command::StartTls => "STARTTLS",
            Command::Auth { .. } => "AUTH",
            Command::Xclient(_) => "XCLIENT",
            Command::Xforward(_) => "XFORWARD",
        }
    }

    /// Whether it names an address that only SMTPUTF8 can carry (RFC 6531 §3.4): without it the
    /// reply is 553 5.6.7.
    pub fn is_internationalized(&self) -> bool {
        match self {
            Command::Mail { path, .. } => {
                path.mailbox().is_some_and(|mailbox| mailbox.is_internationalized())
            }
            Command::Rcpt { path, .. } => {
                path.mailbox().is_some_and(|mailbox| mailbox.is_internationalized())
            }
            Command::Vrfy(text) | Command::Expn(text) => !text.is_ascii(),
            _ => false,
        }
    }
}

/// The command line without its CRLF. An initial response of AUTH is in it: do not log this.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb())?;
        match self {
            Command::Ehlo(name) | Command::Helo(name) | Command::Lhlo(name) => {
                write!(f, " {}", name.as_str())
            }
            Command::Mail { path, params } => write!(f, " FROM:{path}{params}"),
            Command::Rcpt { path, params } => write!(f, " TO:{path}{params}"),
            Command::Bdat { size, last: Last::Yes } => write!(f, " {size} LAST"),
            Command::Bdat { size, last: Last::No } => write!(f, " {size}"),
            Command::Vrfy(text) | Command::Expn(text) | Command::Help(Some(text)) => {
                write!(f, " {text}")
            }
            Command::Auth { mechanism, initial } => {
                write!(f, " {mechanism}")?;
                match initial {
                    Some(initial) => write!(f, " {}", initial.encode()),
                    None => Ok(()),
                }
            }
            Command::Xclient(attributes) => attributes.fmt(f),
            Command::Xforward(attributes) => attributes.fmt(f),
            Command::Data
            | Command::Rset
            | Command::Noop
            | Command::Help(None)
            | Command::Quit
            | Command::StartTls => Ok(()),
        }
    }
}

/// Appends text to a buffer.
struct Line<'a>(&'a mut BytesMut);

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put_slice(text.as_bytes());
        Ok(())
    }
}

impl HelloName {
    /// Longest name, in characters.
    pub const LIMIT: usize = 255;

    /// Takes any text that is not empty, over [`LIMIT`](Self::LIMIT), or with control characters.
    pub fn new(text: &str) -> Option<Self> {
        let fine = !text.is_empty()
            && text.chars().count() <= Self::LIMIT
            && !text.chars().any(char::is_control);
        fine.then(|| HelloName { text: text.to_owned(), host: Host::parse(text).ok() })
    }

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name as the domain or address literal that it should be (RFC 5321 §4.1.4), if it is.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
