//! A message to be sent, and what became of it.

use merpati_types::{
    BodyType, ByMode, Envid, ForwardPath, Host, LocalPart, Mailbox, Recipient, Reply, Ret,
    ReversePath,
};
use merpati_wire::{By, Capabilities, Command, MailParams, Priority, RcptParams, SizeLimit};

use super::config::Protocol;

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The sender.
    pub sender: ReversePath,
    /// The recipients, at least one.
    pub recipients: Vec<Recipient>,
    /// What octets the message has.
    pub body: BodyType,
    /// Whether it needs SMTPUTF8.
    pub smtputf8: bool,
    /// RET=, passed on where DSN is offered.
    pub ret: Option<Ret>,
    /// ENVID=, passed on where DSN is offered.
    pub envid: Option<Envid>,
    /// BY= (RFC 2852), with the time that is left, passed on where DELIVERBY is offered. Mail that
    /// is to come back if it is late goes to no server without it: nobody would see to that there.
    pub by: Option<By>,
    /// MT-PRIORITY= (RFC 6710), passed on where it is offered, unless it is the normal 0.
    pub priority: Priority,
    /// Whether it goes only to servers that promise to keep it within TLS (RFC 8689).
    pub requiretls: bool,
    /// The exact length of the message, in octets: where the server takes BDAT, it is announced.
    pub size: u64,
}

/// The server lacks what the message needs. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// It lacks 8BITMIME, or BINARYMIME with CHUNKING: 5.6.3.
    #[error("the server does not take the message's body type")]
    BodyType,
    /// It lacks SMTPUTF8, and an address cannot be written without: 5.6.7.
    #[error("the server does not take internationalized addresses")]
    Utf8Address,
    /// It lacks SMTPUTF8, and the message was sent with it: 5.6.9.
    #[error("the server does not take internationalized headers")]
    Utf8Header,
    /// It lacks REQUIRETLS, and the message needs it: 5.7.30.
    #[error("the server does not promise to keep the message within TLS")]
    RequireTls,
    /// It lacks DELIVERBY, and the message is to come back if it is late: 5.3.3.
    #[error("the server keeps no deadlines")]
    Deadline,
    /// The time that is left is less than it needs, or none: 5.4.7.
    #[error("the message cannot be there in time")]
    TooLate,
    /// The message is larger than it takes: 5.3.4.
    #[error("the message is larger than the server takes")]
    TooBig,
}

/// Where a reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To DATA, before the message.
    Data,
    /// To the message.
    Message,
}

/// What the server said about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has taken responsibility.
    Accepted(Reply),
    /// It has refused: [`Reply::severity`] tells for how long.
    Refused {
        /// Where.
        stage: Stage,
        /// What it said.
        reply: Reply,
    },
}

/// A recipient in the course of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// The reply to RCPT is awaited.
    Asked,
    /// RCPT was accepted.
    Taken,
    Settled(Outcome),
}

impl Outgoing {
    pub(super) fn check(&self, offered: &Capabilities, protocol: Protocol) -> Result<(), Mismatch> {
        match self.body {
            BodyType::SevenBit => {}
            BodyType::EightBitMime if offered.eight_bit_mime => {}
            BodyType::BinaryMime if offered.binary_mime && offered.chunking => {}
            BodyType::EightBitMime | BodyType::BinaryMime => return Err(Mismatch::BodyType),
        }
        if self.smtputf8 && !offered.smtputf8 {
            let mailboxes = self.recipients.iter().map(|recipient| &recipient.address);
            let mut all = mailboxes.chain(self.sender.mailbox());
            return Err(if all.all(|mailbox| mailbox.to_ascii().is_some()) {
                Mismatch::Utf8Header
            } else {
                Mismatch::Utf8Address
            });
        }
        // Over LMTP the mail is there, not on its way.
        if self.requiretls && !offered.requiretls && protocol == Protocol::Smtp {
            return Err(Mismatch::RequireTls);
        }
        if let Some(By { seconds, mode: ByMode::Return, .. }) = self.by {
            let least = match offered.deliver_by {
                Some(least) => least,
                None if protocol == Protocol::Lmtp => 0,
                None => return Err(Mismatch::Deadline),
            };
            if seconds <= 0 || i64::from(seconds) < i64::from(least) {
                return Err(Mismatch::TooLate);
            }
        }
        match offered.size {
            Some(SizeLimit::Octets(limit)) if self.size > limit => Err(Mismatch::TooBig),
            _ => Ok(()),
        }
    }

    pub(super) fn mail(&self, offered: &Capabilities) -> Command {
        let path = match &self.sender {
            ReversePath::Null => ReversePath::Null,
            ReversePath::Mailbox(mailbox) => ReversePath::Mailbox(self.spelled(mailbox)),
        };
        let body = (self.body != BodyType::SevenBit).then_some(self.body);
        let params = MailParams {
            size: offered.size.map(|_| self.size),
            body,
            smtputf8: self.smtputf8,
            ret: self.ret.filter(|_| offered.dsn),
            envid: self.envid.clone().filter(|_| offered.dsn),
            requiretls: self.requiretls && offered.requiretls,
            by: self.by.filter(|_| offered.deliver_by.is_some()),
            priority: Some(self.priority)
                .filter(|priority| offered.mt_priority.is_some() && priority.value() != 0),
            ..MailParams::default()
        };
        Command::Mail { path, params }
    }

    pub(super) fn rcpt(&self, recipient: &Recipient, offered: &Capabilities) -> Command {
        let path = ForwardPath::Mailbox(self.spelled(&recipient.address));
        let params = if offered.dsn {
            RcptParams { notify: recipient.notify, orcpt: recipient.orcpt.clone() }
        } else {
            RcptParams::default()
        };
        Command::Rcpt { path, params }
    }

    /// Without SMTPUTF8 a domain travels in its A-label form.
    fn spelled(&self, mailbox: &Mailbox) -> Mailbox {
        match mailbox.host() {
            Host::Domain(domain) if !self.smtputf8 && domain.is_internationalized() => {
                let ascii = domain.as_ascii().parse().expect("the A-label form is a domain");
                Mailbox::new(LocalPart::clone(mailbox.local()), Host::Domain(ascii))
            }
            _ => mailbox.clone(),
        }
    }
}
