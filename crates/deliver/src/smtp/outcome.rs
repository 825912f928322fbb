//! From what servers say to what becomes of each recipient.

use std::sync::Arc;

use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult, Handover};
use merpati_session::client::{Loss, Mismatch, Outcome, Stage};
use merpati_types::{EnhancedStatus, Recipient, Rejection, Reply, Severity, Status};

use super::connection::DialError;

/// What is known of each recipient in the course of an attempt.
pub(super) struct Tally {
    recipients: Vec<Recipient>,
    outcomes: Vec<Option<DeliveryOutcome>>,
    /// The last thing that went wrong for those without an outcome.
    last: Option<DeliveryOutcome>,
    stopped: bool,
}

impl Tally {
    pub(super) fn new(recipients: Vec<Recipient>) -> Self {
        let outcomes = vec![None; recipients.len()];
        Self { recipients, outcomes, last: None, stopped: false }
    }

    /// Whether nothing is left to try.
    pub(super) fn is_settled(&self) -> bool {
        self.stopped || self.open().is_empty()
    }

    /// The places of recipients that another host may still take: nobody has said anything about
    /// them, or has deferred them.
    pub(super) fn open(&self) -> Vec<usize> {
        let open = |outcome: &Option<DeliveryOutcome>| {
            !matches!(
                outcome.as_ref().map(|outcome| &outcome.result),
                Some(DeliveryResult::Delivered(_) | DeliveryResult::Failed { .. })
            )
        };
        (0..self.outcomes.len()).filter(|&place| open(&self.outcomes[place])).collect()
    }

    pub(super) fn recipients(&self, places: &[usize]) -> Vec<Recipient> {
        places.iter().map(|&place| self.recipients[place].clone()).collect()
    }

    /// Takes what a server said about a recipient.
    pub(super) fn hear(&mut self, place: usize, outcome: &Outcome, peer: &str, handover: Handover) {
        let (result, reply) = match outcome {
            Outcome::Accepted(reply) => (DeliveryResult::Delivered(handover), reply),
            Outcome::Refused { stage, reply } => (refused(*stage, reply), reply),
        };
        self.outcomes[place] = Some(DeliveryOutcome {
            result,
            remote: Some(peer.to_owned()),
            source: None,
            diagnostic: reply.to_string(),
        });
    }

    pub(super) fn settle(&mut self, places: &[usize], outcome: &DeliveryOutcome) {
        for &place in places {
            self.outcomes[place] = Some(outcome.clone());
        }
    }

    pub(super) fn settle_all(&mut self, outcome: &DeliveryOutcome) {
        self.outcomes.fill(Some(outcome.clone()));
    }

    /// Takes what went wrong with a host as a whole. What may pass weighs more than what is final,
    /// whoever it was said of: with that host the message may yet arrive.
    pub(super) fn note(&mut self, outcome: DeliveryOutcome) {
        let is_final = matches!(outcome.result, DeliveryResult::Failed { .. });
        let waits = matches!(
            self.last.as_ref().map(|last| &last.result),
            Some(DeliveryResult::Deferred { .. })
        );
        if !(is_final && waits) {
            self.last = Some(outcome);
        }
    }

    /// No other host may be tried.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// One outcome for each recipient; those that hosts have a part in are of this source.
    pub(super) fn finish(self, source: Option<&Arc<str>>) -> Vec<DeliveryOutcome> {
        let last = self.last.unwrap_or_else(|| DeliveryOutcome {
            result: DeliveryResult::Deferred {
                status: Status::NETWORK.with(Severity::Transient),
                class: DeferClass::Connection,
            },
            remote: None,
            source: None,
            diagnostic: "no host could be reached".to_owned(),
        });
        let of_source = |mut outcome: DeliveryOutcome| {
            outcome.source = source.filter(|_| outcome.remote.is_some()).cloned();
            outcome
        };
        let outcomes = self.outcomes.into_iter();
        outcomes.map(|known| of_source(known.unwrap_or_else(|| last.clone()))).collect()
    }
}

fn refused(stage: Stage, reply: &Reply) -> DeliveryResult {
    let status = status(reply);
    match reply.severity() {
        Some(Severity::Permanent) => DeliveryResult::Failed { status },
        _ => {
            let class = match stage {
                Stage::Rcpt => DeferClass::Recipient,
                Stage::Mail | Stage::Data | Stage::Message => DeferClass::Peer,
            };
            DeliveryResult::Deferred { status, class }
        }
    }
}

