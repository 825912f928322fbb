//! A spool that only keeps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::spool::{
    Change, Changed, Committed, Cursor, Durability, Filter, Lease, Listed, NewMessage, NextHops,
    Parcel, Queued, Settlement, Share, Stats,
};
use merpati_plugin::{BodySource, Spool, SpoolError, SpoolWriter, async_trait};
use merpati_types::{MessageId, Timestamp};

type Kept = Arc<Mutex<Vec<(NewMessage, Bytes)>>>;

/// What was committed.
#[derive(Default)]
pub(crate) struct Mailbox(Kept);

impl Mailbox {
    pub(crate) fn take(&self) -> Vec<(NewMessage, Bytes)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Writer {
    kept: Kept,
    bytes: BytesMut,
}

#[async_trait]
impl SpoolWriter for Writer {
    fn id(&self) -> MessageId {
        unreachable!("nobody asks")
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), SpoolError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn written(&mut self) -> Result<Arc<dyn BodySource>, SpoolError> {
        unreachable!("nobody asks")
    }

    async fn commit(
        self: Box<Self>,
        message: NewMessage,
        _: Durability,
    ) -> Result<Committed, SpoolError> {
        self.kept.lock().unwrap().push((message, self.bytes.freeze()));
        Ok(Committed::New)
    }
}

#[async_trait]
impl Spool for Mailbox {
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        Ok(Box::new(Writer { kept: Arc::clone(&self.0), bytes: BytesMut::new() }))
    }

    async fn message(&self, _: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError> {
        Err(SpoolError::NotFound)
    }

    async fn lease(
        &self,
        _: Timestamp,
        _: Duration,
        _: &NextHops,
        _: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError> {
        Ok(Vec::new())
    }

    async fn renew(&self, _: &Lease, _: Timestamp) -> Result<Lease, SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn release(&self, _: Lease, _: Timestamp) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn attempt(&self, _: &Lease, _: &str) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn settle(&self, _: Lease, _: Settlement) -> Result<(), SpoolError> {
        Err(SpoolError::StaleLease)
    }

    async fn wait_due(&self, _: Timestamp) {}

    async fn list(
        &self,
        _: &Filter,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        Ok(Vec::new())
    }

    async fn change(
        &self,
        _: &Filter,
        _: &Change,
        _: Option<Cursor>,
        _: usize,
    ) -> Result<Changed, SpoolError> {
        unreachable!("nobody asks")
    }

    fn queued(&self, _: Share<'_>) -> Queued {
        unreachable!("nobody asks")
    }

    async fn stats(&self) -> Result<Stats, SpoolError> {
        unreachable!("nobody asks")
    }

    async fn close(&self) {}
}
