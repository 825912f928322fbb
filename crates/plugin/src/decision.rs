//! What a policy answers: a decision, and effects on the message.

use std::error::Error;
use std::fmt;

use merpati_types::{HeaderEdit, Mailbox, Recipient, Rejection, Timestamp};

use crate::facts::{Fact, SomeFact};
use crate::spool::Durability;

/// What a policy decides at a stage. What a chain makes of it is told in [`crate::chain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No objection, and no opinion: the next policy is asked.
    Continue,
    /// At *rcpt*: this policy vouches for the recipient; the later policies are still asked.
    /// At any other stage: accepted, and the later policies are not asked at this stage.
    Accept,
    /// Refused with this reply; the session goes on.
    Reject(Rejection),
    /// Refused with this reply; the session ends.
    Disconnect(Rejection),
    /// At *rcpt*: the recipient is dropped, and told 250. Elsewhere: the whole message is.
    Discard,
}

impl Decision {
    /// One word for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Accept => "accept",
            Self::Reject(_) => "reject",
            Self::Disconnect(_) => "disconnect",
            Self::Discard => "discard",
        }
    }
}

/// A change to the transaction that a policy asks for. Later policies see it made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Change the header section. The body as received is never rewritten.
    Header(HeaderEdit),
    /// Deliver to this recipient too. It needs no vouching.
    AddRecipient(Recipient),
    /// Do not deliver to this recipient.
    RemoveRecipient(Mailbox),
    /// At *rcpt*: this recipient is meant. The later policies are asked about it instead of the one
    /// before, so one of them, or this one, must vouch for it. Has no effect at other stages.
    Readdress(Recipient),
    /// Keep the message in the queue until an operator releases it; the text says why.
    Hold(String),
    /// Deliver into this folder instead of the inbox.
    Quarantine(String),
    /// Attempt nothing before this moment.
    NotBefore(Timestamp),
    /// MT-PRIORITY (RFC 6710), -9 to 9; 0 is normal.
    Priority(i8),
    /// How the message is made durable before its 250.
    Durability(Durability),
    /// The pool of source addresses to deliver from.
    SourcePool(String),
    /// A tag that is kept with the message and shown by the queue commands.
    Tag(String, String),
    /// A fact for later policies.
    Fact(SomeFact),
}

/// The effects of one answer, in order.
#[derive(Clone, Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// No effect.
    pub const NONE: Self = Self(Vec::new());

    /// Adds an effect.
    #[must_use]
    pub fn with(mut self, effect: Effect) -> Self {
        self.0.push(effect);
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_fact<F: Fact>(self, fact: F) -> Self {
        self.with(Effect::Fact(SomeFact::new(fact)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        Self(effects.into_iter().collect())
    }
}

/// A policy's answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub decision: Decision,
    /// What else is to happen. Ignored when the decision refuses.
    pub effects: Effects,
}

impl Outcome {
    /// No objection, no effect: what every stage answers by default.
    pub const CONTINUE: Self = Self { decision: Decision::Continue, effects: Effects::NONE };

    /// Continue with `effects`.
    #[must_use]
    pub fn effects(effects: Effects) -> Self {
        Self { decision: Decision::Continue, effects }
    }
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        Self { decision, effects: Effects::NONE }
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        Decision::Reject(rejection).into()
    }
}

/// Why a plugin could not answer. The peer hears `451 4.3.0` and nothing of this text.
#[derive(Debug)]
pub struct Failure(Box<dyn Error + Send + Sync>);

impl Failure {
    /// A failure with a text for the log.
    #[must_use]
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

// `Failure` is no `Error` itself, so that `?` takes every error there is.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// What each stage of a policy answers.
pub type PolicyResult = Result<Outcome, Failure>;