/// A reply's status; its code's class where it has none. A reply that is neither yes nor no, or
/// a yes at the wrong moment, is a protocol error that may pass.
fn status(reply: &Reply) -> EnhancedStatus {
    match Rejection::from_reply(reply) {
        Some(rejection) => rejection.enhanced(),
        None => Status::PROTOCOL.with(Severity::Transient),
    }
}

/// The status of a message that the server cannot take.
pub(super) fn of_mismatch(mismatch: Mismatch) -> (Status, Severity) {
    let status = match mismatch {
        Mismatch::Utf8Address => Status::UTF8_ADDRESS,
        Mismatch::Utf8Header => Status::UTF8_HEADER,
        Mismatch::TooBig => Status::MESSAGE_TOO_BIG,
        Mismatch::RequireTls => Status::REQUIRETLS,
        // RFC 2852 §4: what is to come back if it is late goes back at once, where nobody would
        // see to that further on.
        Mismatch::Deadline => Status::NOT_CAPABLE,
        Mismatch::TooLate => Status::EXPIRED,
        _ => Status::CONVERSION,
    };
    (status, Severity::Permanent)
}

/// What a session that came to nothing means for those who were to be served by it.
pub(super) fn unsettled(host: &str, error: &DialError) -> DeliveryOutcome {
    let transient = |status: Status, class| DeliveryResult::Deferred {
        status: status.with(Severity::Transient),
        class,
    };
    let (result, diagnostic) = match error {
        // The host has not been asked.
        DialError::Source(error) => {
            let rejection = Rejection::transient(Status::NO_ROUTE, &error.to_string());
            return DeliveryOutcome::refused(&rejection, DeferClass::Local);
        }
        DialError::Stopped(why) => return DeliveryOutcome::refused(why, DeferClass::Local),
        DialError::Insecure(insecure) => {
            let rejection = insecure.failure.to_rejection();
            let outcome = DeliveryOutcome::refused(&rejection, DeferClass::Security);
            return DeliveryOutcome { remote: Some(host.to_owned()), ..outcome };
        }
        DialError::Ourselves(_) => {
            let rejection = Rejection::permanent(Status::LOOP, &error.to_string());
            return DeliveryOutcome::refused(&rejection, DeferClass::Peer);
        }
        DialError::Io(_) => {
            (transient(Status::NO_ANSWER, DeferClass::Connection), error.to_string())
        }
        DialError::Tls(_) => {
            (transient(Status::SECURITY, DeferClass::Connection), error.to_string())
        }
        // RFC 5321 §3.1 and §4.2.4.2: a 5yz greeting is final for this host.
        DialError::Lost(Loss::Refused(reply)) => {
            let class = DeferClass::Connection;
            let result = match reply.severity() {
                Some(Severity::Permanent) => DeliveryResult::Failed { status: status(reply) },
                _ => DeliveryResult::Deferred { status: status(reply), class },
            };
            (result, reply.to_string())
        }
        DialError::Lost(_) => {
            (transient(Status::BAD_CONNECTION, DeferClass::Connection), error.to_string())
        }
        // Credentials are our configuration: mail waits until they are mended. The host is well,
        // and others may be known to it.
        DialError::Auth(reply) => {
            (transient(Status::SECURITY, DeferClass::Local), reply.to_string())
        }
        DialError::NoAuth | DialError::Exchange(_) | DialError::Token(_) => {
            (transient(Status::SECURITY, DeferClass::Local), error.to_string())
        }
    };
    DeliveryOutcome { result, remote: Some(host.to_owned()), source: None, diagnostic }
}

/// What a transaction that was cut short means for those of whom nothing is known. `in_doubt` if
/// the whole message had been sent.
pub(super) fn lost(peer: &str, why: Loss, in_doubt: bool) -> DeliveryOutcome {
    let refused = matches!(&why, Loss::Refused(_));
    let mut outcome = unsettled(peer, &DialError::Lost(why));
    if let DeliveryResult::Deferred { class, .. } = &mut outcome.result
        && refused
    {
        // It speaks to us: it is busy, and not down.
        *class = DeferClass::Peer;
    }
    if in_doubt {
        outcome.diagnostic.push_str(" after the message had been sent whole: its reply is unknown");
    }
    outcome
}
