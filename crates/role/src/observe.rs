//! The log: one line a message event, with its queue id.

use merpati_plugin::deliver::DeliveryResult;
use merpati_plugin::observer::{Event, Observer};

/// Writes events to the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Log;

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected { conversation } => {
                let connection = &conversation.connection;
                tracing::debug!(connection = connection.id, peer = %connection.peer, listener = %connection.listener, "connected");
            }
            Event::Disconnected { conversation, lasted, messages } => {
                let connection = &conversation.connection;
                tracing::debug!(connection = connection.id, peer = %connection.peer, ?lasted, messages, "disconnected");
            }
            Event::Verdict { conversation, record } => {
                tracing::trace!(connection = conversation.connection.id, stage = record.stage.name(), plugin = record.plugin, decision = record.decision, reason = record.reason.as_deref(), took = ?record.took, "verdict");
            }
            Event::Login { conversation, mechanism, user, refused } => match refused {
                None => {
                    tracing::info!(connection = conversation.connection.id, peer = %conversation.connection.peer.ip(), mechanism, user, "login")
                }
                Some(why) => {
                    tracing::warn!(connection = conversation.connection.id, peer = %conversation.connection.peer.ip(), mechanism, user, reply = %why, "login refused")
                }
            },
            Event::Refused { conversation, stage, subject, id, rejection } => {
                let id = id.map(|id| id.to_string());
                tracing::info!(connection = conversation.connection.id, peer = %conversation.connection.peer.ip(), stage = stage.name(), subject, id, reply = %rejection, "refused");
            }
            Event::Accepted { conversation, id, message, size, took } => {
                let envelope = &message.envelope;
                tracing::info!(%id, peer = %conversation.connection.peer.ip(), from = %envelope.sender, recipients = envelope.recipients.len(), size, account = message.origin.account.as_deref(), ?took, "accepted");
            }
            Event::Discarded { conversation, id } => {
                tracing::info!(%id, peer = %conversation.connection.peer.ip(), "discarded");
            }
            Event::Attempted { parcel, recipient, transport, outcome, bounced } => {
                let all = &parcel.info.message.envelope.recipients;
                let to = all.get(*recipient as usize).map(|to| to.address.to_string());
                let what = match (&outcome.result, bounced) {
                    (DeliveryResult::Delivered(_), _) => "delivered",
                    (_, true) => "bounced",
                    (_, false) => "deferred",
                };
                tracing::info!(id = %parcel.id.message, to, transport, remote = outcome.remote.as_deref(), said = outcome.diagnostic, attempts = parcel.attempts + 1, "{what}");
            }
            Event::Reported { about, action } => {
                tracing::info!(id = %about, action, "report queued");
            }
            // What events may come later are logged when they are named here.
            _ => {}
        }
    }
}
