//! Transactions: a message over one connection, in as many as its limits ask for.

use merpati_plugin::Job;
use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::spool::{DeliverBy, NewMessage};
use merpati_session::client::{Outgoing, Protocol};
use merpati_types::{Recipient, Severity, Status};
use merpati_wire::{By, Priority};

use super::connection::{Connection, Sent};
use super::ease::ease;
use super::outcome::{self, Tally};
use super::{Inner, time_of_day};

/// How a round over one connection ended.
pub(super) enum Round {
    /// The connection can be used again.
    Done,
    /// The connection is gone.
    Lost {
        /// Whether the server has said anything about the message, or may have it.
        anything_said: bool,
    },
}

impl Inner {
    /// Sends the message over one connection, in as many transactions as the server's limit on
    /// recipients asks for.
    pub(super) async fn transactions(
        &self,
        connection: &mut Connection,
        job: &Job,
        tally: &mut Tally,
    ) -> Round {
        let offered = connection.offered().limits.and_then(|limits| limits.rcpt_max);
        let own = self.config.recipients;
        let limit = offered.map_or(own, |max| own.min(max as usize));
        let handover = match (self.config.protocol, connection.offered().dsn) {
            (Protocol::Lmtp, _) => Handover::Final,
            (Protocol::Smtp, true) => Handover::PassedOn,
            (Protocol::Smtp, false) => Handover::Relayed,
        };
        let peer = connection.peer.clone();
        // Every recipient once over this connection; those deferred may have another host's turn.
        let open = tally.open();
        for batch in open.chunks(limit.max(1)) {
            let outgoing = outgoing(job, tally.recipients(batch));
            let outgoing = ease(outgoing, connection.offered(), job.message.as_ref()).await;
            match connection.send(outgoing, job.message.as_ref(), job.notes.as_ref()).await {
                Sent::Finished(outcomes) => {
                    for (&place, outcome) in batch.iter().zip(outcomes) {
                        tally.hear(place, &outcome, &peer, handover);
                    }
                }
                Sent::Mismatch(mismatch) => {
                    let (status, severity) = outcome::of_mismatch(mismatch);
                    let outcome = DeliveryOutcome {
                        result: DeliveryResult::Failed { status: status.with(severity) },
                        // Our own finding: no server said it (RFC 3464 §2.3.6).
                        remote: None,
                        source: None,
                        diagnostic: format!("{mismatch}: {peer}"),
                    };
                    tally.settle(batch, &outcome);
                }
                Sent::Unreadable(error) => {
                    tracing::error!(id = %job.parcel.id, %error, "cannot read the message");
                    let status = Status::SYSTEM.with(Severity::Transient);
                    tally.note(DeliveryOutcome {
                        result: DeliveryResult::Deferred { status, class: DeferClass::Local },
                        remote: None,
                        source: None,
                        diagnostic: "the message cannot be read now".to_owned(),
                    });
                    tally.stop();
                    return Round::Lost { anything_said: true };
                }
                Sent::Lost { why, known, in_doubt } => {
                    let mut anything_said = in_doubt;
                    for (&place, outcome) in batch.iter().zip(&known) {
                        if let Some(outcome) = outcome {
                            anything_said = true;
                            tally.hear(place, outcome, &peer, handover);
                        }
                    }
                    tracing::info!(id = %job.parcel.id, %peer, %why, in_doubt, "session lost");
                    tally.note(outcome::lost(&peer, why, in_doubt));
                    if in_doubt {
                        // Another host must not get a second copy of what this one may have.
                        tally.stop();
                    }
                    return Round::Lost { anything_said };
                }
            }
        }
        Round::Done
    }
}

fn outgoing(job: &Job, recipients: Vec<Recipient>) -> Outgoing {
    let NewMessage { envelope, attributes, .. } = &job.parcel.info.message;
    let time_left = |by: &DeliverBy| {
        let left = by.at.as_millis().saturating_sub(time_of_day().as_millis());
        By::new(left.div_euclid(1_000), by.mode, by.trace)
    };
    Outgoing {
        sender: job.parcel.reverse_path().clone(),
        recipients,
        body: envelope.body,
        smtputf8: envelope.smtputf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        by: attributes.deliver_by.as_ref().map(time_left),
        requiretls: envelope.requiretls,
        priority: Priority::new(attributes.priority).unwrap_or_default(),
        size: job.message.size(),
    }
}
