//! Replies: what each means for what was asked.

use merpati_types::{Reply, ReplyCode};
use merpati_wire::{Capabilities, Command, DataEncoder, HelloName, decode_challenge};

use super::transaction::{Fate, Outcome, Stage};
use super::{Client, ClientAction, Encoder, Event, Expect, Flow, Loss, Protocol, Tls, Transaction};

/// The server goes away (RFC 5321 §3.8); what was asked before stays open.
const GOING: Option<ReplyCode> = ReplyCode::new(421);
const GO_ON: Option<ReplyCode> = ReplyCode::new(354);
const CHALLENGE: Option<ReplyCode> = ReplyCode::new(334);

impl Client {
    pub(super) fn handle_reply(&mut self, reply: Reply) {
        let Some(expect) = self.expected.pop_front() else {
            // A word of farewell between transactions is a time-out of the server's.
            let why = if reply.severity().is_some() { Loss::Refused(reply) } else { Loss::Unasked };
            self.lose(why);
            return;
        };
        if Some(reply.code()) == GOING && expect != Expect::Quit {
            self.lose(Loss::Refused(reply));
            return;
        }
        let positive = reply.code().is_positive();
        match expect {
            Expect::Greeting if positive => self.say_hello(),
            Expect::Greeting => self.lose(Loss::Refused(reply)),
            Expect::Hello if positive => self.hello_accepted(&reply),
            Expect::Hello if self.config.protocol == Protocol::Smtp => self.say_helo(),
            Expect::Helo if positive => self.hello_accepted(&reply),
            Expect::Hello | Expect::Helo => self.lose(Loss::Refused(reply)),
            Expect::StartTls => self.starttls_answered(positive),
            Expect::Auth => self.auth_answered(reply),
            Expect::Mail => self.mail_answered(reply),
            Expect::Rcpt(index) => self.rcpt_answered(index, reply),
            Expect::Data => self.data_answered(reply),
            Expect::Message(about) => self.message_answered(about, reply),
            Expect::Rset => self.settle_if_done(),
            Expect::Quit => self.close(),
        }
    }

    fn say_helo(&mut self) {
        let name = HelloName::new(&self.config.hello)
            .or_else(|| HelloName::new("[127.0.0.1]"))
            .expect("an address literal is a name");
        self.command(&Command::Helo(name), Expect::Helo);
    }

    fn hello_accepted(&mut self, reply: &Reply) {
        self.offered = Capabilities::from_reply(reply);
        let words = reply.lines().first().map(|line| line.split(' '));
        self.server_name = words.and_then(|mut words| words.next()).unwrap_or_default().to_owned();
        let wants = !self.encrypted && self.config.tls != Tls::Never;
        if wants && self.offered.starttls {
            self.command(&Command::StartTls, Expect::StartTls);
        } else if wants && self.config.tls == Tls::Required {
            self.lose(Loss::NoTls);
        } else {
            self.ready();
        }
    }

    fn starttls_answered(&mut self, positive: bool) {
        if positive {
            // What came in the clear behind the reply would be read as if it were encrypted.
            if self.input.is_empty() {
                self.events.push_back(ClientAction::StartTls);
            } else {
                self.lose(Loss::Injected);
            }
        } else if self.config.tls == Tls::Required {
            self.lose(Loss::NoTls);
        } else {
            self.ready();
        }
    }

    fn auth_answered(&mut self, reply: Reply) {
        if Some(reply.code()) == CHALLENGE {
            match decode_challenge(&reply.lines().concat()) {
                Ok(challenge) => {
                    self.events.push_back(ClientAction::Event(Event::Challenge(challenge)));
                }
                Err(_) => self.cancel(self.heard),
            }
        } else if reply.code().is_positive() {
            self.ready();
        } else {
            self.events.push_back(ClientAction::Event(Event::AuthRefused(reply)));
        }
    }

    fn ready(&mut self) {
        let offered = Box::new(self.offered.clone());
        self.events.push_back(ClientAction::Event(Event::Ready(offered)));
    }

    fn mail_answered(&mut self, reply: Reply) {
        let Some(transaction) = &mut self.transaction else { return };
        if !reply.code().is_positive() {
            transaction.closed = true;
            transaction.refuse_open(Stage::Mail, &reply);
            // Recipients not named yet need not be.
            if let Flow::Envelope { next } = &mut self.flow {
                let unsent = transaction.outgoing.recipients.len() - *next;
                transaction.unanswered -= unsent;
                self.flow = Flow::AwaitReplies;
            }
        }
        self.send_ahead();
        self.settle_if_done();
    }

