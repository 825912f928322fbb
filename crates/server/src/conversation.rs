//! Answers the session's questions: asks the chain, the authenticator and the spool.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use merpati_plugin::observer::Stage;
use merpati_plugin::spool::{Committed, DeliverBy, LISTENER_TAG, NewMessage, Origin};
use merpati_plugin::{
    Account, AuthAnswer, ChainSession, Connection, Conversation, Event, Hello, Message, Ruling,
    SpoolWriter, TlsFacts, Transaction,
};
use merpati_sasl::server::{Claim, Exchange, ExchangeError, Step};
use merpati_session::server::{HelloKind, Question, Verdict};
use merpati_types::{
    Envelope, ForwardPath, HeaderSection, Host, LocalPart, Mailbox, MessageId, Recipient,
    Rejection, ReversePath,
};
use merpati_wire::{Attribute, Hold, MailParams, RcptParams, Xclient};

use crate::received;
use crate::repeat::Fingerprint;
use crate::service::{Repeats, Service};
use crate::verdicts;

/// One peer, and what is being done for it.
pub(crate) struct Answerer {
    service: Arc<Service>,
    pub(crate) conversation: Conversation,
    policies: ChainSession,
    mail: Mail,
    exchange: Option<(Exchange, String)>,
    pub(crate) messages: u64,
    /// What was accepted last, until the peer is heard from again.
    unheard: Option<MessageId>,
}

/// The transaction in hand.
enum Mail {
    None,
    Open(Box<OpenMail>),
}

struct OpenMail {
    transaction: Transaction,
    began: Instant,
    /// A policy wants the message to vanish.
    discarded: bool,
    writer: Option<Box<dyn SpoolWriter>>,
    /// The beginning of the message, as much as a header section may have.
    head: BytesMut,
    size: u64,
    /// Of the content, while a repetition could be told from a new message.
    fingerprint: Option<Fingerprint>,
    /// As the client said it.
    hold: Option<Hold>,
}

impl Answerer {
    pub(crate) fn new(
        service: Arc<Service>,
        connection: Connection,
        tls: Option<TlsFacts>,
    ) -> Self {
        let policies = service.parts.chain.begin(&connection);
        let mut conversation = Conversation::new(connection);
        conversation.tls = tls;
        service.parts.observers.tell(&Event::Connected { conversation: &conversation });
        Self {
            service,
            conversation,
            policies,
            mail: Mail::None,
            exchange: None,
            messages: 0,
            unheard: None,
        }
    }

    /// The channel is encrypted now; what was said before is forgotten.
    pub(crate) fn encrypted(&mut self, tls: TlsFacts) {
        self.conversation.tls = Some(tls);
        self.conversation.hello = None;
        self.conversation.account = None;
    }

    pub(crate) async fn answer(&mut self, question: Question) -> Verdict {
        match question {
            Question::Connect { early } => {
                self.conversation.early_talker = early;
                let ruling = self.policies.connect(&self.conversation).await;
                self.rule(Stage::Connect, None, ruling)
            }
            Question::Hello { kind, name } => {
                let extended = kind != HelloKind::Helo;
                self.conversation.hello = Some(Hello { name, extended });
                let ruling = self.policies.hello(&self.conversation).await;
                self.rule(Stage::Hello, None, ruling)
            }
            Question::AuthStart { mechanism, initial } => match mechanism.parse() {
                Ok(known) => {
                    let (exchange, step) = Exchange::start(known, initial);
                    self.exchange = Some((exchange, mechanism));
                    self.auth_step(step).await
                }
                Err(_) => Verdict::Reject(verdicts::confused()),
            },
            Question::AuthData(data) => match &mut self.exchange {
                Some((exchange, _)) => {
                    let step = exchange.respond(data);
                    self.auth_step(step).await
                }
                None => Verdict::Reject(verdicts::confused()),
            },
            Question::Mail { path, params } => self.mail(path, params).await,
            Question::Rcpt { path, params } => self.rcpt(path, params).await,
            Question::Data => self.data().await,
            Question::Message { .. } => self.message().await,
            Question::Xclient(attributes) => self.xclient(&attributes),
        }
    }

