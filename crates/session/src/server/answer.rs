//! Answers: what each verdict means for each question.

use std::time::Instant;

use merpati_types::{Rejection, Reply, ReplyCode, Severity, Status};
use merpati_wire::{BdatDecoder, DataDecoder, Last, encode_challenge};

use super::replies::{self, Counts};
use super::state::{AfterDrop, Asked, Chunked, Fate, HelloKind, State, Transaction};
use super::{Action, Channel, Question, Session, Verdict, XclientRight};

impl Session {
    /// Answers the open question. An answer that does not fit it, and an answer to no question,
    /// are the driver's mistake: the peer hears 451, or nothing.
    pub fn answer(&mut self, now: Instant, verdict: Verdict) {
        self.heard = self.heard.max(now);
        let asked = match self.take_state() {
            State::Asked(asked) => asked,
            other => {
                self.state = other;
                return;
            }
        };
        if let Verdict::Disconnect(why) = verdict {
            self.state = State::Asked(asked);
            self.end(&why);
            return;
        }
        match asked {
            Asked::Connect => self.answer_connect(verdict),
            Asked::Hello(kind) => self.answer_hello(kind, verdict),
            Asked::Auth => self.answer_auth(verdict),
            Asked::Mail(transaction) => self.answer_mail(transaction, verdict),
            Asked::Rcpt(transaction) => self.answer_rcpt(transaction, verdict),
            Asked::Data(transaction) => self.answer_data(now, transaction, verdict),
            Asked::FirstChunk { transaction, size, last } => {
                self.answer_first_chunk(now, transaction, size, last, verdict);
            }
            Asked::Message(transaction) => self.answer_message(&transaction, verdict),
            Asked::Xclient => self.answer_xclient(verdict),
        }
    }

    fn answer_connect(&mut self, verdict: Verdict) {
        match refusal(verdict) {
            Ok(text) => {
                let protocol = match self.config.protocol {
                    super::Protocol::Smtp => "ESMTP",
                    super::Protocol::Lmtp => "LMTP",
                };
                let text = text.unwrap_or_default();
                let banner = format!("{} {protocol} {text}", self.config.hostname);
                self.positive(220, None, banner.trim_end());
                self.state = State::Strange;
            }
            Err(why) => {
                // Nothing but QUIT could follow (RFC 5321 §3.1); a close says as much.
                self.forget_input();
                self.reply(&why.to_reply());
                self.state = State::Closing;
            }
        }
    }

    fn answer_hello(&mut self, kind: HelloKind, verdict: Verdict) {
        match refusal(verdict) {
            Ok(_) => {
                let hostname = self.config.hostname.clone();
                match kind {
                    HelloKind::Helo => self.positive(250, None, &hostname),
                    HelloKind::Ehlo | HelloKind::Lhlo => {
                        let encrypted = self.channel == Channel::Encrypted;
                        let mut offered =
                            self.config.capabilities(encrypted, self.authenticated, self.time());
                        if self.start.xclient == XclientRight::Granted {
                            let names = [
                                "NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR",
                                "DESTPORT",
                            ];
                            offered.xclient = names.map(str::to_owned).to_vec();
                        }
                        self.reply(&offered.to_reply(&hostname));
                    }
                }
                self.state = State::Ready;
            }
            Err(why) => {
                self.state = State::Strange;
                self.refuse(&why, Counts::No);
            }
        }
    }

    fn answer_auth(&mut self, verdict: Verdict) {
        self.state = State::Ready;
        if let Verdict::Challenge(challenge) = verdict {
            self.say("334 ");
            self.say(&encode_challenge(&challenge));
            self.say("\r\n");
            self.state = State::Auth;
            return;
        }
        match refusal(verdict) {
            Ok(_) => {
                self.authenticated = true;
                self.say(replies::AUTH_OK);
            }
            // That the back end is away is not the client's mistake.
            Err(why) if why.severity() == Severity::Transient => self.refuse(&why, Counts::No),
            Err(why) => self.refuse(&why, Counts::Error),
        }
    }

    fn answer_mail(&mut self, transaction: Transaction, verdict: Verdict) {
        match refusal(verdict) {
            Ok(text) => {
                self.state = State::Mail(transaction);
                self.accept(replies::SENDER_OK, Status::ADDRESS, text);
            }
            Err(why) => {
                self.state = State::Ready;
                self.actions.push_back(Action::Aborted);
                self.refuse(&why, Counts::No);
            }
        }
    }

