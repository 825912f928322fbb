//! The ways in: a message from outside, and the follow-ups of a settlement.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use merpati_journal::{Durability as Sync, Group};
use merpati_plugin::BodySource;
use merpati_plugin::spool::{
    Committed, Durability, FollowUp, Lease, MessageInfo, NewMessage, Settlement, SpoolError,
    SpoolWriter,
};
use merpati_types::MessageId;

use crate::body::{FileWriter, Kept, Reservation, Stored, spool_error};
use crate::core::Flying;
use crate::fact::{Fact, Place};
use crate::maintain::Work;
use crate::spool::Inner;
use crate::state::Fresh;

/// How long an outcome may be written but not yet synced.
const OUTCOME_WITHIN: Duration = Duration::from_millis(50);

/// A message on its way in.
pub(crate) struct Writer {
    inner: Arc<Inner>,
    id: MessageId,
    body: Body,
}

enum Body {
    /// All of it, while it is small and there is room.
    Memory {
        head: Bytes,
        tail: BytesMut,
        reserved: Reservation,
    },
    File(FileWriter),
    /// Taken by a commit, or lost to an error.
    Gone {
        file: bool,
    },
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let id = inner.next_id();
        let reserved = inner.budget.reserve();
        let body = Body::Memory { head: Bytes::new(), tail: BytesMut::new(), reserved };
        Self { inner, id, body }
    }

    /// Moves what is in memory to a file.
    async fn spill(&mut self) -> Result<&mut FileWriter, SpoolError> {
        if !matches!(self.body, Body::File(_)) {
            let created = FileWriter::create(self.inner.bodies.clone(), self.id).await;
            let mut writer = created.map_err(spool_error)?;
            let before = std::mem::replace(&mut self.body, Body::Gone { file: true });
            if let Body::Memory { head, tail, .. } = before {
                writer.write(&head).await.map_err(spool_error)?;
                writer.write(&tail).await.map_err(spool_error)?;
            }
            self.body = Body::File(writer);
        }
        match &mut self.body {
            Body::File(writer) => Ok(writer),
            Body::Memory { .. } | Body::Gone { .. } => Err(gone()),
        }
    }

    /// The body as a commit needs it: synced, if it is a file.
    async fn finish(&mut self) -> Result<(u64, Option<(Bytes, Reservation)>), SpoolError> {
        let file = matches!(self.body, Body::File(_));
        match std::mem::replace(&mut self.body, Body::Gone { file }) {
            Body::Memory { head, tail, reserved } => {
                let bytes = join(head, tail);
                Ok((bytes.len() as u64, Some((bytes, reserved))))
            }
            Body::File(writer) => {
                let size = writer.size();
                writer.finish(self.inner.bodies.clone()).await.map_err(spool_error)?;
                Ok((size, None))
            }
            Body::Gone { .. } => Err(gone()),
        }
    }
}

#[async_trait]
impl SpoolWriter for Writer {
    fn id(&self) -> MessageId {
        self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), SpoolError> {
        let small = self.inner.options.small_body;
        match &mut self.body {
            Body::Memory { head, tail, reserved } => {
                let fits = head.len() + tail.len() + bytes.len() <= small;
                if fits && reserved.grow(bytes.len()) {
                    tail.extend_from_slice(&bytes);
                    return Ok(());
                }
                self.spill().await?.write(&bytes).await.map_err(spool_error)
            }
            Body::File(writer) => writer.write(&bytes).await.map_err(spool_error),
            Body::Gone { .. } => Err(gone()),
        }
    }

    async fn written(&mut self) -> Result<Arc<dyn BodySource>, SpoolError> {
        match &mut self.body {
            Body::Memory { head, tail, .. } => {
                *head = join(std::mem::take(head), std::mem::take(tail));
                Ok(Arc::new(Stored::Memory(head.clone())))
            }
            Body::File(writer) => {
                writer.flush().await.map_err(spool_error)?;
                Ok(Arc::new(Stored::File { file: writer.file.clone(), size: writer.size() }))
            }
            Body::Gone { .. } => Err(gone()),
        }
    }

