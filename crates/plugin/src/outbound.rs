//! Outbound policies: asked at every stage of an attempt, and told how it ended.
//!
//! - At *route* a policy may keep recipients from being tried; at *dial*, *tls* and *send* it may
//!   stop what is about to happen. All are asked in configured order; the first that stops counts.
//! - At *send* a policy may also have the message go under another reverse path, or each recipient
//!   under one of its own. Reports of ours go to the sender that the message came with.
//! - What a policy stops for now is deferred, what it stops for good fails with its words.
//! - A policy that fails, panics or exceeds its time limit defers the mail, and its text stays in
//!   the log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use merpati_types::{Rejection, ReversePath};

use crate::decision::Failure;
use crate::deliver::{DeliveryOutcome, MessageSource};
use crate::guard::{failed, guarded};
use crate::spool::Parcel;

/// Whether to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// No objection.
    Proceed,
    /// Not now, or never: as the rejection's severity says.
    Stop(Rejection),
}

/// A recipient that is not to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its place among the message's recipients, as in [`Parcel::pending`].
    pub recipient: u32,
    /// Why; what is transient is tried again.
    pub why: Rejection,
}

/// The host at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteHost<'a> {
    /// Its name, or its address where it has none.
    pub name: &'a str,
    /// `[address]:port`, or the path of a socket.
    pub address: &'a str,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// As IANA spells it, for example `TLSv1.3`.
    pub version: String,
    /// The cipher suite, as IANA spells it.
    pub cipher: String,
    /// Whether the host has proved to be who it should be.
    pub authenticated: bool,
}

/// What a policy says before a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Send it with these header fields in front, each ending with CRLF; none is none.
    With(Bytes),
    /// Not now, or never: as the rejection's severity says.
    Stop(Rejection),
}

/// Under which reverse path a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendAs {
    /// Under the one it has.
    Itself,
    /// Under this one.
    All(ReversePath),
    /// Each recipient under one of its own, in a transaction of its own: one for each that is
    /// pending, in their order.
    Each(Vec<ReversePath>),
}

/// Has a say in deliveries. One object per process, shared by all attempts.
#[async_trait]
pub trait OutboundPolicy: Send + Sync {
    /// The name in configuration and logs.
    fn name(&self) -> &str;

    /// Before an attempt: which recipients are not to be tried.
    async fn route(&self, _parcel: &Parcel) -> Result<Vec<Stopped>, Failure> {
        Ok(Vec::new())
    }

    /// Before a connection to this host is opened.
    async fn dial(&self, _parcel: &Parcel, _host: RemoteHost<'_>) -> Result<Leave, Failure> {
        Ok(Leave::Proceed)
    }

    /// Before mail goes over a connection; `tls` is `None` in the clear.
    async fn tls(
        &self,
        _parcel: &Parcel,
        _host: RemoteHost<'_>,
        _tls: Option<&PeerTls>,
    ) -> Result<Leave, Failure> {
        Ok(Leave::Proceed)
    }

    /// Before a message is handed to its transport: under which reverse path it goes. Later
    /// policies are asked about what earlier ones have made of it ([`Parcel::reverse_path`]).
    async fn send_as(&self, _parcel: &Parcel) -> Result<SendAs, Failure> {
        Ok(SendAs::Itself)
    }

    /// Before a message is handed to its transport: what goes in front of it. Later policies see
    /// the message without what earlier ones put there.
    async fn send(
        &self,
        _parcel: &Parcel,
        _message: &dyn MessageSource,
    ) -> Result<Sending, Failure> {
        Ok(Sending::With(Bytes::new()))
    }

    /// An attempt is over: an outcome for each of the parcel's recipients, in their order.
    async fn outcome(&self, _parcel: &Parcel, _outcomes: &[DeliveryOutcome]) {}
}

/// The outbound policies of a server, in order.
#[derive(Clone, Default)]
pub struct OutboundChain(Arc<[Link]>);

struct Link {
    policy: Arc<dyn OutboundPolicy>,
    limit: Duration,
}

impl OutboundChain {
    /// A chain of policies, each with its time limit.
    #[must_use]
    pub fn new(policies: Vec<(Arc<dyn OutboundPolicy>, Duration)>) -> Self {
        Self(policies.into_iter().map(|(policy, limit)| Link { policy, limit }).collect())
    }

