//! The signer as an outbound policy: messages are signed as they are sent.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{BodyReader, Failure, OutboundPolicy, Sending, async_trait};
use merpati_types::{HeaderSection, MessageId, Timestamp};

use crate::signer::SignError;
use crate::signers::DkimSigners;

/// How long a signature is used again, for the other parcels of its message.
const REUSE: Duration = Duration::from_secs(60);
/// How many are kept for that.
const KEPT: usize = 64;

/// Signs what leaves with DKIM, if its author's domain has a signer. What cannot be signed, and
/// could not be verified either, is sent as it is.
pub struct DkimPolicy {
    signers: DkimSigners,
    now: fn() -> Timestamp,
    recent: Mutex<VecDeque<(MessageId, Timestamp, Bytes)>>,
}

impl DkimPolicy {
    /// A policy with these signers, and a clock for when signatures are made.
    #[must_use]
    pub fn new(signers: DkimSigners, now: fn() -> Timestamp) -> Self {
        Self { signers, now, recent: Mutex::default() }
    }

    /// Reads the options, as [`DkimSigners::from_options`] does.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, now: fn() -> Timestamp) -> Result<Self, Invalid> {
        Ok(Self::new(DkimSigners::from_options(options)?, now))
    }

    async fn sign(&self, parcel: &Parcel, message: &dyn MessageSource) -> Result<Bytes, Failure> {
        let id = parcel.id.message;
        let unsigned = |why: &dyn std::fmt::Display| {
            tracing::warn!(%id, %why, "sent without a DKIM signature");
            Ok(Bytes::new())
        };
        let mut reader = message.open().await?;
        let head = read_head(&mut *reader).await?;
        let header = match HeaderSection::read(&head) {
            Ok(header) => header,
            Err(error) => return unsigned(&error),
        };
        let Some(signer) = self.signers.for_message(&header) else { return Ok(Bytes::new()) };
        let rest = head.slice(header.raw().len()..);
        let body = match rest.strip_prefix(b"\r\n") {
            Some(body) => body,
            None if rest.is_empty() => &[],
            // Readers do not agree where the body of such a message begins.
            None => return unsigned(&"its header section ends with a line that is no field"),
        };
        let mut hasher = signer.hash_body();
        hasher.write(body);
        while let Some(piece) = reader.next().await? {
            hasher.write(&piece);
        }
        match hasher.finish().and_then(|body| signer.sign(&header, &body, (self.now)())) {
            Ok(fields) => Ok(fields),
            Err(error @ SignError::Key { .. }) => Err(error.into()),
            Err(error) => unsigned(&error),
        }
    }

    fn recent(&self, id: MessageId) -> Option<Bytes> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at, fields) = recent.iter().find(|(other, _, _)| *other == id)?;
        ((self.now)().since(*at) < REUSE).then(|| fields.clone())
    }

    fn keep(&self, id: MessageId, fields: Bytes) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(other, _, _)| *other != id);
        if recent.len() >= KEPT {
            recent.pop_front();
        }
        recent.push_back((id, (self.now)(), fields));
    }
}

#[async_trait]
impl OutboundPolicy for DkimPolicy {
    fn name(&self) -> &str {
        "dkim"
    }

    async fn send(&self, parcel: &Parcel, message: &dyn MessageSource) -> Result<Sending, Failure> {
        let id = parcel.id.message;
        if let Some(fields) = self.recent(id) {
            return Ok(Sending::With(fields));
        }
        let fields = self.sign(parcel, message).await?;
        self.keep(id, fields.clone());
        Ok(Sending::With(fields))
    }
}

/// The header section, the empty line after it, and what else is in the same piece; no more than
/// it takes to see that the section is too long.
async fn read_head(reader: &mut dyn BodyReader) -> Result<Bytes, Failure> {
    let Some(first) = reader.next().await? else { return Ok(Bytes::new()) };
    if ends_inside(&first) {
        return Ok(first);
    }
    let mut head = BytesMut::from(&*first);
    while head.len() <= HeaderSection::OCTET_LIMIT && !ends_inside(&head) {
        let Some(piece) = reader.next().await? else { break };
        head.extend_from_slice(&piece);
    }
    Ok(head.freeze())
}

fn ends_inside(head: &[u8]) -> bool {
    head.starts_with(b"\r\n") || memmem::find(head, b"\r\n\r\n").is_some()
}

#[cfg(test)]
mod tests;
