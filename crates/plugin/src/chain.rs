//! The chain of policies: asks them in order and turns their answers into one ruling.
//!
//! - `Reject`, `Disconnect` and `Discard` end a stage.
//! - At *rcpt*, `Accept` vouches for the recipient and the later policies are still asked; when
//!   all were asked, a recipient nobody vouched for is refused. At other stages `Accept` ends
//!   the stage.
//! - A policy that fails, panics or exceeds its time limit is a `451 4.3.0`, and its text stays
//!   in the log. After a time-out or a panic the policy object is gone: its state may be half
//!   changed, so every later stage of the connection that would ask it answers 451 too.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use merpati_types::{MessageId, Recipient, Rejection, Status};

use crate::connection::{Connection, Conversation};
use crate::decision::{Decision, Effect, Effects, Outcome};
use crate::guard::{Answer, failed, guarded};
use crate::observer::{Event, Observers, Stage, VerdictRecord};
use crate::policy::{Policy, PolicyFactory};
use crate::transaction::{Message, Transaction};

pub use crate::guard::DEFAULT_TIME_LIMIT;

/// A chain that cannot work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A policy needs what no earlier policy provides.
    #[error("policy `{policy}` needs `{fact}`, which no earlier policy provides")]
    Missing {
        /// The place of the policy in the chain, from 0.
        place: usize,
        /// The policy.
        policy: String,
        /// What it needs.
        fact: &'static str,
    },
}

/// What a chain made of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Go on. At *rcpt*: somebody vouched for the recipient.
    Proceed,
    /// Refuse with this reply.
    Refuse(Rejection),
    /// Refuse with this reply and end the session.
    Disconnect(Rejection),
    /// Say 250 and keep nothing.
    Discard,
}

/// The policies of a listener, in order.
#[derive(Clone)]
pub struct Chain {
    links: Arc<[Link]>,
    observers: Observers,
}

struct Link {
    factory: Arc<dyn PolicyFactory>,
    limit: Duration,
}

impl Chain {
    /// A chain of policies, each with its time limit.
    ///
    /// # Errors
    /// [`ChainError::Missing`], when a policy needs a fact too early.
    pub fn new(
        policies: Vec<(Arc<dyn PolicyFactory>, Duration)>,
        observers: Observers,
    ) -> Result<Self, ChainError> {
        for (place, (factory, _)) in policies.iter().enumerate() {
            let earlier = &policies[..place];
            for fact in factory.needs() {
                if !earlier.iter().any(|(provider, _)| provider.provides().contains(fact)) {
                    return Err(ChainError::Missing {
                        place,
                        policy: factory.name().to_owned(),
                        fact: fact.name(),
                    });
                }
            }
        }
        let links = policies.into_iter().map(|(factory, limit)| Link { factory, limit });
        Ok(Self { links: links.collect(), observers })
    }

    /// Fresh policies for a connection.
    #[must_use]
    pub fn begin(&self, connection: &Connection) -> ChainSession {
        let begin = |link: &Link| Some(link.factory.begin(connection));
        ChainSession { policies: self.links.iter().map(begin).collect(), chain: self.clone() }
    }
}

/// The policies of one connection.
pub struct ChainSession {
    chain: Chain,
    /// `None` where the policy has panicked or timed out.
    policies: Vec<Option<Box<dyn Policy>>>,
}

/// Asks every policy in turn and stops at the first that does not continue.
macro_rules! ask_all {
    ($self:ident, $stage:expr, $conversation:expr, $transaction:expr, |$policy:ident| $call:expr) => {{
        for place in 0..$self.policies.len() {
            let Some($policy) = $self.policies[place].as_deref_mut() else {
                return Ruling::Refuse(failed());
            };
            let limit = $self.chain.links[place].limit;
            let answer = guarded(limit, $call).await;
            match $self.judge(place, $stage, $conversation, answer) {
                (Decision::Continue, effects) => $transaction.apply(effects),
                (Decision::Accept, effects) => {
                    $transaction.apply(effects);
                    return Ruling::Proceed;
                }
                (Decision::Reject(rejection), _) => return Ruling::Refuse(rejection),
                (Decision::Disconnect(rejection), _) => return Ruling::Disconnect(rejection),
                (Decision::Discard, _) => return Ruling::Discard,
            }
        }
        Ruling::Proceed
    }};
}

/// Takes the effects of stages that have no transaction to change.
struct Nowhere;

impl Nowhere {
    fn apply(&mut self, _effects: Effects) {}
}

impl ChainSession {
    /// Asks at *connect*.
    pub async fn connect(&mut self, conversation: &Conversation) -> Ruling {
        ask_all!(self, Stage::Connect, conversation, Nowhere, |p| p.connect(conversation))
    }

    /// Asks at *hello*.
    pub async fn hello(&mut self, conversation: &Conversation) -> Ruling {
        ask_all!(self, Stage::Hello, conversation, Nowhere, |p| p.hello(conversation))
    }