    /// Asks at *route*: for each pending recipient of the parcel, why it is not to be tried.
    pub async fn route(&self, parcel: &Parcel) -> Vec<Option<Rejection>> {
        let mut verdicts = vec![None; parcel.pending.len()];
        for link in &*self.0 {
            match link.ask("route", parcel, link.policy.route(parcel)).await {
                Ok(stopped) => {
                    for Stopped { recipient, why } in stopped {
                        let place = parcel.pending.iter().position(|&place| place == recipient);
                        if let Some(verdict) = place.map(|place| &mut verdicts[place]) {
                            verdict.get_or_insert(why);
                        }
                    }
                }
                Err(failed) => {
                    for verdict in verdicts.iter_mut().filter(|verdict| verdict.is_none()) {
                        *verdict = Some(failed.clone());
                    }
                }
            }
        }
        verdicts
    }

    /// Asks at *dial*.
    ///
    /// # Errors
    /// Why there is to be no connection.
    pub async fn dial(&self, parcel: &Parcel, host: RemoteHost<'_>) -> Result<(), Rejection> {
        for link in &*self.0 {
            proceed(link.ask("dial", parcel, link.policy.dial(parcel, host)).await?)?;
        }
        Ok(())
    }

    /// Asks at *tls*.
    ///
    /// # Errors
    /// Why nothing is to go over this connection.
    pub async fn tls(
        &self,
        parcel: &Parcel,
        host: RemoteHost<'_>,
        tls: Option<&PeerTls>,
    ) -> Result<(), Rejection> {
        for link in &*self.0 {
            proceed(link.ask("tls", parcel, link.policy.tls(parcel, host, tls)).await?)?;
        }
        Ok(())
    }

    /// Asks at *send* under which reverse path the message goes: the parcel in as many parts as it
    /// needs transactions, each with its sender. The parts have the pending recipients in their
    /// order.
    ///
    /// # Errors
    /// Why the message is not to be sent.
    pub async fn send_as(&self, parcel: &Arc<Parcel>) -> Result<Vec<Arc<Parcel>>, Rejection> {
        let mut parts = vec![Arc::clone(parcel)];
        for link in &*self.0 {
            let mut made = Vec::with_capacity(parts.len());
            for part in parts {
                match link.ask("send", parcel, link.policy.send_as(&part)).await? {
                    SendAs::Itself => made.push(part),
                    SendAs::All(sender) => made.push(Arc::new(part.under(sender))),
                    SendAs::Each(senders) if senders.len() == part.pending.len() => {
                        let each = senders.into_iter().zip(part.recipients());
                        made.extend(
                            each.map(|(sender, (place, _))| {
                                Arc::new(part.alone(place).under(sender))
                            }),
                        );
                    }
                    SendAs::Each(_) => {
                        let plugin = link.policy.name();
                        tracing::warn!(id = %parcel.id, plugin, "senders for other recipients");
                        return Err(failed());
                    }
                }
            }
            parts = made;
        }
        Ok(parts)
    }

    /// Asks at *send*: what goes in front of the message, the last policy's fields first.
    ///
    /// # Errors
    /// Why the message is not to be sent.
    pub async fn send(
        &self,
        parcel: &Parcel,
        message: &dyn MessageSource,
    ) -> Result<Bytes, Rejection> {
        let mut fields = BytesMut::new();
        for link in &*self.0 {
            match link.ask("send", parcel, link.policy.send(parcel, message)).await? {
                Sending::With(more) if more.is_empty() => {}
                Sending::With(more) => {
                    let below = fields.split();
                    fields.extend_from_slice(&more);
                    fields.extend_from_slice(&below);
                }
                Sending::Stop(why) => return Err(why),
            }
        }
        Ok(fields.freeze())
    }

    /// Tells of the end of an attempt.
    pub async fn outcome(&self, parcel: &Parcel, outcomes: &[DeliveryOutcome]) {
        for link in &*self.0 {
            let tell = async {
                link.policy.outcome(parcel, outcomes).await;
                Ok(())
            };
            // There is nothing left to stop; what went wrong is in the log.
            let _ = link.ask("outcome", parcel, tell).await;
        }
    }
}

impl Link {
    async fn ask<T>(
        &self,
        stage: &'static str,
        parcel: &Parcel,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Rejection> {
        let (what, reason) = match guarded(self.limit, call).await.result {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => ("failed", Some(failure.to_string())),
            Err(gone) => gone.tell(),
        };
        let reason = reason.as_deref().unwrap_or_default();
        let plugin = self.policy.name();
        tracing::warn!(id = %parcel.id, stage, plugin, reason, "outbound policy {what}");
        Err(failed())
    }
}

fn proceed(leave: Leave) -> Result<(), Rejection> {
    match leave {
        Leave::Proceed => Ok(()),
        Leave::Stop(why) => Err(why),
    }
}

#[cfg(test)]
mod tests;
