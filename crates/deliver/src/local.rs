//! What transports to this machine's disk have in common.

use std::fs::File;
use std::io;
use std::path::Path;

use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult};
use merpati_plugin::spool::SpoolError;
use merpati_types::{Severity, Status};

/// Why a message could not be stored. The mailbox may be mended: all of it is temporary.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("cannot write to the mailbox: {0}")]
    Mailbox(#[from] io::Error),
    #[error("cannot read the message: {0}")]
    Spool(#[from] SpoolError),
}

impl Trouble {
    /// What it means for the recipient.
    pub(crate) fn outcome(&self, transport: &str) -> DeliveryOutcome {
        let status = match self {
            Self::Mailbox(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                Status::MAILBOX_FULL
            }
            Self::Mailbox(error) if error.kind() == io::ErrorKind::StorageFull => Status::FULL,
            Self::Mailbox(_) | Self::Spool(_) => Status::SYSTEM,
        };
        tracing::warn!(transport, error = %self, "local delivery failed");
        DeliveryOutcome {
            result: DeliveryResult::Deferred {
                status: status.with(Severity::Transient),
                class: DeferClass::Local,
            },
            remote: None,
            source: None,
            diagnostic: "local delivery failed".to_owned(),
        }
    }
}

/// Runs something that may wait for the disk off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes new entries survive a power cut as well as the message: every directory is synced that
/// may have gained one.
pub(crate) fn sync_with_ancestors(directory: &Path) -> io::Result<()> {
    sync_directory(directory)?;
    let mut ancestor = directory.parent();
    for _ in 0..3 {
        let Some(existing) = ancestor else { break };
        if existing.as_os_str().is_empty() {
            break;
        }
        sync_directory(existing)?;
        ancestor = existing.parent();
    }
    Ok(())
}
