//! Opening: index, then journal, then what is left over.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use merpati_journal::{Disk, Journal, OsDisk, Recovery};
use merpati_store::{SledStore, Store, StoreError};
use merpati_types::MessageId;
use tokio::sync::Notify;

use crate::body::{Budget, file_name};
use crate::core::Core;
use crate::fact::{Fact, Place};
use crate::index::{Index, Summary};
use crate::maintain::Maintenance;
use crate::spool::{DiskSpool, Inner, now_millis};
use crate::state::State;

/// How the spool uses disk and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Octets up to which a body stays in memory and goes into the journal; 256 KiB by
    /// default. Larger ones have a file of their own.
    pub small_body: usize,
    /// Octets of small bodies that the process holds in memory, on their way in and until
    /// their first attempt; 8 MiB by default. Past it they go through files.
    pub memory: usize,
    /// Octets of the disk that are left free: less is answered with 452; 100 MB by default.
    pub min_free: u64,
    /// Octets of sled's cache; 8 MiB by default.
    pub index_cache: u64,
    /// How often the index is brought up to date and space is freed; 5 s by default.
    pub checkpoint_every: Duration,
    /// The journal's own.
    pub journal: merpati_journal::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            small_body: 256 << 10,
            memory: 8 << 20,
            min_free: 100_000_000,
            index_cache: 8 << 20,
            checkpoint_every: Duration::from_secs(5),
            journal: merpati_journal::Options::default(),
        }
    }
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages with a recipient left.
    pub messages: u64,
    /// What the journal found; each of its damages is an alarm.
    pub journal: Recovery,
    /// Messages with a record that cannot be understood: an alarm each.
    pub malformed: Vec<MessageId>,
    /// Messages whose body file is missing: an alarm each.
    pub missing_bodies: Vec<MessageId>,
    /// Body files that nothing named, now removed.
    pub swept: u64,
    /// Why the index was made anew, if it was.
    pub index_rebuilt: Option<String>,
}

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The journal cannot be used.
    #[error("the spool's journal cannot be opened")]
    Journal(#[from] merpati_journal::OpenError),
    /// The index is locked, or its disk refuses.
    #[error("the spool's index cannot be opened")]
    Index(#[source] StoreError),
    /// The directory cannot be used.
    #[error("the spool's directory cannot be used")]
    Io(#[from] io::Error),
}

/// Where the spool keeps what it keeps.
pub(crate) struct Places {
    pub(crate) journal: Arc<dyn Disk>,
    pub(crate) bodies: Arc<dyn Disk>,
    pub(crate) index: Arc<dyn Store>,
}

pub(crate) fn open(directory: &Path, options: Options) -> Result<(DiskSpool, Report), OpenError> {
    // The journal's lock comes first: it keeps a second process off all the rest.
    OsDisk::open(directory)?;
    let journal = Arc::new(OsDisk::open(directory.join("journal"))?);
    let bodies = Arc::new(OsDisk::open(directory.join("bodies"))?);
    let (index, rebuilt) = open_index(&directory.join("index"), options)?;
    let (spool, mut report) = open_on(Places { journal, bodies, index }, options)?;
    report.index_rebuilt = report.index_rebuilt.or(rebuilt);
    Ok((spool, report))
}

fn open_index(
    path: &Path,
    options: Options,
) -> Result<(Arc<dyn Store>, Option<String>), OpenError> {
    let open = || SledStore::open(path, merpati_store::Options { cache: options.index_cache });
    match open() {
        Ok(store) => Ok((Arc::new(store), None)),
        Err(error @ StoreError::Damaged(_)) => {
            tracing::warn!(%error, "the spool's index is damaged: it is made anew");
            std::fs::remove_dir_all(path)?;
            Ok((Arc::new(open().map_err(OpenError::Index)?), Some(error.to_string())))
        }
        Err(error) => Err(OpenError::Index(error)),
    }
}

/// Opens on any disk and store.
pub(crate) fn open_on(places: Places, options: Options) -> Result<(DiskSpool, Report), OpenError> {
    let Places { journal, bodies, index } = places;
    let mut report = Report::default();
    let mut state = State::default();
    let (index, summary) = load(index, &mut state, &mut report)?;

    let mut last_id = summary.last_id;
    let journal_options = merpati_journal::Options { replay_from: summary.from, ..options.journal };
    let (journal, recovery) = Journal::open(journal, journal_options, |entry| {
        last_id = last_id.max(entry.key);
        if entry.seq < summary.from {
            return;
        }
        match Fact::from_entry(&entry) {
            Ok((id, fact)) => state.replay(entry.seq, entry.position, id, fact),
            Err(error) => {
                let id = MessageId::from_u64(entry.key);
                tracing::error!(message = %id, %error, "a record makes no sense");
                report.malformed.push(id);
            }
        }
    })?;
    state.retain_segments(&recovery.segments.iter().copied().collect());
    state.fence_from(now_millis() << 16);
    report.messages = state.messages().count() as u64;
    last_id = state.messages().map(|(id, _)| id.as_u64()).fold(last_id, u64::max);
    sweep(&*bodies, &state, &mut report)?;

    let (work, todo) = mpsc::channel();
    let highest = recovery.last;
    report.journal = recovery;
    let inner = Arc::new(Inner {
        journal,
        bodies,
        options,
        budget: Budget::new(options.memory),
        notify: Notify::new(),
        closed: AtomicBool::new(false),
        last_id: AtomicU64::new(last_id),
        work,
        core: Mutex::new(Core::new(state, highest)),
    });
    let maintenance = Maintenance::new(inner.clone(), index);
    let thread =
        std::thread::Builder::new().name("spool".into()).spawn(move || maintenance.run(&todo))?;
    Ok((DiskSpool::new(inner, thread), report))
}

/// Fills the state from the index, if that can be used.
fn load(
    store: Arc<dyn Store>,
    state: &mut State,
    report: &mut Report,
) -> Result<(Option<Index>, Summary), OpenError> {
    let mut index = Index::open(store).map_err(OpenError::Index)?;
    match index.load(state) {
        Ok((summary, rebuilt)) => {
            report.index_rebuilt = rebuilt;
            Ok((Some(index), summary))
        }
        Err(error) => {
            tracing::warn!(%error, "the spool's index cannot be read: it is not used");
            *state = State::default();
            report.index_rebuilt = Some(error.to_string());
            Ok((None, Summary::default()))
        }
    }
}

/// Removes body files that nothing names, and notes those that are missing.
fn sweep(bodies: &dyn Disk, state: &State, report: &mut Report) -> io::Result<()> {
    let mut needed: BTreeSet<String> = state
        .messages()
        .filter(|(_, live)| live.place == Place::File)
        .map(|(id, _)| file_name(id))
        .collect();
    for name in bodies.list()? {
        if !needed.remove(&name) {
            bodies.unlink(&name)?;
            report.swept += 1;
        }
    }
    for id in needed.iter().filter_map(|name| name.parse().ok()) {
        tracing::error!(message = %id, "a body file is missing");
        report.missing_bodies.push(id);
    }
    Ok(())
}
