//! The server's session machine.
//!
//! Promises, whatever the peer sends and the policies answer: what is written are replies, whole
//! ones; a question is open exactly when the machine is blocked; MAIL, RCPT, DATA and the message
//! are asked in that order; a transaction that was opened is kept or aborted; DATA ends where the
//! naive rule says, and is silent until then; a kept message is the one that was sent, within the
//! limit, with no bare CR or LF unless it is binary; and how the input is cut makes no difference.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use merpati_session::server::{
    Action, Auth, Channel, Limits, Protocol, Question, ServerConfig, Session, Start, StartTls,
    Verdict, XclientRight,
};
use merpati_types::{BodyType, Rejection, Status, Timestamp};
use merpati_wire::{Flaw, ReplyParser};

use crate::data_bdat::{naive, naive_flaws};

/// Octets that steer: the configuration, the size of the pieces, and the answers.
const HEAD: usize = 10;

/// The first ten octets steer, the rest comes from the peer.
pub fn check(data: &[u8]) {
    let Some((head, stream)) = data.split_first_chunk::<HEAD>() else { return };
    let [options, step, answers @ ..] = *head;
    let bytewise = Run::new(options, answers).all(stream, 1);
    // What is pipelined behind STARTTLS is refused, so there the cutting matters.
    if options & STARTTLS == 0 {
        assert_eq!(Run::new(options, answers).all(stream, step), bytewise);
    }
}

const LMTP: u8 = 1;
const STARTTLS: u8 = 2;
const ENCRYPTED: u8 = 4;
const MECHANISMS: u8 = 8;
const XCLIENT: u8 = 16;
const NARROW: u8 = 32;
const STRICT: u8 = 64;

/// What can be seen of a session, however its input was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    written: Vec<u8>,
    questions: Vec<String>,
    messages: Vec<Vec<u8>>,
}

struct Run {
    session: Session,
    now: Instant,
    limit: u64,
    answers: [u8; HEAD - 2],
    answered: usize,
    seen: Seen,
    /// What the replies not yet checked are made of.
    replies: BytesMut,
    fed: Vec<u8>,
    transaction: Option<Transaction>,
    closed: bool,
}

/// What the answers so far mean.
struct Transaction {
    body_type: BodyType,
    recipients: usize,
    body: Vec<u8>,
    /// Where the body begins in what was fed, if it follows DATA.
    data: Option<usize>,
}

impl Run {
    fn new(options: u8, answers: [u8; HEAD - 2]) -> Self {
        let has = |option: u8| options & option != 0;
        let mut limits = Limits::default();
        if has(NARROW) {
            limits = Limits { line: 96, message: 200, recipients: 2, transactions: 3, ..limits };
        }
        let config = ServerConfig {
            hostname: "mx.test".to_owned(),
            protocol: if has(LMTP) { Protocol::Lmtp } else { Protocol::Smtp },
            starttls: match (has(STARTTLS), has(STRICT)) {
                (false, _) => StartTls::Absent,
                (true, false) => StartTls::Offered,
                (true, true) => StartTls::Required,
            },
            auth: if has(MECHANISMS) && has(STRICT) { Auth::Required } else { Auth::Optional },
            mechanisms: if has(MECHANISMS) { vec!["PLAIN".to_owned()] } else { Vec::new() },
            limits: limits.clone(),
            ..ServerConfig::default()
        };
        let start = Start {
            channel: if has(ENCRYPTED) { Channel::Encrypted } else { Channel::Plain },
            xclient: if has(XCLIENT) { XclientRight::Granted } else { XclientRight::Refused },
            time: Timestamp::from_millis(0),
        };
        // The machine knows only differences of time.
        let now = Instant::now();
        Run {
            session: Session::new(now, Arc::new(config), start),
            now,
            limit: limits.message,
            answers,
            answered: 0,
            seen: Seen::default(),
            replies: BytesMut::new(),
            fed: Vec::new(),
            transaction: None,
            closed: false,
        }
    }

    fn all(mut self, stream: &[u8], step: u8) -> Seen {
        self.drain(step);
        for piece in crate::pieces(stream, step) {
            if self.closed {
                break;
            }
            self.now += Duration::from_millis(1);
            self.fed.extend_from_slice(piece);
            self.session.handle_bytes(self.now, piece);
            self.drain(step);
        }
        if !self.closed {
            self.session.handle_eof();
            self.drain(step);
            assert!(self.closed, "open after the peer has gone");
        }
        assert!(self.transaction.is_none(), "a transaction is neither kept nor aborted");
        self.seen
    }

