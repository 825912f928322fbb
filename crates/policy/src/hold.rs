#![doc = include_str!("../docs/hold.md")]

use std::sync::Arc;

use merpati_plugin::{
    Connection, Conversation, Effect, Effects, Outcome, Policy, PolicyFactory, PolicyResult,
    Transaction, async_trait,
};
use merpati_types::{Domain, Host};

/// What is kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldConfig {
    /// Messages with a recipient in one of these are kept; with none named, all are.
    pub domains: Vec<Domain>,
    /// Shown with the message.
    pub reason: String,
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self { domains: Vec::new(), reason: "held by configuration".to_owned() }
    }
}

/// Keeps messages in the queue until they are released.
#[derive(Clone, Debug)]
pub struct Hold {
    config: Arc<HoldConfig>,
}

impl Hold {
    /// With this configuration.
    #[must_use]
    pub fn new(config: HoldConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    fn concerns(&self, transaction: &Transaction) -> bool {
        let held = |host: &Host| match host {
            Host::Domain(domain) => self.config.domains.contains(domain),
            Host::Literal(_) => false,
        };
        self.config.domains.is_empty()
            || transaction.envelope.recipients.iter().any(|to| held(to.address.host()))
    }
}

impl PolicyFactory for Hold {
    fn name(&self) -> &str {
        "hold"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Policy for Hold {
    async fn data(
        &mut self,
        _conversation: &Conversation,
        transaction: &Transaction,
    ) -> PolicyResult {
        if !self.concerns(transaction) {
            return Ok(Outcome::CONTINUE);
        }
        let reason = self.config.reason.clone();
        Ok(Outcome::effects(Effects::NONE.with(Effect::Hold(reason))))
    }
}

#[cfg(test)]
mod tests {
    use merpati_types::{Mailbox, Recipient};

    use super::*;
    use crate::fixture::Fixture;

    #[tokio::test]
    async fn messages_for_the_domains_are_kept() {
        let all: &[&str] = &[];
        for (domains, recipients, kept) in [
            (all, &["a@b.test"][..], true),
            (&["b.test"], &["a@b.test"], true),
            (&["b.test"], &["a@B.TEST"], true),
            (&["b.test"], &["a@c.test"], false),
            (&["b.test"], &["a@sub.b.test"], false),
            (&["b.test"], &["a@[192.0.2.1]"], false),
            (&["b.test", "c.test"], &["a@d.test", "a@c.test"], true),
        ] {
            let domains = domains.iter().map(|name| Domain::parse(name).unwrap()).collect();
            let policy = Hold::new(HoldConfig { domains, reason: "moves".to_owned() });
            let mut fixture = Fixture::of("192.0.2.1");
            for address in recipients {
                let recipient = Recipient::new(Mailbox::parse(address).unwrap());
                fixture.transaction.add_recipient(recipient);
            }
            let (ruling, held) = fixture.data(policy).await;
            assert_eq!(ruling, "proceed");
            assert_eq!(held.as_deref(), kept.then_some("moves"), "{recipients:?}");
        }
    }
}
