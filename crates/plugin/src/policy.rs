//! The policy traits: the stages of an incoming message.

use async_trait::async_trait;
use merpati_types::{MessageId, Recipient};

use crate::connection::{Connection, Conversation};
use crate::decision::{Outcome, PolicyResult};
use crate::facts::FactKind;
use crate::transaction::{Message, Transaction};

/// Makes a [`Policy`] for each connection. One per process and place in the chain.
pub trait PolicyFactory: Send + Sync {
    /// The name that logs, metrics and `explain` show.
    fn name(&self) -> &str;

    /// The facts this policy reads. A chain in which none of the earlier policies provides one
    /// of them is refused when the configuration is checked.
    fn needs(&self) -> &[FactKind] {
        &[]
    }

    /// The facts this policy establishes.
    fn provides(&self) -> &[FactKind] {
        &[]
    }

    /// A fresh policy for a new connection, and again after XCLIENT.
    fn begin(&self, connection: &Connection) -> Box<dyn Policy>;
}

/// Judges one connection. Its state is its fields.
///
/// Stages are asked in the order of the protocol; a stage left out continues.
#[async_trait]
pub trait Policy: Send {
    /// The peer has connected; our greeting is not sent yet.
    async fn connect(&mut self, _conversation: &Conversation) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// The peer has said EHLO, HELO or LHLO; asked again after STARTTLS.
    async fn hello(&mut self, _conversation: &Conversation) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// The peer has proved to be `conversation.account`.
    async fn authenticated(&mut self, _conversation: &Conversation) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// MAIL: the transaction has a sender and no recipients.
    async fn mail(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
    ) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// RCPT: may `recipient` be added to the transaction? If no policy of the chain accepts,
    /// the recipient is refused.
    async fn rcpt(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
        _recipient: &Recipient,
    ) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// DATA or the first BDAT: the recipients are known, the message is not.
    async fn data(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
    ) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// The message is here, and nothing is promised for it yet.
    async fn message(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
        _message: &Message<'_>,
    ) -> PolicyResult {
        Ok(Outcome::CONTINUE)
    }

    /// The transaction ended without a message being kept.
    fn aborted(&mut self) {}

    /// The message is durable under this id.
    fn committed(&mut self, _id: MessageId) {}

    /// The connection is over.
    fn closed(&mut self) {}
}
