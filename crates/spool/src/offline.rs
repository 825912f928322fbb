//! A spool whose server is down: looked into, checked and mended.
//!
//! The same engine as ever opens the directory, on a disk whose changes stay in memory. So what
//! is found here is what a server would find, and nothing is changed by looking.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use merpati_journal::{Content, Disk};
use merpati_plugin::spool::Spool;
use merpati_store::MemoryStore;
use merpati_types::MessageId;

use crate::fact::kind;
use crate::open::{OpenError, OpenIndex, Options, Places, Report, open_on};
use crate::spool::{DiskSpool, Inner};

mod check;
mod overlay;
mod repair;
#[cfg(test)]
mod tests;

pub use check::{Problem, Severity};
use overlay::Overlay;
pub use repair::{Repair, repair};

/// Why a spool cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// Its server runs: ask that one.
    #[error("a server has the spool open: use `merpati queue`, or stop it first")]
    Running,
    /// There is no spool.
    #[error("there is no spool in {}", path.display())]
    Nothing {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("the spool cannot be opened")]
    Open(#[source] OpenError),
    /// The disk failed.
    #[error("the spool cannot be read")]
    Io(#[from] io::Error),
}

impl From<OpenError> for OfflineError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Journal(merpati_journal::OpenError::Locked) => Self::Running,
            error => Self::Open(error),
        }
    }
}

/// A spool that no server has open, for reading. It is locked as long as this lives.
///
/// Memory grows with the number of messages, by some hundred octets each.
pub struct Offline {
    spool: DiskSpool,
    report: Arc<Report>,
    directory: PathBuf,
    journal: Arc<Overlay>,
    bodies: Arc<Overlay>,
}

/// What a spool takes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments of the journal.
    pub segments: u64,
    /// Their octets on the disk.
    pub journal_octets: u64,
    /// Octets of the journal that messages still to be delivered need.
    pub live_octets: u64,
    /// Body files.
    pub body_files: u64,
    /// Their octets.
    pub body_octets: u64,
}

impl Offline {
    /// Opens the spool in a directory and reads all of its journal. Waits for the disk.
    ///
    /// # Errors
    /// [`OfflineError`]; damage is none.
    pub fn open(directory: &Path) -> Result<Self, OfflineError> {
        let place = |name: &str| directory.join(name);
        if !place("journal").is_dir() {
            return Err(OfflineError::Nothing { path: directory.to_owned() });
        }
        let journal = Arc::new(Overlay::new(place("journal")));
        let bodies = Arc::new(Overlay::new(place("bodies")));
        let store = MemoryStore::new();
        let index: OpenIndex = Box::new(move |_| Ok(Arc::new(store.clone())));
        let places = Places { journal: journal.clone(), bodies: bodies.clone(), index };
        let options = Options {
            min_free: 0,
            checkpoint_every: Duration::from_secs(86_400),
            ..Options::default()
        };
        let spool = open_on(places, options)?;
        let report = spool.inner().whole.wait();
        Ok(Self { spool, report, directory: directory.to_owned(), journal, bodies })
    }

    /// The spool as a server would see it. What is changed through this is lost.
    #[must_use]
    pub fn spool(&self) -> &dyn Spool {
        &self.spool
    }

    /// Every message that has a recipient left, in the order of their ids.
    ///
    /// # Errors
    /// A segment cannot be read at all.
    pub fn messages(&self) -> Result<BTreeSet<MessageId>, OfflineError> {
        let mut found = BTreeSet::new();
        for segment in self.inner().journal.reader().segments() {
            let own = self.contents(segment)?.into_iter().filter(is_own);
            found.extend(own.map(|content| MessageId::from_u64(content.key)));
        }
        found.retain(|id| self.is_live(*id));
        Ok(found)
    }

    /// What it takes on the disk.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn usage(&self) -> Result<Usage, OfflineError> {
        let octets = |overlay: &Overlay, part: &str, name: &String| -> io::Result<u64> {
            match std::fs::metadata(self.directory.join(part).join(name)) {
                Ok(metadata) => Ok(metadata.len()),
                Err(_) => overlay.open(name)?.size(),
            }
        };
        let mut usage = Usage {
            live_octets: self.inner().core().state.octets_in_journal(),
            ..Usage::default()
        };
        for name in self.journal.files()?.iter().filter(|name| name.ends_with(".seg")) {
            usage.segments += 1;
            usage.journal_octets += octets(&self.journal, "journal", name)?;
        }
        for name in &self.bodies.files()? {
            usage.body_files += 1;
            usage.body_octets += octets(&self.bodies, "bodies", name)?;
        }
        Ok(usage)
    }

    fn inner(&self) -> &Inner {
        self.spool.inner()
    }

    /// What a segment holds; nothing if it holds nothing that counts.
    fn contents(&self, segment: u64) -> Result<Vec<Content>, OfflineError> {
        match self.inner().journal.reader().contents(segment) {
            Ok(contents) => Ok(contents),
            Err(merpati_journal::ReadError::Io(error)) => Err(error.into()),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn is_live(&self, id: MessageId) -> bool {
        matches!(self.inner().core().view(id), Ok(Some(_)))
    }
}

/// Whether it is a message's own record.
fn is_own(content: &Content) -> bool {
    matches!(content.kind, kind::MESSAGE | kind::COPY)
}
