//! The log of what happens to mail: one line an event, with the queue id.

use merpati_plugin::deliver::DeliveryResult;
use merpati_plugin::{Event, News, Observer};
use merpati_types::MessageId;

/// Writes events to the log. What happens to messages is told at `info`, conversations and
/// verdicts at `debug`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventLog;

impl Observer for EventLog {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected { .. } | Event::Disconnected { .. } | Event::Verdict { .. } => {
                conversation(event);
            }
            Event::Login { .. } | Event::Refused { .. } => refusal(event),
            Event::Accepted { conversation, id, message, size, took } => {
                let envelope = &message.envelope;
                tracing::info!(
                    event = "accepted",
                    %id,
                    from = %envelope.sender,
                    recipients = envelope.recipients.len(),
                    size,
                    peer = %conversation.connection.peer.ip(),
                    listener = &*conversation.connection.listener,
                    account = conversation.account.as_ref().map(|account| account.login.as_str()),
                    took_ms = millis(*took),
                );
            }
            Event::Discarded { conversation, id } => {
                let peer = conversation.connection.peer.ip();
                tracing::info!(event = "discarded", %id, %peer);
            }
            Event::Repeated { conversation, id } => {
                let peer = conversation.connection.peer.ip();
                tracing::info!(event = "repeated", %id, %peer);
            }
            Event::Attempted { parcel, recipient, transport, outcome, bounced } => {
                let envelope = &parcel.info.message.envelope;
                let to = envelope.recipients.get(*recipient as usize);
                tracing::info!(
                    event = result(&outcome.result, *bounced),
                    id = %parcel.id.message,
                    to = to.map(|to| to.address.to_string()),
                    transport,
                    remote = outcome.remote,
                    source = outcome.source.as_deref(),
                    attempt = parcel.attempts + 1,
                    status = status(&outcome.result),
                    reply = outcome.diagnostic,
                );
            }
            Event::Heard { id, news } => heard(*id, news),
            Event::Reported { about, action } => {
                tracing::info!(event = "reported", id = %about, action);
            }
            _ => {}
        }
    }
}

fn heard(id: Option<MessageId>, news: &News) {
    tracing::info!(
        event = "heard",
        id = id.map(tracing::field::display),
        kind = news.kind,
        about = news.recipient.as_ref().map(tracing::field::display),
        class = news.class,
        status = news.status.map(tracing::field::display),
        reply = news.diagnostic,
        envid = news.envid,
        message_id = news.message_id,
        signed = news.is_signed,
        suppressed = news.suppressed,
    );
}

fn conversation(event: &Event<'_>) {
    match event {
        Event::Connected { conversation } => {
            let connection = &conversation.connection;
            tracing::debug!(
                event = "connected",
                connection = connection.id,
                peer = %connection.peer,
                listener = &*connection.listener,
            );
        }
        Event::Disconnected { conversation, lasted, messages } => {
            let connection = &conversation.connection;
            tracing::debug!(
                event = "disconnected",
                connection = connection.id,
                peer = %connection.peer,
                messages,
                lasted_ms = millis(*lasted),
            );
        }
        Event::Verdict { conversation, record } => {
            tracing::debug!(
                event = "verdict",
                connection = conversation.connection.id,
                stage = record.stage.name(),
                plugin = record.plugin,
                decision = record.decision,
                reason = record.reason,
                effects = record.effects,
                took_us = u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX),
            );
        }
        _ => {}
    }
}

fn refusal(event: &Event<'_>) {
    match event {
        Event::Login { conversation, mechanism, user, refused } => {
            let peer = conversation.connection.peer.ip();
            match refused {
                None => tracing::info!(event = "login", user, mechanism, %peer),
                Some(reply) => {
                    tracing::info!(event = "login refused", user, mechanism, %peer, %reply);
                }
            }
        }
        Event::Refused { conversation, stage, subject, id, rejection } => {
            tracing::info!(
                event = "refused",
                id = id.map(tracing::field::display),
                stage = stage.name(),
                subject,
                peer = %conversation.connection.peer.ip(),
                reply = %rejection,
            );
        }
        _ => {}
    }
}

/// What became of a recipient, in one word.
pub(crate) fn result(result: &DeliveryResult, bounced: bool) -> &'static str {
    match result {
        _ if bounced => "bounced",
        DeliveryResult::Delivered { .. } => "delivered",
        DeliveryResult::Deferred { .. } => "deferred",
        DeliveryResult::Failed { .. } => "failed",
    }
}

fn status(result: &DeliveryResult) -> Option<String> {
    match result {
        DeliveryResult::Delivered { .. } => None,
        DeliveryResult::Deferred { status, .. } | DeliveryResult::Failed { status } => {
            Some(status.to_string())
        }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use merpati_plugin::{Connection, Conversation, Protocol, Stage};
    use merpati_types::{MessageId, Rejection, Status};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_line_a_message_event_with_its_id() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        let address = "192.0.2.1:25".parse().unwrap();
        let conversation = Conversation::new(Connection {
            id: 1,
            listener: Arc::from("mx"),
            protocol: Protocol::Smtp,
            local: address,
            peer: address,
        });
        let rejection = Rejection::permanent(Status::POLICY, "no\r\n{\"event\":\"accepted\"}");
        tracing::subscriber::with_default(subscriber, || {
            let id = MessageId::from_u64(1);
            EventLog.observe(&Event::Connected { conversation: &conversation });
            EventLog.observe(&Event::Discarded { conversation: &conversation, id });
            EventLog.observe(&Event::Refused {
                conversation: &conversation,
                stage: Stage::Message,
                subject: None,
                id: Some(id),
                rejection: &rejection,
            });
            let recipient = merpati_types::Mailbox::parse("b@x.test").ok();
            let news = News { kind: "failed", recipient, ..News::default() };
            EventLog.observe(&Event::Heard { id: Some(id), news: &news });
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["discarded", "refused", "heard"]);
        assert_eq!((&lines[2]["kind"], &lines[2]["about"]), (&"failed".into(), &"b@x.test".into()));
        for line in &lines[..2] {
            assert_eq!(
                (&line["id"], &line["peer"]),
                (&"0000000000001".into(), &"192.0.2.1".into())
            );
        }
        assert_eq!(lines[1]["stage"], "message");
    }
}