    async fn commit(
        mut self: Box<Self>,
        message: NewMessage,
        durability: Durability,
    ) -> Result<Committed, SpoolError> {
        if message.envelope.recipients.is_empty() {
            let error = std::io::Error::other("a message without recipients");
            return Err(SpoolError::Unavailable(error));
        }
        if let Some(key) = message.origin.repeat
            && let Some(first) = self.inner.core().repeats.first(key, message.arrived)
        {
            return Ok(Committed::Repeat(first));
        }
        let (size, memory) = self.finish().await?;
        let info = Arc::new(MessageInfo { message, size });
        let place = if memory.is_some() { Place::Inline } else { Place::File };
        let fact = Fact::Message { info: info.clone(), place };
        let body = memory.iter().map(|(bytes, _)| bytes.clone()).collect();
        let group = Group::from(fact.to_record(self.id, body));
        let fresh = self.inner.budget.is_ample().then(|| {
            let body = memory.map(|(bytes, reserved)| Kept::new(bytes, reserved));
            Fresh { info, body }
        });
        let flying = Flying { id: self.id, fact, fresh };
        let durability = match durability {
            Durability::Sync => Sync::Sync,
            Durability::Group { within } => Sync::Group { within },
        };
        #[cfg(test)]
        let durability = crate::tests::planted::durability(durability);
        // From here the file is the flight's to clear away.
        self.body = Body::Gone { file: false };
        let inner = self.inner.clone();
        let journal = &inner.journal;
        let append = || journal.append(group, durability);
        let flight = inner.core().launch(journal, vec![flying], None, append);
        inner.land(flight).await?;
        Ok(Committed::New)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if matches!(self.body, Body::File(_) | Body::Gone { file: true }) {
            // If nobody listens, the next start sweeps it.
            let _ = self.inner.work.send(Work::Unlink(self.id));
        }
    }
}

fn join(head: Bytes, tail: BytesMut) -> Bytes {
    if head.is_empty() {
        return tail.freeze();
    }
    if tail.is_empty() {
        return head;
    }
    [head, tail.freeze()].concat().into()
}

fn gone() -> SpoolError {
    SpoolError::Unavailable(std::io::Error::other("an earlier write of this message failed"))
}

/// Records what became of an attempt, and the messages that follow from it, as one.
pub(crate) async fn settle(
    inner: &Arc<Inner>,
    lease: Lease,
    settlement: Settlement,
) -> Result<(), SpoolError> {
    inner.core().state.check(&lease)?;
    let Settlement { results, retry_at, warned, follow_ups } = settlement;
    let durability =
        if follow_ups.is_empty() { Sync::Soon { within: OUTCOME_WITHIN } } else { Sync::Sync };
    let mut written = Written { inner: inner.clone(), files: Vec::new() };
    let mut flying = Vec::with_capacity(1 + follow_ups.len());
    let mut records = Vec::with_capacity(1 + follow_ups.len());
    for follow_up in follow_ups {
        let (id, fact, body) = written.follow_up(follow_up).await?;
        records.push(fact.to_record(id, body));
        flying.push(Flying::new(id, fact));
    }
    let flight = {
        let mut core = inner.core();
        let fact = core.state.settle(&lease, results, retry_at, warned)?;
        let id = lease.parcel.message;
        records.insert(0, fact.to_record(id, Vec::new()));
        flying.insert(0, Flying::new(id, fact));
        let journal = &inner.journal;
        let group = Group::new(records);
        let append = || journal.append_urgent(group, durability);
        core.launch(journal, flying, Some(lease.parcel), append)
    };
    written.files.clear();
    inner.land(flight).await
}

/// Body files of follow-ups that no flight has taken yet.
struct Written {
    inner: Arc<Inner>,
    files: Vec<MessageId>,
}

impl Written {
    async fn follow_up(
        &mut self,
        follow_up: FollowUp,
    ) -> Result<(MessageId, Fact, Vec<Bytes>), SpoolError> {
        let FollowUp { message, body } = follow_up;
        let id = self.inner.next_id();
        let info = Arc::new(MessageInfo { message, size: body.len() as u64 });
        if body.len() <= self.inner.options.small_body {
            return Ok((id, Fact::Message { info, place: Place::Inline }, vec![body]));
        }
        let bodies = self.inner.bodies.clone();
        let mut writer = FileWriter::create(bodies.clone(), id).await.map_err(spool_error)?;
        self.files.push(id);
        writer.write(&body).await.map_err(spool_error)?;
        writer.finish(bodies).await.map_err(spool_error)?;
        Ok((id, Fact::Message { info, place: Place::File }, Vec::new()))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for id in self.files.drain(..) {
            // If nobody listens, the next start sweeps it.
            let _ = self.inner.work.send(Work::Unlink(id));
        }
    }
}
