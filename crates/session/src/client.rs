//! The client's side of a conversation.
//!
//! Feed a [`Client`] with bytes and time; drain it with [`Client::poll_action`]. Once it says
//! [`Event::Ready`], hand it one transaction after the other.
//!
//! ```text
//! Greeting --> Hello --> StartTls --> (handshake) --> Hello
//!                |
//!                v   authenticate()
//!              Idle <---------------> Auth
//!              |  ^
//!       begin()|  | Finished
//!              v  |
//!            Envelope --> Body --> Message
//! ```
//!
//! Where the server offers PIPELINING, MAIL and RCPT go out together; where it offers CHUNKING,
//! the message is one BDAT chunk, and a small one goes out with them.

mod config;
mod reply;
mod transaction;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use merpati_types::Reply;
use merpati_wire::{
    AuthResponse, Capabilities, Command, DataEncoder, EncodeError, HelloName, Initial, Last,
    ReplyError, ReplyParser,
};

pub use config::{ClientConfig, Protocol, Timeouts, Tls};
pub use transaction::{Mismatch, Outcome, Outgoing, Stage};

use transaction::Fate;

/// What the driver does next.
#[derive(Debug)]
pub enum ClientAction {
    /// Send these bytes.
    Write(Bytes),
    /// Perform the handshake and say [`Client::handle_tls`].
    StartTls,
    /// Hand on the next piece of the message with [`Client::body`], or its end with
    /// [`Client::body_end`].
    NeedBody,
    /// Something has happened.
    Event(Event),
    /// Read, until this moment at the latest; then say [`Client::handle_timeout`].
    Wait {
        /// The moment.
        until: Instant,
    },
    /// Nothing is under way: begin a transaction, or quit.
    Idle,
    /// Close the connection. Nothing follows.
    Close,
}

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    /// The server has said hello, or authenticated us: transactions may begin.
    Ready(Box<Capabilities>),
    /// The server's challenge in an AUTH exchange: [`Client::respond`] or [`Client::cancel`].
    Challenge(Vec<u8>),
    /// The server refused to authenticate us.
    AuthRefused(Reply),
    /// The end of the message goes out next: from here on the server may have it although we do
    /// not know.
    FinalDot,
    /// The transaction is over: what the server said about each recipient, in their order.
    Finished(Vec<Outcome>),
    /// The session is over before its time. Recipients whose fate is known have it here, if a
    /// transaction was under way; the others may be tried again.
    Lost {
        /// Why.
        why: Loss,
        /// What is known of each recipient.
        known: Vec<Option<Outcome>>,
    },
}

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// The server closed the connection without a word.
    #[error("connection closed by the server")]
    Closed,
    /// The server took too long.
    #[error("time-out waiting for the {0}")]
    TimedOut(&'static str),
    /// The server said that it is going, or that it takes no mail.
    #[error("server said: {0}")]
    Refused(Reply),
    /// What came is no SMTP.
    #[error("server does not speak SMTP: {0}")]
    Garbled(#[from] ReplyError),
    /// A reply came to nothing that was asked.
    #[error("server sent a reply to no command")]
    Unasked,
    /// TLS is required and not offered.
    #[error("server does not offer STARTTLS")]
    NoTls,
    /// Bytes came behind the reply to STARTTLS, in the clear: somebody is on the line.
    #[error("server sent bytes in the clear behind the reply to STARTTLS")]
    Injected,
    /// The message is not what was announced: a bare CR or LF without BINARYMIME.
    #[error("message cannot be sent: {0}")]
    Unsendable(#[from] EncodeError),
    /// The message's length is not what was announced.
    #[error("message has another length than was announced")]
    Length,
}

/// What a reply will be to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Greeting,
    Hello,
    Helo,
    StartTls,
    Auth,
    Mail,
    Rcpt(usize),
    Data,
    /// To the message; over LMTP, about this recipient.
    Message(Option<usize>),
    Rset,
    Quit,
}

/// Where the transaction is.
#[derive(Debug)]
enum Flow {
    /// None is under way.
    Idle,
    /// Commands are being sent; the next is this recipient's.
    Envelope { next: usize },
    /// Every command before the message is sent, and its permission is awaited.
    AwaitData,
    /// The message goes out.
    Body(Encoder),
    /// All is said; replies are awaited.
    AwaitReplies,
}

/// How the message goes out.
#[derive(Debug)]
enum Encoder {
    Data(DataEncoder),
    /// One chunk; so many octets are left of it.
    Bdat {
        left: u64,
    },
}

/// A transaction under way.
#[derive(Debug)]
struct Transaction {
    outgoing: Outgoing,
    fates: Vec<Fate>,
    /// Recipients whose reply to RCPT is not here yet.
    unanswered: usize,
    /// Whether the server's side of it is over: it has taken the message, has refused MAIL, or
    /// has answered RSET. After anything else it may still be open, and what comes next would
    /// join it.
    closed: bool,
}

/// A conversation with a server.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    offered: Capabilities,
    server_name: String,
    encrypted: bool,
    parser: ReplyParser,
    input: BytesMut,
    out: BytesMut,
    /// Handed out after `out`, first to last.
    events: VecDeque<ClientAction>,
    expected: VecDeque<Expect>,
    flow: Flow,
    transaction: Option<Transaction>,
    heard: Instant,
    over: bool,
}