    /// Does what the machine says until it waits.
    fn drain(&mut self, step: u8) {
        let silent = step == 1 && self.in_data();
        let before = self.seen.written.len();
        for _ in 0..100_000 {
            match self.session.poll_action() {
                Action::Write(bytes) => {
                    assert!(!self.closed, "writes after close");
                    self.replies.extend_from_slice(&bytes);
                    self.seen.written.extend_from_slice(&bytes);
                }
                Action::Ask(question) => {
                    let verdict = self.decide(question, step);
                    self.now += Duration::from_millis(1);
                    self.session.answer(self.now, verdict);
                }
                Action::Body(bytes) => {
                    let transaction = self.transaction.as_mut().expect("a transaction for a body");
                    assert!(transaction.recipients > 0);
                    transaction.body.extend_from_slice(&bytes);
                    assert!(transaction.body.len() as u64 <= self.limit);
                }
                Action::Aborted => {
                    assert!(self.transaction.take().is_some(), "nothing to abort");
                }
                Action::StartTls => {
                    self.session.handle_tls(self.now);
                    self.fed.clear();
                }
                Action::Close => {
                    self.closed = true;
                    break;
                }
                Action::Wait { until } => {
                    assert!(until > self.now);
                    break;
                }
                Action::Blocked => panic!("blocked, and nothing was asked"),
            }
        }
        self.check_replies();
        if silent && self.in_data() {
            let said = &self.seen.written[before..];
            assert!(said.is_empty() || self.closed, "{} within a body", said.escape_ascii());
        }
    }

    /// Whether the peer is sending the body that follows DATA, by the naive rule.
    fn in_data(&self) -> bool {
        let start = self.transaction.as_ref().and_then(|transaction| transaction.data);
        start.is_some_and(|start| naive(&self.fed[start..]).is_none())
    }

    fn check_replies(&mut self) {
        let mut parser = ReplyParser::new();
        while let Some(reply) =
            parser.next_reply(&mut self.replies).expect("replies are well-formed")
        {
            assert!(reply.lines().iter().all(|line| !line.chars().any(char::is_control)));
        }
        assert!(self.replies.is_empty() && !parser.is_partial(), "half a reply");
    }

    fn decide(&mut self, question: Question, step: u8) -> Verdict {
        self.seen.questions.push(format!("{question:?}"));
        let choice = self.answers[self.answered % self.answers.len()] % 8;
        self.answered += 1;
        let rejection = match choice {
            7 => Some(Verdict::Disconnect(Rejection::transient(Status::SYSTEM, "good-bye"))),
            6 => Some(Verdict::Reject(Rejection::permanent(Status::POLICY, "no\nnever"))),
            5 => Some(Verdict::Reject(Rejection::transient(Status::SYSTEM, "later"))),
            _ => None,
        };
        let accepted = rejection.is_none();
        match question {
            Question::Mail { params, .. } => {
                assert!(self.transaction.is_none(), "a transaction within a transaction");
                self.transaction = Some(Transaction {
                    body_type: params.body.unwrap_or_default(),
                    recipients: 0,
                    body: Vec::new(),
                    data: None,
                });
            }
            Question::Rcpt { .. } => {
                let transaction = self.transaction.as_mut().expect("RCPT follows MAIL");
                transaction.recipients += usize::from(accepted);
            }
            Question::Data => {
                let fed = self.fed.len();
                let command = self.fed.split_inclusive(|&octet| octet == b'\n').next_back();
                let chunked = command.is_some_and(|line| {
                    line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
                });
                let transaction = self.transaction.as_mut().expect("DATA follows MAIL");
                assert!(transaction.recipients > 0, "DATA without a recipient");
                if accepted && step == 1 && !chunked {
                    transaction.data = Some(fed);
                }
            }
            Question::Message { flaws } => {
                assert!(!flaws.has_bare_line_end());
                let verdict = rejection.unwrap_or(Verdict::Accept);
                return self.message(flaws.first(Flaw::Nul), verdict);
            }
            Question::AuthStart { .. } | Question::AuthData(_) if choice == 3 || choice == 4 => {
                return Verdict::Challenge(b"go on".to_vec());
            }
            _ => {}
        }
        rejection.unwrap_or(if choice == 1 {
            Verdict::AcceptWith("as you like".to_owned())
        } else {
            Verdict::Accept
        })
    }

    /// The message is whole: holds it to what was sent.
    fn message(&mut self, nul: Option<u64>, verdict: Verdict) -> Verdict {
        let transaction = self.transaction.as_ref().expect("a message follows MAIL");
        if let Some(start) = transaction.data {
            let sent = naive(&self.fed[start..]).expect("the body has ended by the naive rule");
            assert_eq!(start + sent.end, self.fed.len(), "the body has ended before");
            assert_eq!(transaction.body, sent.body);
        }
        let [cr, lf, first_nul] = naive_flaws(&transaction.body);
        if transaction.body_type != BodyType::BinaryMime {
            assert_eq!((cr, lf), (None, None), "a bare CR or LF gets in");
            assert_eq!(nul, first_nul);
        }
        self.seen.messages.push(transaction.body.clone());
        if matches!(verdict, Verdict::Accept) {
            self.transaction = None;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that reaches nothing finds nothing.
    #[test]
    fn messages_are_reached() {
        let transaction = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n";
        let stream = format!(
            "EHLO x\r\n{transaction}DATA\r\n..a\r\n.\r\n\
             {transaction}BDAT 2\r\nb\rBDAT 1 LAST\r\n\n{transaction}DATA\r\nc\n.\r\n.\r\n"
        );
        for step in [0, 1, 7] {
            let seen = Run::new(0, [0; HEAD - 2]).all(stream.as_bytes(), step);
            assert_eq!(seen.messages, [b".a\r\n".to_vec(), b"b\r\n".to_vec()]);
            assert_eq!(seen.questions.len(), 2 + 4 + 4 + 3);
        }
    }
}