    fn answer_rcpt(&mut self, mut transaction: Transaction, verdict: Verdict) {
        match refusal(verdict) {
            Ok(text) => {
                transaction.accepted += 1;
                self.state = State::Mail(transaction);
                self.accept(replies::RECIPIENT_OK, Status::RECIPIENT_OK, text);
            }
            Err(why) => {
                transaction.refused += 1;
                self.state = State::Mail(transaction);
                self.refused_recipients += 1;
                if self.refused_recipients >= self.config.limits.refused_recipients {
                    self.end(&replies::closing(Status::SECURITY, "too many refused recipients"));
                    return;
                }
                self.refuse(&why, Counts::No);
            }
        }
    }

    fn answer_data(&mut self, now: Instant, transaction: Transaction, verdict: Verdict) {
        match refusal(verdict) {
            Ok(_) => {
                self.say(replies::GO_DATA);
                let until = now + self.config.limits.body;
                let decoder = DataDecoder::new();
                self.state = State::Data { transaction, decoder, fate: Fate::Keep, until };
            }
            Err(why) => {
                self.state = State::Ready;
                self.actions.push_back(Action::Aborted);
                self.refuse(&why, Counts::No);
            }
        }
    }

    fn answer_first_chunk(
        &mut self,
        now: Instant,
        transaction: Transaction,
        size: u64,
        last: Last,
        verdict: Verdict,
    ) {
        match refusal(verdict) {
            Ok(_) => {
                let mut decoder = match transaction.body {
                    merpati_types::BodyType::BinaryMime => BdatDecoder::binary(),
                    _ => BdatDecoder::text(),
                };
                decoder.start_chunk(size);
                let until = now + self.config.limits.body;
                let message = Chunked { transaction, decoder, fate: Fate::Keep, until };
                self.state = State::Chunk { message, last };
            }
            Err(why) => {
                self.actions.push_back(Action::Aborted);
                let then = match last {
                    Last::Yes => AfterDrop::Ready,
                    Last::No => AfterDrop::Spoiled,
                };
                self.drop_chunk(size, why, Counts::No, then);
            }
        }
    }

    fn answer_message(&mut self, transaction: &Transaction, verdict: Verdict) {
        if let Verdict::PerRecipient(ref results) = verdict
            && self.config.protocol == super::Protocol::Lmtp
        {
            self.answer_each(transaction, results);
            return;
        }
        match refusal(verdict) {
            Ok(text) => {
                self.state = State::Ready;
                for _ in 0..self.replies_to_message(transaction) {
                    self.accept(replies::MESSAGE_OK, Status::UNDEFINED, text.clone());
                }
            }
            Err(why) => {
                self.actions.push_back(Action::Aborted);
                self.refuse_message(transaction, &why);
            }
        }
    }

    fn answer_each(&mut self, transaction: &Transaction, results: &[Result<(), Rejection>]) {
        self.state = State::Ready;
        if results.iter().all(Result::is_err) {
            self.actions.push_back(Action::Aborted);
        }
        let mut results = results.iter();
        for _ in 0..self.replies_to_message(transaction) {
            match results.next() {
                Some(Ok(())) => self.say(replies::MESSAGE_OK),
                Some(Err(why)) => self.refuse(why, Counts::No),
                None => self.refuse(&replies::confused(), Counts::No),
            }
        }
    }

    fn answer_xclient(&mut self, verdict: Verdict) {
        match refusal(verdict) {
            Ok(_) => {
                // The peer is another one now: greeting and policies begin anew.
                self.authenticated = false;
                self.ask(Asked::Connect, Question::Connect { early: false });
            }
            Err(why) => {
                self.state = State::Strange;
                self.refuse(&why, Counts::Error);
            }
        }
    }

    /// The customary reply, or 250 with a text of the driver's.
    fn accept(&mut self, customary: &str, status: Status, text: Option<String>) {
        match text {
            Some(text) => self.positive(250, Some(status), &text),
            None => self.say(customary),
        }
    }

    fn positive(&mut self, code: u16, status: Option<Status>, text: &str) {
        let code = ReplyCode::new(code).expect("the codes are constants in range");
        self.reply(&Reply::new(code, status.map(Status::success), text));
    }
}

/// The text of a yes, or the refusal.
fn refusal(verdict: Verdict) -> Result<Option<String>, Rejection> {
    match verdict {
        Verdict::Accept => Ok(None),
        Verdict::AcceptWith(text) => Ok(Some(text)),
        Verdict::Reject(why) | Verdict::Disconnect(why) => Err(why),
        Verdict::Challenge(_) | Verdict::PerRecipient(_) => Err(replies::confused()),
    }
}
