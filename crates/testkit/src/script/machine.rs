//! Runs scripts against the session machine alone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use merpati_sasl::server::{Claim, Exchange, Step as SaslStep};
use merpati_session::server::{Action, Channel, Protocol, Question, Session, Verdict};
use merpati_types::{RejectCode, Rejection, Status};

use super::play::{Peer, Said, play};
use super::rules::{Ruled, Setup, Stage};
use super::{Case, Cutting, ScriptError};

/// The sizes of the pieces in which the peer's bytes arrive.
const PIECES: [usize; 5] = [1, 2, 3, 7, usize::MAX];

/// Runs `case` with the peer's bytes arriving whole, and in pieces of 1, 2, 3 and 7 octets unless
/// the case forbids that.
///
/// # Errors
/// [`ScriptError`], at the first step that went another way.
pub async fn run_machine(case: &Case) -> Result<(), ScriptError> {
    for piece in PIECES {
        if case.cutting == Cutting::Free || piece == usize::MAX {
            let mut peer = MachinePeer::new(&case.setup, piece);
            play(case, &mut peer).await.map_err(|mut error| {
                if piece < usize::MAX {
                    error.reason += &format!("\n  in pieces of {piece}");
                }
                error
            })?;
        }
    }
    Ok(())
}

/// The machine, its driver, and the peer in one.
struct MachinePeer<'a> {
    setup: &'a Setup,
    piece: usize,
    session: Session,
    now: Instant,
    /// When the machine wants to be told that nothing came.
    until: Option<Instant>,
    heard: VecDeque<u8>,
    end: End,
    handshake: Handshake,
    exchange: Option<Exchange>,
    recipients: Vec<String>,
    body: Vec<u8>,
    kept: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    /// The channel is encrypted from the start, and the peer has not begun.
    First,
    /// STARTTLS was said.
    Due,
    NotDue,
}

impl<'a> MachinePeer<'a> {
    fn new(setup: &'a Setup, piece: usize) -> Self {
        let now = Instant::now();
        let mut peer = Self {
            setup,
            piece,
            session: Session::new(now, Arc::new(setup.config.clone()), setup.start),
            now,
            until: None,
            heard: VecDeque::new(),
            end: End::Open,
            handshake: match setup.start.channel {
                Channel::Encrypted => Handshake::First,
                Channel::Plain => Handshake::NotDue,
            },
            exchange: None,
            recipients: Vec::new(),
            body: Vec::new(),
            kept: Vec::new(),
        };
        peer.turn();
        peer
    }

    /// Does what the machine says until it waits.
    fn turn(&mut self) {
        loop {
            match self.session.poll_action() {
                Action::Write(bytes) => self.heard.extend(bytes),
                Action::Ask(question) => {
                    let verdict = self.answer(question);
                    self.session.answer(self.now, verdict);
                }
                Action::Body(bytes) => self.body.extend_from_slice(&bytes),
                Action::Aborted => self.forget(),
                Action::StartTls => self.handshake = Handshake::Due,
                Action::Wait { until } => {
                    self.until = Some(until);
                    return;
                }
                Action::Blocked => {
                    self.until = None;
                    return;
                }
                Action::Close => {
                    self.until = None;
                    self.end = End::Closed;
                    return;
                }
            }
        }
    }

    fn forget(&mut self) {
        self.body.clear();
        self.recipients.clear();
    }

