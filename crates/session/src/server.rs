//! The server's side of a conversation.
//!
//! Feed a [`Session`] with bytes, answers and time; drain it with [`Session::poll_action`] until
//! it says [`Action::Wait`] or [`Action::Blocked`]. It owns no socket, no clock and no policy:
//! where the protocol cannot decide, it stops and asks.
//!
//! ```text
//!              ask Connect      EHLO: ask Hello          MAIL: ask Mail
//!  Greeting ---------------> Strange ----------> Ready ----------------> Mail <---. RCPT:
//!                              ^  ^               ^ |                    | |  '---' ask Rcpt
//!             AwaitTls --------'  '--- Auth <-----|-'                    | |
//!                ^ (handshake)                    |       DATA: ask Data | | BDAT: ask Data
//!                '-- STARTTLS                     |                      v v
//!                                                 |                  Data   Chunk <--> BetweenChunks
//!                                                 |                      | |
//!                                                 '---- ask Message <----+-'   (a refused chunk:
//!                                                                               Spoiled until RSET)
//! ```
//!
//! While a question or a handshake is open the machine is *blocked*: the driver does not read,
//! and what has been pipelined waits in a bounded buffer. One question at a time keeps replies
//! in order (RFC 2920).

mod answer;
mod body;
mod command;
mod config;
mod replies;
mod schedule;
mod state;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use merpati_types::{ForwardPath, Rejection, Reply, ReversePath, Status, Timestamp};
use merpati_wire::{Flaws, Line, LineFramer, MailParams, RcptParams, Xclient, encode_reply};

pub use config::{Auth, Extensions, Limits, Offer, Protocol, ServerConfig, StartTls};
pub use state::HelloKind;

use replies::Counts;
use state::{Asked, Chunked, Fate, State};

/// Replies are handed out once this many octets have gathered.
const OUT_MARK: usize = 16 * 1024;

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Whether the channel is encrypted from the first byte (RFC 8314).
    pub channel: Channel,
    /// Whether the peer may speak for others by XCLIENT.
    pub xclient: XclientRight,
    /// The time of day, for what a client may ask of the queue.
    pub time: Timestamp,
}

/// Whether anybody can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Anybody can.
    Plain,
    /// TLS is on.
    Encrypted,
}

/// Whether XCLIENT is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XclientRight {
    /// It is not.
    Refused,
    /// It is, to this peer.
    Granted,
}

/// What the driver does next.
#[derive(Debug)]
pub enum Action {
    /// Send these bytes. They may be gathered with later ones until the machine waits.
    Write(Bytes),
    /// Answer this, with [`Session::answer`].
    Ask(Question),
    /// Bytes of the message.
    Body(Bytes),
    /// A transaction that had passed MAIL, or a message, ended and is not to be kept.
    Aborted,
    /// Send all that is written, perform the handshake, and say [`Session::handle_tls`].
    StartTls,
    /// Send all that is written and close. Nothing follows.
    Close,
    /// Read, until this moment at the latest; then say [`Session::handle_timeout`].
    Wait {
        /// The moment.
        until: Instant,
    },
    /// Do not read: an answer or a handshake is outstanding.
    Blocked,
}

/// What the protocol cannot decide.
#[derive(Debug)]
pub enum Question {
    /// May the peer speak at all? `early` if it spoke before the greeting.
    Connect {
        /// Whether it did.
        early: bool,
    },
    /// The peer has said hello.
    Hello {
        /// How.
        kind: HelloKind,
        /// The name it gave.
        name: String,
    },
    /// An AUTH exchange begins.
    AuthStart {
        /// The mechanism, upper case, one of those offered.
        mechanism: String,
        /// The initial response, if one was sent.
        initial: Option<Vec<u8>>,
    },
    /// The peer's answer to the last challenge. An exchange that the peer cancels is answered by
    /// the machine; the next one begins with [`Question::AuthStart`].
    AuthData(Vec<u8>),
    /// A transaction begins.
    Mail {
        /// The sender.
        path: ReversePath,
        /// What follows it.
        params: MailParams,
    },
    /// A recipient.
    Rcpt {
        /// The recipient.
        path: ForwardPath,
        /// What follows it.
        params: RcptParams,
    },
    /// The message is about to come.
    Data,
    /// The message is here, whole. A positive answer takes responsibility for it.
    Message {
        /// What is unusual about its bytes.
        flaws: Flaws,
    },
    /// A trusted peer speaks for another. The session begins anew.
    Xclient(Xclient),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with the customary reply.
    Accept,
    /// Yes, with this text in the greeting, or after the code of the reply to MAIL, to RCPT and to
    /// the message; elsewhere it is [`Verdict::Accept`].
    AcceptWith(String),
    /// No.
    Reject(Rejection),
    /// No, and good-bye.
    Disconnect(Rejection),
    /// For [`Question::AuthStart`] and [`Question::AuthData`]: the server's challenge.
    Challenge(Vec<u8>),
    /// For [`Question::Message`] over LMTP: one for each accepted recipient, in order.
    PerRecipient(Vec<Result<(), Rejection>>),
}