    /// Takes a piece of the message.
    pub(crate) async fn body(&mut self, bytes: Bytes) -> Result<(), Rejection> {
        let Mail::Open(open) = &mut self.mail else { return Ok(()) };
        let Some(writer) = &mut open.writer else { return Ok(()) };
        open.size += bytes.len() as u64;
        if let Some(fingerprint) = &mut open.fingerprint {
            fingerprint.update(&bytes);
        }
        writer.write(bytes).await.map_err(|error| {
            tracing::error!(id = %writer.id(), %error, "cannot write to the spool");
            verdicts::spool(&error)
        })
    }

    /// The peer has said something after our last reply, so it has seen what it was.
    pub(crate) fn heard(&mut self) {
        if let Some(id) = self.unheard.take() {
            self.service.parts.spool.heard(id);
        }
    }

    /// The transaction is over, and nothing of it is kept.
    pub(crate) fn aborted(&mut self) {
        if matches!(std::mem::replace(&mut self.mail, Mail::None), Mail::Open(_)) {
            self.policies.aborted();
        }
    }

    pub(crate) fn closed(&mut self, lasted: std::time::Duration) {
        self.aborted();
        self.policies.closed();
        self.service.parts.observers.tell(&Event::Disconnected {
            conversation: &self.conversation,
            lasted,
            messages: self.messages,
        });
    }

    fn rule(&self, stage: Stage, subject: Option<&str>, ruling: Ruling) -> Verdict {
        if let Ruling::Refuse(rejection) | Ruling::Disconnect(rejection) = &ruling {
            self.tell_refused(stage, subject, None, rejection);
        }
        verdicts::ruling(ruling)
    }

    fn tell_refused(
        &self,
        stage: Stage,
        subject: Option<&str>,
        id: Option<MessageId>,
        rejection: &Rejection,
    ) {
        let conversation = &self.conversation;
        let event = Event::Refused { conversation, stage, subject, id, rejection };
        self.service.parts.observers.tell(&event);
    }

    async fn auth_step(&mut self, step: Step) -> Verdict {
        match step {
            Step::Challenge(challenge) => Verdict::Challenge(challenge),
            Step::Check(claim) => self.check(claim).await,
            Step::Failed(ExchangeError::OtherIdentity) => Verdict::Reject(verdicts::auth_refused()),
            _ => Verdict::Reject(verdicts::auth_malformed()),
        }
    }

    async fn check(&mut self, claim: Claim) -> Verdict {
        let mechanism = self.exchange.take().map_or_else(String::new, |(_, name)| name);
        let Some(authenticator) = self.service.parts.authenticator.clone() else {
            return Verdict::Reject(verdicts::confused());
        };
        let refused = match authenticator.check_password(&claim.user, &claim.password).await {
            AuthAnswer::Account(account) => return self.admit(account, &mechanism).await,
            AuthAnswer::Refused => verdicts::auth_refused(),
            AuthAnswer::Unavailable(error) => {
                tracing::error!(backend = authenticator.name(), %error, "cannot authenticate");
                verdicts::auth_unavailable()
            }
        };
        self.tell_login(&mechanism, &claim.user, Some(&refused));
        Verdict::Reject(refused)
    }

    async fn admit(&mut self, account: Account, mechanism: &str) -> Verdict {
        let login = account.login.clone();
        self.conversation.account = Some(account);
        let ruling = self.policies.authenticated(&self.conversation).await;
        if !matches!(ruling, Ruling::Proceed) {
            self.conversation.account = None;
        }
        let verdict = self.rule(Stage::Authenticated, Some(&login), ruling);
        if verdict == Verdict::Accept {
            self.tell_login(mechanism, &login, None);
        }
        verdict
    }

    fn tell_login(&self, mechanism: &str, user: &str, refused: Option<&Rejection>) {
        let conversation = &self.conversation;
        let event = Event::Login { conversation, mechanism, user, refused };
        self.service.parts.observers.tell(&event);
    }

    async fn mail(&mut self, path: ReversePath, params: MailParams) -> Verdict {
        let subject = path.to_string();
        let envelope = Envelope {
            ret: params.ret,
            envid: params.envid,
            body: params.body.unwrap_or_default(),
            smtputf8: params.smtputf8,
            requiretls: params.requiretls,
            submitter: params.auth,
            ..Envelope::new(path)
        };
        let mut transaction = Transaction::new(envelope, params.size);
        let now = self.service.parts.clock.now();
        transaction.attributes.not_before = params.hold.map(|hold| hold.end(now));
        transaction.attributes.deliver_by =
            params.by.map(|by| DeliverBy { at: by.deadline(now), mode: by.mode, trace: by.trace });
        transaction.attributes.priority = params.priority.unwrap_or_default().value();
        let ruling = self.policies.mail(&self.conversation, &mut transaction).await;
        let discarded = ruling == Ruling::Discard;
        self.mail = Mail::Open(Box::new(OpenMail {
            transaction,
            began: Instant::now(),
            discarded,
            writer: None,
            head: BytesMut::new(),
            size: 0,
            fingerprint: None,
            hold: params.hold,
        }));
        self.rule(Stage::Mail, Some(&subject), ruling)
    }

