//! Command lines: what each means in each state.

use merpati_types::{BodyType, ForwardPath, Rejection, ReversePath};
use merpati_wire::{
    AuthResponse, Command, CommandError, HelloName, Last, MailParams, RcptParams, Xclient,
};

use super::replies::{self, Counts};
use super::state::{AfterDrop, Asked, HelloKind, State, Transaction};
use super::{Action, Auth, Channel, Protocol, Question, Session, StartTls, XclientRight};

impl Session {
    pub(super) fn handle_line(&mut self, line: &[u8]) {
        match Command::parse(line) {
            Ok(command) => self.handle_command(command),
            Err(CommandError::HttpVerb) => {
                // What follows are header fields and a body of an attacker's choice.
                self.forget_input();
                self.end(&replies::closing(
                    merpati_types::Status::SECURITY,
                    "this is a mail server",
                ));
            }
            Err(error) => {
                let why = replies::command(&error).unwrap_or_else(replies::unknown_command);
                self.refuse(&why, Counts::Error);
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Ehlo(name) => self.hello(HelloKind::Ehlo, Protocol::Smtp, &name),
            Command::Helo(name) => self.hello(HelloKind::Helo, Protocol::Smtp, &name),
            Command::Lhlo(name) => self.hello(HelloKind::Lhlo, Protocol::Lmtp, &name),
            Command::Mail { path, params } => self.mail(path, params),
            Command::Rcpt { path, params } => self.rcpt(path, params),
            Command::Data => self.data(),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Rset => {
                self.abort();
                if !matches!(self.state, State::Strange) {
                    self.state = State::Ready;
                }
                self.say(replies::RESET);
            }
            Command::Noop => self.say(replies::NOOP),
            Command::Vrfy(_) => self.say(replies::VRFY),
            Command::Expn(_) => self.refuse(&replies::not_implemented(), Counts::No),
            Command::Help(_) => self.say(replies::HELP),
            Command::Quit => {
                self.abort();
                self.say(replies::QUIT);
                self.state = State::Closing;
            }
            Command::StartTls => self.starttls(),
            Command::Auth { mechanism, initial } => {
                self.auth(mechanism, initial.map(|initial| initial.into_bytes()));
            }
            Command::Xclient(attributes) => self.xclient(attributes),
            // XFORWARD, and what the codec may learn later: not offered.
            _ => self.refuse(&replies::not_implemented(), Counts::Error),
        }
    }

    fn hello(&mut self, kind: HelloKind, protocol: Protocol, name: &HelloName) {
        if protocol != self.config.protocol {
            self.refuse(&replies::unknown_command(), Counts::Error);
            return;
        }
        self.abort();
        let question = Question::Hello { kind, name: name.as_str().to_owned() };
        self.ask(Asked::Hello(kind), question);
    }

    fn mail(&mut self, path: ReversePath, params: MailParams) {
        if let Err((why, counts)) = self.check_mail(&params) {
            self.refuse(&why, counts);
            return;
        }
        self.transactions += 1;
        let transaction = Transaction {
            body: params.body.unwrap_or_default(),
            smtputf8: params.smtputf8,
            accepted: 0,
            refused: 0,
        };
        self.ask(Asked::Mail(transaction), Question::Mail { path, params });
    }

    fn check_mail(&self, params: &MailParams) -> Result<(), (Rejection, Counts)> {
        match self.state {
            State::Ready => {}
            State::Strange => return Err((replies::sequence("say hello first"), Counts::Error)),
            _ => return Err((replies::sequence("a transaction is open"), Counts::Error)),
        }
        let plain = self.channel == Channel::Plain;
        if plain && self.config.starttls == StartTls::Required {
            return Err((replies::tls_needed(), Counts::Error));
        }
        if self.config.auth == Auth::Required && !self.authenticated {
            return Err((replies::auth_needed(), Counts::Error));
        }
        if params.requiretls && (plain || self.config.protocol == Protocol::Lmtp) {
            return Err((replies::parameter_not_offered("REQUIRETLS"), Counts::Error));
        }
        if params.auth.is_some() && self.config.mechanisms.is_empty() {
            return Err((replies::parameter_not_offered("AUTH"), Counts::Error));
        }
        self.check_schedule(params)?;
        if params.size.is_some_and(|size| size > self.config.limits.message) {
            return Err((replies::too_big(), Counts::No));
        }
        if self.transactions >= self.config.limits.transactions {
            return Err((replies::too_many_transactions(), Counts::No));
        }
        Ok(())
    }

    fn rcpt(&mut self, path: ForwardPath, params: RcptParams) {
        let State::Mail(transaction) = &self.state else {
            self.refuse(&replies::sequence("MAIL first"), Counts::Error);
            return;
        };
        let foreign = path.mailbox().is_some_and(merpati_types::Mailbox::is_internationalized);
        if foreign && !transaction.smtputf8 {
            self.refuse(&replies::utf8_address(), Counts::Error);
            return;
        }
        if transaction.accepted >= self.config.limits.recipients {
            self.refuse(&replies::too_many_recipients(), Counts::No);
            return;
        }
        if let State::Mail(transaction) = self.take_state() {
            self.ask(Asked::Rcpt(transaction), Question::Rcpt { path, params });
        }
    }

    fn data(&mut self) {
        match &self.state {
            State::Mail(transaction) if transaction.accepted == 0 => {
                let (why, counts) = no_recipients(transaction);
                self.refuse(&why, counts);
            }
            State::Mail(transaction) if transaction.body == BodyType::BinaryMime => {
                // RFC 3030 §3: BINARYMIME travels by BDAT only.
                self.refuse(&replies::sequence("BODY=BINARYMIME needs BDAT"), Counts::Error);
            }
            State::Mail(_) => {
                if let State::Mail(transaction) = self.take_state() {
                    self.ask(Asked::Data(transaction), Question::Data);
                }
            }
            _ => self.refuse(&replies::sequence("MAIL and RCPT first"), Counts::Error),
        }
    }

    fn bdat(&mut self, size: u64, last: Last) {
        if size > self.config.limits.message.saturating_mul(2) {
            // Reading on would cost more than the peer is worth; stopping short would turn the
            // chunk into commands.
            self.forget_input();
            self.abort();
            self.reply(&replies::too_big().to_reply());
            self.state = State::Closing;
            return;
        }
        match self.take_state() {
            State::Mail(transaction) if transaction.accepted > 0 => {
                self.ask(Asked::FirstChunk { transaction, size, last }, Question::Data);
            }
            State::BetweenChunks(mut message) => {
                message.decoder.start_chunk(size);
                self.state = State::Chunk { message, last };
            }
            State::Mail(transaction) => {
                let (why, counts) = no_recipients(&transaction);
                let then = match last {
                    Last::Yes => AfterDrop::Mail(transaction),
                    // The rest of a message whose beginning is lost must not pass for a message.
                    Last::No => {
                        self.actions.push_back(Action::Aborted);
                        AfterDrop::Spoiled
                    }
                };
                self.drop_chunk(size, why, counts, then);
            }
            State::Spoiled => {
                let why = replies::sequence("an earlier chunk was refused; RSET first");
                self.drop_chunk(size, why, Counts::Error, AfterDrop::Spoiled);
            }
            State::Strange => {
                let why = replies::sequence("say hello first");
                self.drop_chunk(size, why, Counts::Error, AfterDrop::Strange);
            }
            _ => {
                let why = replies::sequence("MAIL and RCPT first");
                self.drop_chunk(size, why, Counts::Error, AfterDrop::Ready);
            }
        }
    }

    fn starttls(&mut self) {
        if self.config.starttls == StartTls::Absent {
            self.refuse(&replies::not_implemented(), Counts::Error);
        } else if self.channel == Channel::Encrypted {
            self.refuse(&replies::sequence("TLS is on already"), Counts::Error);
        } else if !matches!(self.state, State::Ready | State::Strange) {
            self.refuse(&replies::sequence("a transaction is open"), Counts::Error);
        } else if !self.input.is_empty() {
            // Somebody may have put these bytes there to be read as if they were encrypted.
            self.forget_input();
            self.refuse(&replies::bytes_behind_starttls(), Counts::Error);
        } else {
            self.say(replies::GO_TLS);
            self.state = State::StartingTls;
        }
    }

    fn auth(&mut self, mechanism: String, initial: Option<Vec<u8>>) {
        let why = match self.state {
            State::Ready if self.authenticated => replies::sequence("already authenticated"),
            State::Ready
                if self.channel == Channel::Plain && !self.config.mechanisms.is_empty() =>
            {
                replies::tls_needed()
            }
            State::Ready if self.config.mechanisms.is_empty() => replies::not_implemented(),
            State::Ready if !self.config.mechanisms.contains(&mechanism) => {
                replies::unknown_mechanism()
            }
            State::Ready => {
                self.ask(Asked::Auth, Question::AuthStart { mechanism, initial });
                return;
            }
            State::Strange => replies::sequence("say hello first"),
            _ => replies::sequence("a transaction is open"),
        };
        self.refuse(&why, Counts::Error);
    }

    /// A line of an exchange: what follows a 334.
    pub(super) fn handle_auth_line(&mut self, line: &[u8]) {
        match AuthResponse::parse(line) {
            Ok(AuthResponse::Data(data)) => self.ask(Asked::Auth, Question::AuthData(data)),
            Ok(AuthResponse::Cancelled) => {
                self.state = State::Ready;
                self.refuse(&replies::auth_cancelled(), Counts::Error);
            }
            Err(error) => {
                self.state = State::Ready;
                self.refuse(&replies::auth_line(error), Counts::Error);
            }
        }
    }

    fn xclient(&mut self, attributes: Xclient) {
        if self.start.xclient == XclientRight::Refused {
            self.refuse(&replies::not_implemented(), Counts::Error);
        } else if !matches!(self.state, State::Ready | State::Strange) {
            self.refuse(&replies::sequence("a transaction is open"), Counts::Error);
        } else {
            self.ask(Asked::Xclient, Question::Xclient(attributes));
        }
    }
}

/// A client that pipelines cannot know yet that all its recipients were refused.
fn no_recipients(transaction: &Transaction) -> (Rejection, Counts) {
    if transaction.refused == 0 {
        (replies::sequence("RCPT first"), Counts::Error)
    } else {
        (replies::no_recipients(), Counts::No)
    }
}