    fn rcpt_answered(&mut self, index: usize, reply: Reply) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.unanswered -= 1;
        // When MAIL was refused, what is said of a recipient is but an echo.
        if matches!(transaction.fates[index], Fate::Asked) {
            transaction.fates[index] = if reply.code().is_positive() {
                Fate::Taken
            } else {
                Fate::Settled(Outcome::Refused { stage: Stage::Rcpt, reply })
            };
        }
        self.expect_refused_chunk();
        self.skip_refused();
        self.send_ahead();
        self.settle_if_done();
    }

    fn data_answered(&mut self, reply: Reply) {
        let Some(transaction) = &mut self.transaction else { return };
        if Some(reply.code()) == GO_ON {
            if transaction.fates.iter().any(Fate::is_open) {
                self.flow = Flow::Body(Encoder::Data(DataEncoder::new()));
            } else {
                // Everybody was refused, and the server waits for a message all the same
                // (RFC 2920 §3.1): an empty one, whose reply means nothing.
                self.out.extend_from_slice(b".\r\n");
                self.expected.push_back(Expect::Message(None));
                self.flow = Flow::AwaitReplies;
            }
        } else {
            transaction.refuse_open(Stage::Data, &reply);
            self.flow = Flow::AwaitReplies;
            self.settle_if_done();
        }
    }

    fn message_answered(&mut self, about: Option<usize>, reply: Reply) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.closed |= reply.code().is_positive();
        let settled = |reply: Reply| {
            if reply.code().is_positive() {
                Outcome::Accepted(reply)
            } else {
                Outcome::Refused { stage: Stage::Message, reply }
            }
        };
        match about {
            Some(index) => {
                if let Some(fate) = transaction.fates.get_mut(index).filter(|fate| fate.is_open()) {
                    *fate = Fate::Settled(settled(reply));
                }
            }
            None => {
                for fate in transaction.fates.iter_mut().filter(|fate| fate.is_open()) {
                    *fate = Fate::Settled(settled(reply.clone()));
                }
            }
        }
        self.skip_refused();
        self.settle_if_done();
    }

    /// Over LMTP the server answers for accepted recipients only (RFC 2033 §4.2).
    pub(super) fn skip_refused(&mut self) {
        let Some(transaction) = &self.transaction else { return };
        if transaction.unanswered > 0 {
            return;
        }
        while let Some(Expect::Message(Some(index))) = self.expected.front() {
            if transaction.fates.get(*index).is_some_and(Fate::is_open) {
                break;
            }
            self.expected.pop_front();
        }
    }

    /// A chunk that is on its way although everybody was refused is refused itself, once, also
    /// over LMTP: there is nobody to answer for (RFC 3030 §2).
    fn expect_refused_chunk(&mut self) {
        let Some(transaction) = &self.transaction else { return };
        if transaction.unanswered > 0 || transaction.fates.iter().any(Fate::is_open) {
            return;
        }
        let sent = self.expected.len();
        self.expected.retain(|expect| !matches!(expect, Expect::Message(Some(_))));
        if self.expected.len() < sent {
            self.expected.push_back(Expect::Message(None));
        }
    }

    /// Tells the outcome once every reply is here, and the message is not under way.
    pub(super) fn settle_if_done(&mut self) {
        let waiting = !matches!(self.flow, Flow::AwaitReplies) || !self.expected.is_empty();
        let Some(transaction) = self.transaction.take_if(|_| !waiting) else { return };
        if !transaction.closed {
            // A refused BDAT leaves the transaction open (RFC 3030 §2), and so do refused
            // recipients: the next message must not be taken for a part of this one.
            self.command(&Command::Rset, Expect::Rset);
            self.transaction = Some(Transaction { closed: true, ..transaction });
            return;
        }
        self.flow = Flow::Idle;
        let outcome = |fate| match fate {
            Fate::Settled(outcome) => Some(outcome),
            Fate::Asked | Fate::Taken => None,
        };
        let outcomes: Vec<_> = transaction.fates.into_iter().filter_map(outcome).collect();
        self.events.push_back(ClientAction::Event(Event::Finished(outcomes)));
    }
}

impl Fate {
    /// Whether the reply to the message will decide about it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Asked | Self::Taken)
    }
}

impl Transaction {
    fn refuse_open(&mut self, stage: Stage, reply: &Reply) {
        for fate in self.fates.iter_mut().filter(|fate| fate.is_open()) {
            *fate = Fate::Settled(Outcome::Refused { stage, reply: reply.clone() });
        }
    }
}
