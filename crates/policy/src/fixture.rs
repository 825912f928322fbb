//! A conversation, and ways to ask one policy about it through a chain.

use bytes::Bytes;
use merpati_plugin::chain::DEFAULT_TIME_LIMIT;
use merpati_plugin::{
    Account, Chain, ChainSession, Connection, Conversation, Message, Observers, Protocol, Ruling,
    Transaction,
};
use merpati_types::{Envelope, HeaderSection, Mailbox, Recipient, ReversePath};

use crate::stock::Stock;

/// What has happened before the policy is asked.
pub(crate) struct Fixture {
    pub(crate) conversation: Conversation,
    pub(crate) transaction: Transaction,
}

pub(crate) fn account(addresses: &[&str]) -> Account {
    let addresses = addresses.iter().map(|text| Mailbox::parse(text).unwrap()).collect();
    Account { login: "login".to_owned(), addresses }
}

impl Fixture {
    /// A peer at this address, with a transaction from `a@sender.test`.
    pub(crate) fn of(peer: &str) -> Self {
        let connection = Connection {
            id: 1,
            listener: "test".into(),
            protocol: Protocol::Smtp,
            local: "127.0.0.1:25".parse().unwrap(),
            peer: (peer.parse::<std::net::IpAddr>().unwrap(), 50_000).into(),
        };
        let fixture = Self {
            conversation: Conversation::new(connection),
            transaction: Transaction::new(Envelope::new(ReversePath::Null), None),
        };
        fixture.sender("<a@sender.test>")
    }

    pub(crate) fn sender(mut self, path: &str) -> Self {
        self.transaction.envelope.sender = ReversePath::parse(path).unwrap();
        self
    }

    fn begin(&self, policy: impl Into<Stock>) -> ChainSession {
        let policy = policy.into().factory;
        let chain = Chain::new(vec![(policy, DEFAULT_TIME_LIMIT)], Observers::default()).unwrap();
        chain.begin(&self.conversation.connection)
    }

    /// The ruling, and the recipients after it.
    pub(crate) async fn rcpt(
        mut self,
        policy: impl Into<Stock>,
        recipient: &str,
    ) -> (String, Vec<Recipient>) {
        let mut chain = self.begin(policy);
        let recipient = Recipient::new(Mailbox::parse(recipient).unwrap());
        let ruling = chain.rcpt(&self.conversation, &mut self.transaction, recipient).await;
        (show(&ruling), self.transaction.envelope.recipients)
    }

    pub(crate) async fn mail(mut self, policy: impl Into<Stock>) -> String {
        let mut chain = self.begin(policy);
        show(&chain.mail(&self.conversation, &mut self.transaction).await)
    }

    /// The ruling, and why the message is held.
    pub(crate) async fn data(mut self, policy: impl Into<Stock>) -> (String, Option<String>) {
        let mut chain = self.begin(policy);
        let ruling = chain.data(&self.conversation, &mut self.transaction).await;
        (show(&ruling), self.transaction.attributes.hold)
    }

    /// The ruling, and the header section with the edits made.
    pub(crate) async fn message(
        mut self,
        policy: impl Into<Stock>,
        message: &str,
    ) -> (String, String) {
        let mut chain = self.begin(policy);
        let source = Bytes::copy_from_slice(message.as_bytes());
        let headers = HeaderSection::read(&source).unwrap();
        let message = Message { headers: &headers, source: &source };
        let ruling = chain.message(&self.conversation, &mut self.transaction, &message).await;
        let edited = self.transaction.edits.apply(&headers);
        (show(&ruling), String::from_utf8(edited.to_vec()).unwrap())
    }
}

fn show(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Proceed => "proceed".to_owned(),
        Ruling::Refuse(rejection) => rejection.to_string(),
        Ruling::Disconnect(rejection) => format!("disconnect: {rejection}"),
        Ruling::Discard => "discard".to_owned(),
    }
}