/// A conversation, from greeting to close.
#[derive(Debug)]
pub struct Session {
    config: Arc<ServerConfig>,
    start: Start,
    channel: Channel,
    authenticated: bool,
    state: State,
    framer: LineFramer,
    /// Bytes read and not yet understood.
    input: BytesMut,
    /// Replies not yet handed out.
    out: BytesMut,
    /// Handed out before anything else, first to last.
    actions: VecDeque<Action>,
    /// When the peer was last heard, or last answered.
    heard: Instant,
    began: Instant,
    ends: Instant,
    draining: bool,
    errors: u32,
    refused_recipients: u32,
    transactions: u32,
}

impl Session {
    /// A session that begins at `now`.
    #[must_use]
    pub fn new(now: Instant, config: Arc<ServerConfig>, start: Start) -> Self {
        let framer = LineFramer::new(config.longest_line());
        let ends = now + config.limits.session;
        let state = State::Greeting { until: now + config.greet_delay };
        Self {
            start,
            channel: start.channel,
            authenticated: false,
            state,
            framer,
            input: BytesMut::new(),
            out: BytesMut::new(),
            actions: VecDeque::new(),
            heard: now,
            began: now,
            ends,
            draining: false,
            errors: 0,
            refused_recipients: 0,
            transactions: 0,
            config,
        }
        .begun(now)
    }

    fn begun(mut self, now: Instant) -> Self {
        self.leave_greeting(now);
        self
    }

    /// Bytes came from the peer. A driver that reads while the machine is blocked may hand in
    /// [`Limits::pipelined`] octets more; beyond them the session ends.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.heard = now;
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        // Where the machine waits for bytes, what is buffered is part of a line at most.
        let held = self.waits_for_others() && !self.input.is_empty();
        if held && self.input.len() + bytes.len() > self.config.limits.pipelined {
            self.forget_input();
            self.end(&replies::closing(Status::SYNTAX, "too much input before it was asked for"));
            return;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The handshake that [`Action::StartTls`] asked for is done. What the peer said before is
    /// forgotten (RFC 3207 §4.2).
    pub fn handle_tls(&mut self, now: Instant) {
        self.heard = now;
        if matches!(self.state, State::AwaitTls) {
            self.channel = Channel::Encrypted;
            self.authenticated = false;
            self.forget_input();
            self.state = State::Strange;
        }
    }

    /// The moment of [`Action::Wait`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.leave_greeting(now);
        if now < self.deadline() {
            return;
        }
        let text = match self.state {
            State::Greeting { .. }
            | State::Asked(_)
            | State::StartingTls
            | State::AwaitTls
            | State::Closing
            | State::Closed => return,
            _ if now >= self.ends => "session took too long",
            State::Data { until, .. } if now >= until => "message took too long",
            _ => "timed out waiting for you",
        };
        self.end(&replies::closing(Status::BAD_CONNECTION, text));
    }

    /// The message's bytes cannot be kept: it is read to its end and then refused with this. Once
    /// [`Question::Message`] is open, its answer says so instead.
    pub fn handle_body_error(&mut self, why: Rejection) {
        self.spoil(why);
    }

    /// The server stops: a transaction in hand is finished, everything else ends with 421.
    pub fn handle_drain(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.draining = true;
    }

