#![doc = include_str!("../docs/loops.md")]

use merpati_plugin::{
    Connection, Conversation, Message, Outcome, Policy, PolicyFactory, PolicyResult, Transaction,
    async_trait,
};
use merpati_types::{RejectCode, Rejection, Status};

/// How many servers are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopsConfig {
    /// So many `Received` fields are too many. RFC 5321 §6.3 asks for at least 100.
    pub limit: usize,
}

impl Default for LoopsConfig {
    fn default() -> Self {
        Self { limit: 100 }
    }
}

/// Refuses messages that have passed too many servers.
#[derive(Clone, Copy, Debug)]
pub struct Loops {
    config: LoopsConfig,
}

impl Loops {
    /// With this configuration.
    #[must_use]
    pub fn new(config: LoopsConfig) -> Self {
        Self { config }
    }
}

impl PolicyFactory for Loops {
    fn name(&self) -> &str {
        "loops"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(*self)
    }
}

#[async_trait]
impl Policy for Loops {
    async fn message(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
        message: &Message<'_>,
    ) -> PolicyResult {
        if message.headers.count("Received") < self.config.limit {
            return Ok(Outcome::CONTINUE);
        }
        let text = "too many hops, this message is looping";
        Ok(Rejection::with(RejectCode::C554, Status::LOOP, text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[tokio::test]
    async fn a_message_that_has_passed_too_many_servers_is_refused() {
        let looping = "554 5.4.6 too many hops, this message is looping";
        for (limit, received, ruling) in
            [(100, 0, "proceed"), (100, 99, "proceed"), (100, 100, looping), (1, 1, looping)]
        {
            let hops = "received: from a by b\r\n".repeat(received);
            let message = format!("{hops}From: a@b.test\r\n\r\nReceived: x\r\n");
            let policy = Loops::new(LoopsConfig { limit });
            let (answer, _) = Fixture::of("192.0.2.1").message(policy, &message).await;
            assert_eq!(answer, ruling, "{received} of {limit}");
        }
    }
}
