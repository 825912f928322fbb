#![doc = include_str!("../docs/returned.md")]

mod config;
mod news;
mod resolve;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use merpati_dsn::ReceivedReport;
use merpati_plugin::{
    Connection, Conversation, Decision, Effect, Effects, Event, Failure, Message, News, Outcome,
    Policy, PolicyFactory, PolicyResult, Transaction, async_trait,
};
use merpati_types::{Mailbox, MessageId, Orcpt, Recipient, ReversePath};

pub use config::{Believe, ReturnedConfig};

use crate::addresses::is_same;
use crate::stock::Environment;
use resolve::Resolved;

/// How much of a message is looked at, in octets. A report begins with what matters, and what it
/// returns of a message is its header section.
const READ_LIMIT: usize = 256 << 10;

/// Takes mail to the addresses that our own mail was sent under, and reads the reports among it.
#[derive(Clone)]
pub struct Returned(Arc<Shared>);

struct Shared {
    config: ReturnedConfig,
    environment: Environment,
}

impl Returned {
    /// By this configuration.
    #[must_use]
    pub fn new(config: ReturnedConfig, environment: &Environment) -> Self {
        Self(Arc::new(Shared { config, environment: environment.clone() }))
    }
}

impl PolicyFactory for Returned {
    fn name(&self) -> &str {
        "returned"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(Session { shared: Arc::clone(&self.0), arrivals: Vec::new(), news: Vec::new() })
    }
}

/// A recipient of the transaction that reports may come to.
struct Arrival {
    /// Who is meant.
    address: Mailbox,
    /// The recipient that its address names.
    about: Option<Mailbox>,
    is_signed: bool,
    /// Nobody needs to see what comes to it, once it is read.
    is_for_reports: bool,
    /// Whether only reports are known to come to it that have a null sender.
    is_bounce_address: bool,
}

struct Session {
    shared: Arc<Shared>,
    arrivals: Vec<Arrival>,
    /// To be told once the message is durable.
    news: Vec<News>,
}

#[async_trait]
impl Policy for Session {
    async fn mail(&mut self, _: &Conversation, _: &Transaction) -> PolicyResult {
        self.forget();
        Ok(Outcome::CONTINUE)
    }

    async fn rcpt(
        &mut self,
        _conversation: &Conversation,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> PolicyResult {
        let shared = &self.shared;
        let now = (shared.environment.now)();
        let is_report = transaction.envelope.sender == ReversePath::Null;
        let Resolved { address, about, is_signed, vouched } =
            match shared.config.resolve(&recipient.address, is_report, now) {
                Ok(Some(resolved)) => resolved,
                Ok(None) if shared.config.takes_reports(&recipient.address) => {
                    self.arrivals.push(Arrival {
                        address: recipient.address.clone(),
                        about: None,
                        is_signed: false,
                        is_for_reports: true,
                        is_bounce_address: false,
                    });
                    return Ok(Decision::Accept.into());
                }
                Ok(None) => return Ok(Outcome::CONTINUE),
                Err(why) => return Ok(why.into()),
            };
        let is_for_reports = about.is_some();
        let arrival =
            Arrival { about, is_signed, is_for_reports, is_bounce_address: true, address };
        // What is reported on is the address that was written.
        let orcpt = recipient.orcpt.clone().unwrap_or_else(|| Orcpt::of(&recipient.address));
        let meant = Recipient {
            address: arrival.address.clone(),
            notify: recipient.notify,
            orcpt: Some(orcpt),
        };
        self.arrivals.push(arrival);
        let decision = if vouched { Decision::Accept } else { Decision::Continue };
        Ok(Outcome { decision, effects: Effects::NONE.with(Effect::Readdress(meant)) })
    }

    async fn message(
        &mut self,
        _conversation: &Conversation,
        transaction: &Transaction,
        message: &Message<'_>,
    ) -> PolicyResult {
        let recipients = &transaction.envelope.recipients;
        let is_kept = |address: &Mailbox| recipients.iter().any(|to| to.address == *address);
        // A later policy may have refused some.
        self.arrivals.retain(|arrival| is_kept(&arrival.address));
        let is_report = transaction.envelope.sender == ReversePath::Null;
        if !self.arrivals.iter().any(|arrival| is_report || !arrival.is_bounce_address) {
            return Ok(Outcome::CONTINUE);
        }
        let bytes = read(message).await?;
        let Ok(report) = ReceivedReport::read(&bytes) else { return Ok(Outcome::CONTINUE) };
        self.news = self.shared.read(&report, &self.arrivals).await;
        let is_read = |to: &Recipient| {
            let arrival = self.arrivals.iter().find(|arrival| arrival.address == to.address);
            arrival.is_some_and(|arrival| arrival.is_for_reports)
        };
        if self.shared.config.keep || !recipients.iter().all(is_read) {
            return Ok(Outcome::CONTINUE);
        }
        self.tell(None);
        Ok(Decision::Discard.into())
    }

    fn aborted(&mut self) {
        self.forget();
    }

    fn committed(&mut self, id: MessageId) {
        self.tell(Some(id));
    }
}

impl Session {
    fn forget(&mut self) {
        self.arrivals.clear();
        self.news.clear();
    }

    fn tell(&mut self, id: Option<MessageId>) {
        for news in std::mem::take(&mut self.news) {
            self.shared.environment.tell.tell(&Event::Heard { id, news: &news });
        }
        self.forget();
    }
}

impl ReturnedConfig {
    fn takes_reports(&self, address: &Mailbox) -> bool {
        self.reports.iter().any(|reports| is_same(reports, address))
    }
}

/// The beginning of a message.
async fn read(message: &Message<'_>) -> Result<Bytes, Failure> {
    if let Some(whole) = message.source.in_memory() {
        return Ok(whole.slice(..whole.len().min(READ_LIMIT)));
    }
    let mut reader = message.source.open().await?;
    let mut bytes = BytesMut::new();
    while bytes.len() < READ_LIMIT {
        let Some(piece) = reader.next().await? else { break };
        let room = READ_LIMIT - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests;