    /// The peer has closed its side, or the connection broke.
    pub fn handle_eof(&mut self) {
        self.abort();
        self.out.clear();
        if !matches!(self.state, State::Closed) {
            self.state = State::Closing;
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Action {
        loop {
            // An answer may take its time: what is said already need not wait for it.
            if !self.out.is_empty() && matches!(self.actions.front(), Some(Action::Ask(_))) {
                return self.write();
            }
            if let Some(action) = self.actions.pop_front() {
                return action;
            }
            if self.out.len() >= OUT_MARK {
                return self.write();
            }
            self.drain_at_boundary();
            if !self.proceed() {
                break;
            }
        }
        if !self.out.is_empty() {
            return self.write();
        }
        match &self.state {
            State::Asked(_) => Action::Blocked,
            State::AwaitTls => Action::Blocked,
            State::StartingTls => {
                self.state = State::AwaitTls;
                Action::StartTls
            }
            State::Closing => {
                self.state = State::Closed;
                Action::Close
            }
            State::Closed => Action::Close,
            _ => Action::Wait { until: self.deadline() },
        }
    }

    /// Does one thing with the input; `false` when nothing can be done without more of it.
    fn proceed(&mut self) -> bool {
        match self.state {
            State::Strange | State::Ready | State::Mail(_) | State::BetweenChunks(_) => {
                self.proceed_line(Self::handle_line)
            }
            State::Spoiled => self.proceed_line(Self::handle_line),
            State::Auth => self.proceed_line(Self::handle_auth_line),
            State::Data { .. } => self.proceed_data(),
            State::Chunk { .. } => self.proceed_chunk(),
            State::Dropping { .. } => self.proceed_dropping(),
            State::Greeting { .. }
            | State::StartingTls
            | State::AwaitTls
            | State::Asked(_)
            | State::Closing
            | State::Closed => false,
        }
    }

    fn proceed_line(&mut self, handle: fn(&mut Self, &[u8])) -> bool {
        match self.framer.next_line(&mut self.input) {
            None => return false,
            // The exchange is over, whatever the line was meant to be.
            Some(Line::TooLong) if matches!(self.state, State::Auth) => {
                self.state = State::Ready;
                self.refuse(&replies::auth_line_too_long(), Counts::Error);
            }
            Some(Line::TooLong) => self.refuse(&replies::line_too_long(), Counts::Error),
            Some(Line::Complete(line)) if self.exceeds(&line) => {
                self.refuse(&replies::line_too_long(), Counts::Error);
            }
            Some(Line::Complete(line)) => handle(self, &line),
        }
        true
    }

    /// Whether a line is longer than it may be. The framer lets pass what AUTH may need, whose
    /// initial response counts as a response does (RFC 4954 §4).
    fn exceeds(&self, line: &[u8]) -> bool {
        let is_auth = || line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        line.len() + 2 > self.config.limits.line && !matches!(self.state, State::Auth) && !is_auth()
    }

    /// Whether something else than the peer has to speak next.
    fn waits_for_others(&self) -> bool {
        matches!(
            self.state,
            State::Greeting { .. } | State::Asked(_) | State::StartingTls | State::AwaitTls
        )
    }

    fn write(&mut self) -> Action {
        Action::Write(self.out.split().freeze())
    }

    fn say(&mut self, reply: &str) {
        self.out.extend_from_slice(reply.as_bytes());
    }

    fn reply(&mut self, reply: &Reply) {
        encode_reply(reply, &mut self.out);
    }

    /// Refuses, counts, and ends the session where there were too many errors.
    fn refuse(&mut self, why: &Rejection, counts: Counts) {
        if counts == Counts::Error {
            self.errors += 1;
            if self.errors >= self.config.limits.errors {
                self.end(&replies::closing(Status::SECURITY, "too many errors"));
                return;
            }
        }
        self.reply(&why.to_reply());
    }

    fn ask(&mut self, asked: Asked, question: Question) {
        self.state = State::Asked(asked);
        self.actions.push_back(Action::Ask(question));
    }

    /// Says a last word and closes.
    fn end(&mut self, why: &Rejection) {
        self.abort();
        self.reply(&why.to_reply());
        self.state = State::Closing;
    }

    /// Tells the driver that what it has of a transaction is not to be kept.
    fn abort(&mut self) {
        let open = match &self.state {
            State::Mail(_)
            | State::Data { fate: Fate::Keep, .. }
            | State::Chunk { message: Chunked { fate: Fate::Keep, .. }, .. }
            | State::BetweenChunks(Chunked { fate: Fate::Keep, .. })
            | State::Dropping { then: state::AfterDrop::Mail(_), .. } => true,
            State::Asked(asked) => matches!(
                asked,
                Asked::Mail(_)
                    | Asked::Rcpt(_)
                    | Asked::Data(_)
                    | Asked::FirstChunk { .. }
                    | Asked::Message(_)
            ),
            _ => false,
        };
        if open {
            self.actions.push_back(Action::Aborted);
        }
    }

    fn forget_input(&mut self) {
        self.input.clear();
        self.framer.reset();
    }

    fn leave_greeting(&mut self, now: Instant) {
        if let State::Greeting { until } = self.state
            && now >= until
        {
            let early = !self.input.is_empty();
            self.ask(Asked::Connect, Question::Connect { early });
        }
    }

    fn drain_at_boundary(&mut self) {
        let between = matches!(
            self.state,
            State::Greeting { .. } | State::Strange | State::Ready | State::Auth | State::Spoiled
        );
        if self.draining && between {
            self.end(&replies::closing(Status::NOT_ACCEPTING, "the server is going down"));
        }
    }

    fn deadline(&self) -> Instant {
        let idle = self.heard + self.config.limits.idle;
        let state = match &self.state {
            State::Greeting { until } => return *until,
            State::Data { until, .. } => *until,
            State::Chunk { message, .. } | State::BetweenChunks(message) => message.until,
            _ => idle,
        };
        idle.min(state).min(self.ends)
    }
}

#[cfg(test)]
mod tests;