    async fn rcpt(&mut self, path: ForwardPath, params: RcptParams) -> Verdict {
        let Mail::Open(open) = &mut self.mail else {
            return Verdict::Reject(verdicts::confused());
        };
        let subject = path.to_string();
        let address = match path {
            ForwardPath::Mailbox(mailbox) => mailbox,
            ForwardPath::Postmaster => postmaster(&self.service),
        };
        let recipient = Recipient { address, notify: params.notify, orcpt: params.orcpt };
        let ruling = self.policies.rcpt(&self.conversation, &mut open.transaction, recipient).await;
        self.rule(Stage::Rcpt, Some(&subject), ruling)
    }

    async fn data(&mut self) -> Verdict {
        let Mail::Open(open) = &mut self.mail else {
            return Verdict::Reject(verdicts::confused());
        };
        let ruling = self.policies.data(&self.conversation, &mut open.transaction).await;
        open.discarded |= ruling == Ruling::Discard;
        if matches!(ruling, Ruling::Proceed | Ruling::Discard) {
            match self.service.parts.spool.begin().await {
                Ok(writer) => {
                    open.writer = Some(writer);
                    if self.service.parts.repeats == Repeats::Sought {
                        open.fingerprint = Some(Fingerprint::new());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot begin a message in the spool");
                    let why = verdicts::spool(&error);
                    self.tell_refused(Stage::Data, None, None, &why);
                    return Verdict::Reject(why);
                }
            }
        }
        self.rule(Stage::Data, None, ruling)
    }

    async fn message(&mut self) -> Verdict {
        let Mail::Open(mut open) = std::mem::replace(&mut self.mail, Mail::None) else {
            return Verdict::Reject(verdicts::confused());
        };
        let Some(mut writer) = open.writer.take() else {
            return Verdict::Reject(verdicts::confused());
        };
        let id = writer.id();
        match self.judge(&mut open, writer.as_mut()).await {
            Ok(Ruling::Proceed)
                if !open.discarded && !open.transaction.envelope.recipients.is_empty() => {}
            // Discarded, or every recipient was dropped or replaced by none.
            Ok(Ruling::Proceed | Ruling::Discard) => {
                let conversation = &self.conversation;
                self.service.parts.observers.tell(&Event::Discarded { conversation, id });
                self.policies.aborted();
                return Verdict::AcceptWith(format!("accepted as {id}"));
            }
            Ok(Ruling::Refuse(why)) => return self.refuse_message(id, why, Verdict::Reject),
            Ok(Ruling::Disconnect(why)) => {
                return self.refuse_message(id, why, Verdict::Disconnect);
            }
            Err(why) => return self.refuse_message(id, why, Verdict::Reject),
        }
        self.commit(*open, writer, id).await
    }

    fn refuse_message(
        &mut self,
        id: MessageId,
        why: Rejection,
        verdict: fn(Rejection) -> Verdict,
    ) -> Verdict {
        self.tell_refused(Stage::Message, None, Some(id), &why);
        self.policies.aborted();
        verdict(why)
    }

    /// Asks the policies about the whole message.
    async fn judge(
        &mut self,
        open: &mut OpenMail,
        writer: &mut dyn SpoolWriter,
    ) -> Result<Ruling, Rejection> {
        let source = writer.written().await.map_err(|error| {
            tracing::error!(id = %writer.id(), %error, "cannot read back from the spool");
            verdicts::spool(&error)
        })?;
        let head = match source.in_memory() {
            Some(all) => all,
            None => read_head(source.as_ref(), &mut open.head).await.map_err(|error| {
                tracing::error!(id = %writer.id(), %error, "cannot read back from the spool");
                verdicts::confused()
            })?,
        };
        let headers = HeaderSection::read(&head).map_err(verdicts::header)?;
        if headers.find("Message-ID").is_none() {
            // Without one, equal messages may well be meant to be two.
            open.fingerprint = None;
        }
        let message = Message { headers: &headers, source: source.as_ref() };
        Ok(self.policies.message(&self.conversation, &mut open.transaction, &message).await)
    }

    /// Makes the message durable. Only after this may anybody hear 250.
    async fn commit(
        &mut self,
        open: OpenMail,
        writer: Box<dyn SpoolWriter>,
        id: MessageId,
    ) -> Verdict {
        let OpenMail { mut transaction, began, size, fingerprint, hold, .. } = open;
        let parts = &self.service.parts;
        let arrived = parts.clock.now();
        let trace = received::field(
            &parts.hostname,
            &self.conversation,
            &transaction,
            id,
            arrived,
            parts.trace_client,
        );
        if let Some(field) = trace {
            transaction.edits.push(field);
        }
        let conversation = &self.conversation;
        let listener = conversation.connection.listener.as_ref();
        transaction.attributes.tags.insert(LISTENER_TAG.to_owned(), listener.to_owned());
        let repeat = fingerprint.map(|content| content.key(conversation, &transaction, hold));
        let message = NewMessage {
            envelope: transaction.envelope,
            edits: transaction.edits,
            attributes: transaction.attributes,
            origin: Origin {
                address: Some(conversation.connection.peer.ip().to_canonical()),
                hello: conversation.hello.as_ref().map(|hello| hello.name.clone()),
                account: conversation.account.as_ref().map(|account| account.login.clone()),
                repeat,
            },
            arrived,
        };
        let noted = message.clone();
        match writer.commit(message, transaction.durability).await {
            Ok(Committed::New) => {}
            Ok(Committed::Repeat(first)) => {
                let event = Event::Repeated { conversation, id: first };
                self.service.parts.observers.tell(&event);
                self.policies.aborted();
                self.unheard = Some(first);
                return Verdict::AcceptWith(format!("queued as {first}"));
            }
            Err(error) => {
                tracing::error!(%id, %error, "cannot commit to the spool");
                return self.refuse_message(id, verdicts::spool(&error), Verdict::Reject);
            }
        }
        self.unheard = repeat.map(|_| id);
        self.messages += 1;
        self.policies.committed(id);
        let conversation = &self.conversation;
        let took = began.elapsed();
        let event = Event::Accepted { conversation, id, message: &noted, size, took };
        self.service.parts.observers.tell(&event);
        Verdict::AcceptWith(format!("queued as {id}"))
    }

    fn xclient(&mut self, attributes: &Xclient) -> Verdict {
        let connection = &mut self.conversation.connection;
        if let Some(Attribute::Known(address)) = &attributes.addr {
            connection.peer.set_ip(*address);
        }
        if let Some(Attribute::Known(port)) = &attributes.port {
            connection.peer.set_port(*port);
        }
        if let Some(Attribute::Known(address)) = &attributes.destaddr {
            connection.local.set_ip(*address);
        }
        if let Some(Attribute::Known(port)) = &attributes.destport {
            connection.local.set_port(*port);
        }
        self.policies.closed();
        self.policies = self.service.parts.chain.begin(connection);
        let mut fresh = Conversation::new(connection.clone());
        fresh.tls = self.conversation.tls.take();
        if let Some(Attribute::Known(login)) = &attributes.login {
            fresh.account = Some(Account { login: login.clone(), addresses: Vec::new() });
        }
        self.conversation = fresh;
        Verdict::Accept
    }
}

/// `<Postmaster>` without a domain is ours (RFC 5321 §4.5.1).
fn postmaster(service: &Service) -> Mailbox {
    let local = LocalPart::from_content("postmaster").expect("it is a valid local part");
    Mailbox::new(local, Host::Domain(service.parts.hostname.clone()))
}

/// Reads as much of a message as a header section may have, and one octet more.
async fn read_head(
    source: &dyn merpati_plugin::BodySource,
    head: &mut BytesMut,
) -> std::io::Result<Bytes> {
    let mut reader = source.open().await?;
    while head.len() <= HeaderSection::OCTET_LIMIT {
        let Some(piece) = reader.next().await? else { break };
        let seam = head.len().saturating_sub(3);
        head.extend_from_slice(&piece);
        // The header section ends at the first empty line.
        if memchr::memmem::find(&head[seam..], b"\r\n\r\n").is_some() || head.starts_with(b"\r\n") {
            break;
        }
    }
    Ok(head.split().freeze())
}
