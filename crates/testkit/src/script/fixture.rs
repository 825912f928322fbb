//! What stands around the driver in a script: policies, users and a spool that obey its rules.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::spool::{
    Change, Changed, Committed, Cursor, Durability, Filter, Lease, Listed, NewMessage, NextHops,
    Parcel, Queued, Settlement, Share, Stats,
};
use merpati_plugin::{
    Account, AuthAnswer, Authenticator, BodySource, Connection, Conversation, Decision, Mechanisms,
    Message, Policy, PolicyFactory, PolicyResult, Spool, SpoolError, SpoolWriter, Transaction,
};
use merpati_types::{MessageId, Recipient, Secret, Severity, Timestamp};

use super::rules::{Ruled, Setup, Stage};

/// The policy that obeys the rules of a script.
pub(super) struct Rules(pub(super) Arc<Setup>);

impl PolicyFactory for Rules {
    fn name(&self) -> &str {
        "script"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl Rules {
    fn say(&self, stage: Stage, subject: &str) -> PolicyResult {
        Ok(match self.0.ruled(stage, subject) {
            Ruled::Accept => Decision::Accept,
            Ruled::Reject(why) => Decision::Reject(why),
            Ruled::Disconnect(why) => Decision::Disconnect(why),
        }
        .into())
    }
}

#[async_trait]
impl Policy for Rules {
    async fn connect(&mut self, conversation: &Conversation) -> PolicyResult {
        self.say(Stage::Connect, if conversation.early_talker { "early" } else { "" })
    }

    async fn hello(&mut self, conversation: &Conversation) -> PolicyResult {
        let name = conversation.hello.as_ref().map_or("", |hello| hello.name.as_str());
        self.say(Stage::Hello, name)
    }

    async fn mail(&mut self, _: &Conversation, transaction: &Transaction) -> PolicyResult {
        self.say(Stage::Mail, &transaction.envelope.sender.to_string())
    }

    async fn rcpt(
        &mut self,
        _: &Conversation,
        _: &Transaction,
        recipient: &Recipient,
    ) -> PolicyResult {
        self.say(Stage::Rcpt, &format!("<{}>", recipient.address))
    }

    async fn data(&mut self, _: &Conversation, _: &Transaction) -> PolicyResult {
        self.say(Stage::Data, "")
    }

    async fn message(
        &mut self,
        _: &Conversation,
        _: &Transaction,
        _: &Message<'_>,
    ) -> PolicyResult {
        self.say(Stage::Message, "")
    }
}

#[async_trait]
impl Authenticator for Rules {
    fn name(&self) -> &str {
        "script"
    }

    fn mechanisms(&self) -> Mechanisms {
        Mechanisms { password: true }
    }

    async fn check_password(&self, user: &str, password: &Secret<String>) -> AuthAnswer {
        match self.0.login(user, password.expose()) {
            Ruled::Accept => {
                AuthAnswer::Account(Account { login: user.to_owned(), addresses: Vec::new() })
            }
            Ruled::Reject(why) | Ruled::Disconnect(why)
                if why.severity() == Severity::Transient =>
            {
                AuthAnswer::Unavailable(why.to_string().into())
            }
            Ruled::Reject(_) | Ruled::Disconnect(_) => AuthAnswer::Refused,
        }
    }
}

/// A spool that takes messages, shows them, and delivers none.
#[derive(Clone, Default)]
pub(super) struct Keep(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    begun: u64,
    messages: Vec<Vec<u8>>,
}

impl Keep {
    /// The messages kept since the last call.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).messages)
    }
}

struct KeepWriter {
    id: MessageId,
    body: BytesMut,
    keep: Keep,
}

#[async_trait]
impl SpoolWriter for KeepWriter {
    fn id(&self) -> MessageId {
        self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), SpoolError> {
        self.body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn written(&mut self) -> Result<Arc<dyn BodySource>, SpoolError> {
        Ok(Arc::new(self.body.clone().freeze()))
    }

    async fn commit(
        self: Box<Self>,
        _: NewMessage,
        _: Durability,
    ) -> Result<Committed, SpoolError> {
        let mut kept = self.keep.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.messages.push(self.body.to_vec());
        Ok(Committed::New)
    }
}

fn not_here<T>() -> Result<T, SpoolError> {
    Err(SpoolError::Unavailable(io::ErrorKind::Unsupported.into()))
}

#[async_trait]
impl Spool for Keep {
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.begun += 1;
        let id = MessageId::from_u64(kept.begun);
        Ok(Box::new(KeepWriter { id, body: BytesMut::new(), keep: self.clone() }))
    }

    async fn message(&self, _: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError> {
        Err(SpoolError::NotFound)
    }

    async fn lease(
        &self,
        _: Timestamp,
        _: Duration,
        _: &NextHops,
        _: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError> {
        not_here()
    }

    async fn renew(&self, _: &Lease, _: Timestamp) -> Result<Lease, SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn release(&self, _: Lease, _: Timestamp) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn attempt(&self, _: &Lease, _: &str) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn settle(&self, _: Lease, _: Settlement) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn wait_due(&self, _: Timestamp) {
        std::future::pending().await
    }

    async fn list(
        &self,
        _: &Filter,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        not_here()
    }

    async fn change(
        &self,
        _: &Filter,
        _: &Change,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Changed, SpoolError> {
        not_here()
    }

    fn queued(&self, _: Share<'_>) -> Queued {
        Queued::default()
    }

    async fn stats(&self) -> Result<Stats, SpoolError> {
        not_here()
    }

    async fn close(&self) {}
}
