#![doc = include_str!("../docs/quota.md")]

use std::fmt;
use std::sync::{Arc, OnceLock};

use merpati_plugin::spool::{NextHop, Queued, Share};
use merpati_plugin::{
    Connection, Conversation, Decision, Failure, Message, Outcome, Policy, PolicyFactory,
    PolicyResult, Transaction, async_trait,
};
use merpati_types::{Recipient, RejectCode, Rejection, Status};

/// The most that a part of the queue may have. By default there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Messages.
    pub messages: Option<u64>,
    /// Octets of messages, as received.
    pub bytes: Option<u64>,
}

impl Bound {
    /// Whether there is no bound.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.messages.is_none() && self.bytes.is_none()
    }

    /// Whether one more message, of `size` octets as far as known, would exceed it.
    fn is_exceeded(&self, queued: Queued, size: u64) -> bool {
        let messages = self.messages.is_some_and(|most| queued.messages >= most);
        // What is full is full for messages of unknown size too.
        let size = size.max(1);
        messages || self.bytes.is_some_and(|most| queued.bytes.saturating_add(size) > most)
    }
}

/// What is said when the whole queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// 452: the session goes on.
    #[default]
    Defer,
    /// 421: the session ends.
    Close,
}

/// The bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaConfig {
    /// Of everything in the queue.
    pub whole: Bound,
    /// Of what an account has sent.
    pub account: Bound,
    /// Of what has one reverse path.
    pub sender: Bound,
    /// Of what has a reverse path in one domain.
    pub sender_domain: Bound,
    /// Of what has recipients in one domain.
    pub recipient_domain: Bound,
    /// What is said past the bound of the whole.
    pub when_full: WhenFull,
}

impl QuotaConfig {
    /// Whether nothing is bounded by it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { whole, account, sender, sender_domain, recipient_domain, when_full: _ } = self;
        [whole, account, sender, sender_domain, recipient_domain].into_iter().all(Bound::is_none)
    }
}

/// Tells how much is queued, once there is a queue to ask: policies are made before the queue is
/// opened. Clones share what they are connected to.
#[derive(Clone, Default)]
pub struct Usage(Arc<Counted>);

#[derive(Default)]
struct Counted {
    count: OnceLock<Count>,
    /// The bound of everything, if a policy has one.
    whole: OnceLock<Bound>,
}

type Count = Box<dyn Fn(Share<'_>) -> Queued + Send + Sync>;

impl Usage {
    /// Asks `count` from now on. Only the first one given is ever asked.
    pub fn connect(&self, count: impl Fn(Share<'_>) -> Queued + Send + Sync + 'static) {
        // A second one would be the same queue.
        let _ = self.0.count.set(Box::new(count));
    }

    /// Whether a policy refuses all mail, because the whole queue is at its bound.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let whole = self.0.whole.get();
        whole.is_some_and(|bound| self.of(Share::Whole).is_ok_and(|q| bound.is_exceeded(q, 0)))
    }

    fn of(&self, share: Share<'_>) -> Result<Queued, Failure> {
        let count = self.0.count.get().ok_or_else(|| Failure::from(NoQueue))?;
        Ok(count(share))
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Usage").field(&self.0.count.get().is_some()).finish()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("there is no queue to ask yet")]
struct NoQueue;

/// Refuses what would exceed a bound.
#[derive(Clone, Debug)]
pub struct Quota {
    config: QuotaConfig,
    usage: Usage,
}

impl Quota {
    /// With these bounds on what `usage` counts.
    #[must_use]
    pub fn new(config: QuotaConfig, usage: Usage) -> Self {
        if !config.whole.is_none() {
            // Of two policies with such a bound, the first one is told of.
            let _ = usage.0.whole.set(config.whole);
        }
        Self { config, usage }
    }

    /// Checks all that is known before there is a recipient.
    fn check(
        &self,
        conversation: &Conversation,
        transaction: &Transaction,
        size: u64,
    ) -> PolicyResult {
        let config = &self.config;
        if self.exceeds(&config.whole, || Share::Whole, size)? {
            return Ok(self.full().into());
        }
        if let Some(account) = &conversation.account
            && self.exceeds(&config.account, || Share::Account(&account.login), size)?
        {
            return Ok(much("this account").into());
        }
        let Some(sender) = transaction.envelope.sender.mailbox() else {
            return Ok(Outcome::CONTINUE);
        };
        if !config.sender.is_none() {
            let address = sender.to_string();
            if self.exceeds(&config.sender, || Share::Sender(&address), size)? {
                return Ok(much("this sender").into());
            }
        }
        if !config.sender_domain.is_none() {
            let domain = NextHop::of(sender);
            let share = || Share::SenderDomain(domain.as_str());
            if self.exceeds(&config.sender_domain, share, size)? {
                return Ok(much("this sender's domain").into());
            }
        }
        Ok(Outcome::CONTINUE)
    }

    fn exceeds<'a>(
        &self,
        bound: &Bound,
        share: impl FnOnce() -> Share<'a>,
        size: u64,
    ) -> Result<bool, Failure> {
        if bound.is_none() {
            return Ok(false);
        }
        Ok(bound.is_exceeded(self.usage.of(share())?, size))
    }

    fn full(&self) -> Decision {
        let text = "the queue is full, try again later";
        match self.config.when_full {
            WhenFull::Defer => {
                Decision::Reject(Rejection::with(RejectCode::C452, Status::FULL, text))
            }
            WhenFull::Close => {
                let status = Status::NOT_ACCEPTING;
                Decision::Disconnect(Rejection::with(RejectCode::C421, status, text))
            }
        }
    }
}

fn much(whose: &str) -> Decision {
    let text = format!("too much mail of {whose} is queued, try again later");
    Decision::Reject(Rejection::with(RejectCode::C452, Status::MAILBOX_FULL, &text))
}

impl PolicyFactory for Quota {
    fn name(&self) -> &str {
        "quota"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Policy for Quota {
    async fn mail(
        &mut self,
        conversation: &Conversation,
        transaction: &Transaction,
    ) -> PolicyResult {
        self.check(conversation, transaction, transaction.declared_size.unwrap_or_default())
    }

    async fn rcpt(
        &mut self,
        _conversation: &Conversation,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> PolicyResult {
        let bound = &self.config.recipient_domain;
        if bound.is_none() {
            return Ok(Outcome::CONTINUE);
        }
        let hop = NextHop::of(&recipient.address);
        let size = transaction.declared_size.unwrap_or_default();
        if self.exceeds(bound, || Share::NextHop(&hop), size)? {
            let text = "too much mail for this domain is queued, try again later";
            let status = Status::MAILBOX_FULL;
            return Ok(Rejection::with(RejectCode::C452, status, text).into());
        }
        Ok(Outcome::CONTINUE)
    }

    async fn message(
        &mut self,
        conversation: &Conversation,
        transaction: &Transaction,
        message: &Message<'_>,
    ) -> PolicyResult {
        let size = message.source.size();
        if transaction.declared_size.is_some_and(|declared| declared >= size) {
            return Ok(Outcome::CONTINUE);
        }
        self.check(conversation, transaction, size)
    }
}

#[cfg(test)]
mod tests;
