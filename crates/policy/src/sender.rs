#![doc = include_str!("../docs/sender.md")]

use merpati_plugin::{
    Connection, Conversation, Outcome, Policy, PolicyFactory, PolicyResult, Transaction,
    async_trait,
};
use merpati_types::{Mailbox, RejectCode, Rejection, ReversePath, Status};

/// How senders are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderConfig {
    /// Take `<>` from an account.
    pub allow_null: bool,
}

/// Refuses senders that the account does not own.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    config: SenderConfig,
}

impl Sender {
    /// With this configuration.
    #[must_use]
    pub fn new(config: SenderConfig) -> Self {
        Self { config }
    }
}

impl PolicyFactory for Sender {
    fn name(&self) -> &str {
        "sender"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(*self)
    }
}

#[async_trait]
impl Policy for Sender {
    async fn mail(
        &mut self,
        conversation: &Conversation,
        transaction: &Transaction,
    ) -> PolicyResult {
        let Some(account) = &conversation.account else {
            let text = "authentication required";
            return Ok(Rejection::with(RejectCode::C530, Status::SECURITY, text).into());
        };
        let refusal = match &transaction.envelope.sender {
            ReversePath::Null if self.config.allow_null => return Ok(Outcome::CONTINUE),
            ReversePath::Null => "an empty sender is not accepted here",
            ReversePath::Mailbox(sender) => {
                if account.addresses.iter().any(|owned| is_same(owned, sender)) {
                    return Ok(Outcome::CONTINUE);
                }
                "the account may not send with this address"
            }
        };
        Ok(Rejection::permanent(Status::POLICY, refusal).into())
    }
}

fn is_same(owned: &Mailbox, sender: &Mailbox) -> bool {
    owned.host() == sender.host()
        && owned.local().as_str().eq_ignore_ascii_case(sender.local().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, account};

    #[tokio::test]
    async fn a_sender_must_be_one_of_the_accounts() {
        let foreign = "550 5.7.1 the account may not send with this address";
        let null = "550 5.7.1 an empty sender is not accepted here";
        for (owned, sender, ruling) in [
            (Some(&["a@x.test"][..]), "<a@x.test>", "proceed"),
            (Some(&["a@x.test"]), "<A@X.TEST>", "proceed"),
            (Some(&["b@x.test", "a@x.test"]), "<a@x.test>", "proceed"),
            (Some(&["a@bücher.test"]), "<a@xn--bcher-kva.test>", "proceed"),
            (Some(&["a@x.test"]), "<b@x.test>", foreign),
            (Some(&["a@x.test"]), "<a@sub.x.test>", foreign),
            (Some(&["a@x.test"]), "<a+tag@x.test>", foreign),
            (Some(&["a@x.test"]), "<>", null),
            (Some(&[]), "<a@x.test>", foreign),
            (None, "<a@x.test>", "530 5.7.0 authentication required"),
            (None, "<>", "530 5.7.0 authentication required"),
        ] {
            let mut fixture = Fixture::of("192.0.2.1").sender(sender);
            fixture.conversation.account = owned.map(account);
            let answer = fixture.mail(Sender::new(SenderConfig::default())).await;
            assert_eq!(answer, ruling, "{owned:?} {sender}");
        }
    }

    #[tokio::test]
    async fn an_empty_sender_is_an_option_for_accounts() {
        let sender = Sender::new(SenderConfig { allow_null: true });
        let mut fixture = Fixture::of("192.0.2.1").sender("<>");
        fixture.conversation.account = Some(account(&["a@x.test"]));
        assert_eq!(fixture.mail(sender).await, "proceed");
        let fixture = Fixture::of("192.0.2.1").sender("<>");
        assert_eq!(fixture.mail(sender).await, "530 5.7.0 authentication required");
    }
}