impl Client {
    /// A session that begins at `now`; the connection stands, and `encrypted` says whether it
    /// did so with TLS (RFC 8314).
    #[must_use]
    pub fn new(now: Instant, config: Arc<ClientConfig>, encrypted: Channel) -> Self {
        Self {
            config,
            offered: Capabilities::default(),
            server_name: String::new(),
            encrypted: encrypted == Channel::Encrypted,
            parser: ReplyParser::new(),
            input: BytesMut::new(),
            out: BytesMut::new(),
            events: VecDeque::new(),
            expected: VecDeque::from([Expect::Greeting]),
            flow: Flow::Idle,
            transaction: None,
            heard: now,
            over: false,
        }
    }

    /// Bytes came from the server.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.over {
            match self.parser.next_reply(&mut self.input) {
                Ok(Some(reply)) => {
                    // A whole reply: one octet now and then must not hold us for ever.
                    self.heard = now;
                    self.handle_reply(reply);
                }
                Ok(None) => break,
                Err(error) => self.lose(error.into()),
            }
        }
    }

    /// The handshake that [`ClientAction::StartTls`] asked for is done.
    pub fn handle_tls(&mut self, now: Instant) {
        self.heard = now;
        if self.parser.is_partial() || !self.input.is_empty() {
            self.lose(Loss::Injected);
            return;
        }
        self.encrypted = true;
        self.offered = Capabilities::default();
        self.say_hello();
    }

    /// The moment of [`ClientAction::Wait`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline() && !self.over {
            let what = match self.expected.front() {
                Some(Expect::Greeting) | None => "greeting",
                Some(Expect::Hello | Expect::Helo) => "reply to hello",
                Some(Expect::StartTls) => "reply to STARTTLS",
                Some(Expect::Auth) => "reply to AUTH",
                Some(Expect::Mail) => "reply to MAIL",
                Some(Expect::Rcpt(_)) => "reply to RCPT",
                Some(Expect::Data) => "reply to DATA",
                Some(Expect::Message(_)) => "reply to the message",
                Some(Expect::Rset) => "reply to RSET",
                Some(Expect::Quit) => {
                    self.close();
                    return;
                }
            };
            self.lose(Loss::TimedOut(what));
        }
    }

    /// The server has closed its side, or the connection broke.
    pub fn handle_eof(&mut self) {
        if self.over {
            return;
        }
        if self.expected.front() == Some(&Expect::Quit) {
            self.close();
        } else {
            self.lose(Loss::Closed);
        }
    }

    /// What the server offers; nothing before [`Event::Ready`].
    #[must_use]
    pub fn offered(&self) -> &Capabilities {
        &self.offered
    }

    /// What the server calls itself in its reply to hello (RFC 5321 §4.1.1.1); empty before it, and
    /// not to be believed.
    #[must_use]
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Whether the session is over, so that nothing more need be sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the channel is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Begins an AUTH exchange, when idle: `mechanism` in upper case, `initial` if it has one.
    pub fn authenticate(&mut self, now: Instant, mechanism: &str, initial: Option<Vec<u8>>) {
        self.heard = now;
        let initial = initial.map(Initial::new);
        self.command(&Command::Auth { mechanism: mechanism.to_owned(), initial }, Expect::Auth);
    }

    /// Answers a challenge.
    pub fn respond(&mut self, now: Instant, response: Vec<u8>) {
        self.auth_line(now, &AuthResponse::Data(response));
    }

    /// Gives an AUTH exchange up.
    pub fn cancel(&mut self, now: Instant) {
        self.auth_line(now, &AuthResponse::Cancelled);
    }

    fn auth_line(&mut self, now: Instant, response: &AuthResponse) {
        self.heard = now;
        self.out.extend_from_slice(response.encode().as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.expected.push_back(Expect::Auth);
    }

    /// Begins a transaction, when idle.
    ///
    /// # Errors
    /// [`Mismatch`], when the server lacks what the message needs; nothing is sent then.
    pub fn begin(&mut self, now: Instant, outgoing: Outgoing) -> Result<(), Mismatch> {
        outgoing.check(&self.offered, self.config.protocol)?;
        self.heard = now;
        let recipients = outgoing.recipients.len();
        let mail = outgoing.mail(&self.offered);
        self.transaction = Some(Transaction {
            fates: vec![Fate::Asked; recipients],
            unanswered: recipients,
            closed: false,
            outgoing,
        });
        self.command(&mail, Expect::Mail);
        self.flow = Flow::Envelope { next: 0 };
        self.send_ahead();
        Ok(())
    }

    /// The next piece of the message.
    pub fn body(&mut self, now: Instant, mut piece: Bytes) {
        self.heard = now;
        let result = match &mut self.flow {
            Flow::Body(Encoder::Data(encoder)) => loop {
                match encoder.encode(&mut piece) {
                    Ok(Some(bytes)) => self.out.extend_from_slice(&bytes),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(Loss::from(error)),
                }
            },
            Flow::Body(Encoder::Bdat { left }) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    if rest == 0 {
                        // Told before the last octets go out.
                        self.events.push_back(ClientAction::Event(Event::FinalDot));
                    }
                    self.events.push_back(ClientAction::Write(piece));
                    Ok(())
                }
                None => Err(Loss::Length),
            },
            _ => Ok(()),
        };
        if let Err(loss) = result {
            self.lose(loss);
        }
    }

    /// The message has ended.
    pub fn body_end(&mut self, now: Instant) {
        self.heard = now;
        match std::mem::replace(&mut self.flow, Flow::AwaitReplies) {
            Flow::Body(Encoder::Data(encoder)) => match encoder.finish() {
                Ok(end) => {
                    self.events.push_back(ClientAction::Event(Event::FinalDot));
                    self.events.push_back(ClientAction::Write(end));
                    self.expect_message();
                }
                Err(error) => self.lose(error.into()),
            },
            Flow::Body(Encoder::Bdat { left: 0 }) => {}
            Flow::Body(Encoder::Bdat { .. }) => self.lose(Loss::Length),
            other => self.flow = other,
        }
    }

    /// Ends the session, when idle.
    pub fn quit(&mut self, now: Instant) {
        self.heard = now;
        self.command(&Command::Quit, Expect::Quit);
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> ClientAction {
        if !self.out.is_empty() && !self.over {
            return ClientAction::Write(self.out.split().freeze());
        }
        if let Some(action) = self.events.pop_front() {
            return action;
        }
        if self.over {
            return ClientAction::Close;
        }
        if matches!(self.flow, Flow::Body(_)) {
            return ClientAction::NeedBody;
        }
        if self.expected.is_empty() {
            return ClientAction::Idle;
        }
        ClientAction::Wait { until: self.deadline() }
    }

    fn deadline(&self) -> Instant {
        let timeouts = &self.config.timeouts;
        let limit = match self.expected.front() {
            Some(Expect::Greeting) => timeouts.greeting,
            Some(Expect::Hello | Expect::Helo | Expect::StartTls | Expect::Auth) => timeouts.hello,
            Some(Expect::Mail) => timeouts.mail,
            Some(Expect::Rcpt(_)) => timeouts.rcpt,
            Some(Expect::Data) => timeouts.data,
            Some(Expect::Message(_)) => timeouts.message,
            Some(Expect::Rset | Expect::Quit) => timeouts.quit,
            None => Duration::MAX,
        };
        self.heard.checked_add(limit).unwrap_or(self.heard + timeouts.message)
    }

    fn command(&mut self, command: &Command, expect: Expect) {
        command.encode(&mut self.out);
        self.expected.push_back(expect);
    }

    fn say_hello(&mut self) {
        // A name that cannot be sent is our configuration's mistake; a literal always can.
        let name = HelloName::new(&self.config.hello)
            .or_else(|| HelloName::new("[127.0.0.1]"))
            .expect("an address literal is a name");
        let command = match self.config.protocol {
            Protocol::Smtp => Command::Ehlo(name),
            Protocol::Lmtp => Command::Lhlo(name),
        };
        self.command(&command, Expect::Hello);
    }

    /// Sends as much of the transaction as may go out before the next reply.
    fn send_ahead(&mut self) {
        let pipelining = self.offered.pipelining;
        while let (Flow::Envelope { next }, Some(transaction)) = (&mut self.flow, &self.transaction)
        {
            let room = if pipelining { self.config.window.max(2) } else { 1 };
            if self.expected.len() >= room {
                return;
            }
            let index = *next;
            if let Some(recipient) = transaction.outgoing.recipients.get(index) {
                *next += 1;
                let command = transaction.outgoing.rcpt(recipient, &self.offered);
                self.command(&command, Expect::Rcpt(index));
                continue;
            }
            let chunking = self.offered.chunking;
            let ahead = pipelining && (!chunking || transaction.outgoing.size <= self.config.ahead);
            if !ahead && !self.expected.is_empty() {
                return;
            }
            self.send_data(chunking);
        }
    }

    fn send_data(&mut self, chunking: bool) {
        let Some(transaction) = &mut self.transaction else { return };
        // Everybody was refused already: there is nothing to send.
        if transaction.unanswered == 0 && !transaction.fates.iter().any(Fate::is_open) {
            self.flow = Flow::AwaitReplies;
            self.settle_if_done();
        } else if chunking {
            let size = transaction.outgoing.size;
            Command::Bdat { size, last: Last::Yes }.encode(&mut self.out);
            self.flow = Flow::Body(Encoder::Bdat { left: size });
            if size == 0 {
                self.events.push_back(ClientAction::Event(Event::FinalDot));
            }
            self.expect_message();
        } else {
            self.command(&Command::Data, Expect::Data);
            self.flow = Flow::AwaitData;
        }
    }

    fn expect_message(&mut self) {
        match (self.config.protocol, &self.transaction) {
            // Which recipients will be answered is known when the replies to RCPT are.
            (Protocol::Lmtp, Some(transaction)) => {
                let all = 0..transaction.fates.len();
                self.expected.extend(all.map(|index| Expect::Message(Some(index))));
                self.skip_refused();
            }
            _ => self.expected.push_back(Expect::Message(None)),
        }
    }

    /// Gives up.
    fn lose(&mut self, why: Loss) {
        let known = self.transaction.take().map_or_else(Vec::new, |transaction| {
            let known = |fate| match fate {
                Fate::Settled(outcome) => Some(outcome),
                Fate::Asked | Fate::Taken => None,
            };
            transaction.fates.into_iter().map(known).collect()
        });
        self.close();
        // What has happened stays so: an outcome that is known must not be lost with the session.
        self.events.retain(|action| matches!(action, ClientAction::Event(_)));
        self.events.push_back(ClientAction::Event(Event::Lost { why, known }));
    }

    fn close(&mut self) {
        self.over = true;
        self.out.clear();
        self.expected.clear();
        self.flow = Flow::Idle;
    }
}

/// Whether the connection stood with TLS from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// It did not.
    Plain,
    /// It did.
    Encrypted,
}

#[cfg(test)]
mod tests;
