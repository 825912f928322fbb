//! The `Received` field that we add (RFC 5321 §4.4, RFC 3848, RFC 6531 §3.7.3).

use merpati_plugin::connection::Protocol;
use merpati_plugin::{Conversation, Transaction};
use merpati_types::{Domain, FieldName, FieldValue, HeaderEdit, MessageId, Timestamp};

use crate::service::TraceClient;

/// The field for a message, as an edit that puts it first.
pub(crate) fn field(
    by: &Domain,
    conversation: &Conversation,
    transaction: &Transaction,
    id: MessageId,
    when: Timestamp,
    client: TraceClient,
) -> Option<HeaderEdit> {
    let mut value = String::new();
    if client == TraceClient::Shown {
        let hello = conversation.hello.as_ref().map_or("unknown", |hello| hello.name.as_str());
        let address = conversation.connection.peer.ip().to_canonical();
        let tag = if address.is_ipv6() { "IPv6:" } else { "" };
        value += &format!("from {} ([{tag}{address}])\n", atom(hello));
    }
    if let Some(tls) = &conversation.tls {
        value += &format!("(using {} with cipher {})\n", tls.version, tls.cipher);
    }
    value += &format!("by {} with {} id {id}", by.as_ascii(), with(conversation, transaction));
    // More than one recipient would tell each of the others (RFC 5321 §7.2).
    if let [recipient] = transaction.envelope.recipients.as_slice() {
        value += &format!("\nfor <{}>", recipient.address);
    }
    value += &format!(";\n{}", when.to_rfc5322());
    let name = FieldName::new("Received").expect("the name is a constant");
    FieldValue::new(&value).ok().map(|value| HeaderEdit::Prepend(name, value))
}

/// The protocol's registered name: an S for TLS, an A for AUTH, UTF8 for SMTPUTF8.
fn with(conversation: &Conversation, transaction: &Transaction) -> String {
    let extended = conversation.hello.as_ref().is_some_and(|hello| hello.extended);
    let base = match conversation.connection.protocol {
        Protocol::Lmtp => "LMTP",
        Protocol::Smtp if extended => "ESMTP",
        Protocol::Smtp => return "SMTP".to_owned(),
    };
    let base = match (transaction.envelope.smtputf8, conversation.connection.protocol) {
        (true, Protocol::Lmtp) => "UTF8LMTP",
        (true, Protocol::Smtp) => "UTF8SMTP",
        (false, _) => base,
    };
    let tls = if conversation.tls.is_some() { "S" } else { "" };
    let auth = if conversation.account.is_some() { "A" } else { "" };
    format!("{base}{tls}{auth}")
}

/// The name a peer gave, so that it can be nothing but a name within the field.
fn atom(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    name.chars().map(|c| if plain(c) { c } else { '?' }).collect()
}