    /// Asks at *authenticated*.
    pub async fn authenticated(&mut self, conversation: &Conversation) -> Ruling {
        ask_all!(self, Stage::Authenticated, conversation, Nowhere, |p| p
            .authenticated(conversation))
    }

    /// Asks at *mail*.
    pub async fn mail(
        &mut self,
        conversation: &Conversation,
        transaction: &mut Transaction,
    ) -> Ruling {
        ask_all!(self, Stage::Mail, conversation, transaction, |p| p
            .mail(conversation, transaction))
    }

    /// Asks at *data*.
    pub async fn data(
        &mut self,
        conversation: &Conversation,
        transaction: &mut Transaction,
    ) -> Ruling {
        ask_all!(self, Stage::Data, conversation, transaction, |p| p
            .data(conversation, transaction))
    }

    /// Asks at *message*.
    pub async fn message(
        &mut self,
        conversation: &Conversation,
        transaction: &mut Transaction,
        message: &Message<'_>,
    ) -> Ruling {
        ask_all!(self, Stage::Message, conversation, transaction, |p| p.message(
            conversation,
            transaction,
            message
        ))
    }

    /// Asks at *rcpt*. When the ruling is [`Ruling::Proceed`], the recipient has been added,
    /// unless a policy asked for its removal (an alias adds others in its place). A policy that
    /// readdresses it has the later ones asked about the address that is meant.
    pub async fn rcpt(
        &mut self,
        conversation: &Conversation,
        transaction: &mut Transaction,
        mut recipient: Recipient,
    ) -> Ruling {
        let mut vouched = false;
        let mut wanted = Effects::NONE;
        for place in 0..self.policies.len() {
            let Some(policy) = self.policies[place].as_deref_mut() else {
                return Ruling::Refuse(failed());
            };
            let call = policy.rcpt(conversation, transaction, &recipient);
            let answer = guarded(self.chain.links[place].limit, call).await;
            let (decision, effects) = self.judge(place, Stage::Rcpt, conversation, answer);
            match decision {
                Decision::Continue => {}
                Decision::Accept => vouched = true,
                Decision::Reject(rejection) => return Ruling::Refuse(rejection),
                Decision::Disconnect(rejection) => return Ruling::Disconnect(rejection),
                Decision::Discard => return Ruling::Discard,
            }
            for effect in effects {
                match effect {
                    Effect::Readdress(meant) => recipient = meant,
                    other => wanted = wanted.with(other),
                }
            }
        }
        if !vouched {
            return Ruling::Refuse(nobody_vouched());
        }
        // Only now: a recipient that a later policy refuses must leave no trace.
        transaction.add_recipient(recipient);
        transaction.apply(wanted);
        Ruling::Proceed
    }

    /// Tells every policy that the transaction is over and nothing was kept.
    pub fn aborted(&mut self) {
        self.tell(|policy| policy.aborted());
    }

    /// Tells every policy that the message is durable.
    pub fn committed(&mut self, id: MessageId) {
        self.tell(|policy| policy.committed(id));
    }

    /// Tells every policy that the connection is over.
    pub fn closed(&mut self) {
        self.tell(|policy| policy.closed());
    }

    fn tell(&mut self, note: impl Fn(&mut dyn Policy)) {
        for slot in &mut self.policies {
            let Some(policy) = slot.as_deref_mut() else { continue };
            if std::panic::catch_unwind(AssertUnwindSafe(|| note(policy))).is_err() {
                *slot = None;
            }
        }
    }

    fn judge(
        &mut self,
        place: usize,
        stage: Stage,
        conversation: &Conversation,
        answer: Answer<Outcome>,
    ) -> (Decision, Effects) {
        let (name, reason, decision, effects) = match answer.result {
            Ok(Ok(outcome)) => {
                let reason = match &outcome.decision {
                    Decision::Reject(why) | Decision::Disconnect(why) => Some(why.to_string()),
                    Decision::Continue | Decision::Accept | Decision::Discard => None,
                };
                (outcome.decision.name(), reason, outcome.decision, outcome.effects)
            }
            Ok(Err(failure)) => {
                ("failed", Some(failure.to_string()), Decision::Reject(failed()), Effects::NONE)
            }
            Err(gone) => {
                self.policies[place] = None;
                let (name, reason) = gone.tell();
                (name, reason, Decision::Reject(failed()), Effects::NONE)
            }
        };
        let plugin = self.chain.links[place].factory.name();
        if matches!(name, "failed" | "timed out" | "panicked") {
            tracing::warn!(
                stage = stage.name(),
                plugin,
                peer = %conversation.connection.peer.ip(),
                reason = reason.as_deref().unwrap_or_default(),
                "policy {name}"
            );
        }
        let record = VerdictRecord {
            stage,
            plugin,
            decision: name,
            reason,
            effects: effects.len(),
            took: answer.took,
        };
        self.chain.observers.tell(&Event::Verdict { conversation, record });
        (decision, effects)
    }
}

fn nobody_vouched() -> Rejection {
    Rejection::permanent(Status::POLICY, "relay access denied")
}

#[cfg(test)]
mod tests;