    fn answer(&mut self, question: Question) -> Verdict {
        let (stage, subject) = match question {
            Question::Connect { early } => {
                (Stage::Connect, if early { "early" } else { "" }.to_owned())
            }
            Question::Hello { name, .. } => (Stage::Hello, name),
            Question::Mail { path, .. } => (Stage::Mail, path.to_string()),
            Question::Rcpt { path, .. } => {
                let subject = path.to_string();
                let verdict = verdict(self.setup.ruled(Stage::Rcpt, &subject));
                if verdict == Verdict::Accept {
                    self.recipients.push(subject);
                }
                return verdict;
            }
            Question::Data => (Stage::Data, String::new()),
            Question::Message { .. } => return self.message(),
            Question::AuthStart { mechanism, initial } => {
                let Ok(mechanism) = mechanism.parse() else { return refuse_login() };
                let (exchange, step) = Exchange::start(mechanism, initial);
                self.exchange = Some(exchange);
                return self.authenticate(step);
            }
            Question::AuthData(response) => {
                let Some(exchange) = &mut self.exchange else { return refuse_login() };
                let step = exchange.respond(response);
                return self.authenticate(step);
            }
            Question::Xclient(_) => return Verdict::Accept,
        };
        verdict(self.setup.ruled(stage, &subject))
    }

    fn authenticate(&mut self, step: SaslStep) -> Verdict {
        match step {
            SaslStep::Challenge(challenge) => Verdict::Challenge(challenge),
            SaslStep::Check(Claim { user, password }) => {
                verdict(self.setup.login(&user, password.expose()))
            }
            _ => {
                let text = "malformed authentication message";
                Verdict::Reject(Rejection::with(RejectCode::C501, Status::SYNTAX, text))
            }
        }
    }

    fn message(&mut self) -> Verdict {
        let verdict = match self.setup.ruled(Stage::Message, "") {
            Ruled::Accept if self.setup.config.protocol == Protocol::Lmtp => {
                let each = |subject: &String| match self.setup.ruled(Stage::Deliver, subject) {
                    Ruled::Accept => Ok(()),
                    Ruled::Reject(why) | Ruled::Disconnect(why) => Err(why),
                };
                Verdict::PerRecipient(self.recipients.iter().map(each).collect())
            }
            ruled => verdict(ruled),
        };
        let taken = match &verdict {
            Verdict::PerRecipient(each) => each.iter().any(Result::is_ok),
            verdict => *verdict == Verdict::Accept,
        };
        if taken {
            self.kept.push(std::mem::take(&mut self.body));
        }
        self.forget();
        verdict
    }
}

impl Peer for MachinePeer<'_> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
            self.session.handle_bytes(self.now, piece);
            self.turn();
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Said> {
        let Some(end) = self.heard.iter().position(|&octet| octet == b'\n') else {
            return Ok(match self.end {
                End::Open => Said::Nothing,
                End::Closed => Said::Closed,
            });
        };
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        super::wire::line(&line).map(Said::Line)
    }

    async fn handshake(&mut self) -> io::Result<()> {
        match self.handshake {
            Handshake::First => {}
            Handshake::Due => {
                self.session.handle_tls(self.now);
                self.turn();
            }
            Handshake::NotDue => return Err(io::Error::other("no handshake was asked for")),
        }
        self.handshake = Handshake::NotDue;
        Ok(())
    }

    async fn leave(&mut self) -> io::Result<()> {
        self.session.handle_eof();
        self.turn();
        Ok(())
    }

    async fn waits(&mut self) -> io::Result<bool> {
        Ok(self.heard.is_empty() && self.end == End::Open)
    }

    async fn pass(&mut self, time: Duration) {
        let then = self.now + time;
        while let Some(until) = self.until.filter(|until| *until <= then) {
            self.now = self.now.max(until);
            self.session.handle_timeout(self.now);
            self.turn();
        }
        self.now = then;
    }

    fn kept(&mut self) -> Option<Vec<Vec<u8>>> {
        Some(std::mem::take(&mut self.kept))
    }
}

fn verdict(ruled: Ruled) -> Verdict {
    match ruled {
        Ruled::Accept => Verdict::Accept,
        Ruled::Reject(why) => Verdict::Reject(why),
        Ruled::Disconnect(why) => Verdict::Disconnect(why),
    }
}

fn refuse_login() -> Verdict {
    Verdict::Reject(Rejection::transient(Status::SYSTEM, "temporary failure, try again later"))
}
