//! Opening: the end of the journal first, so that mail can be taken; the rest is read beside.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use merpati_journal::{Disk, Journal, OsDisk, Recovery};
use merpati_plugin::spool::IndexState;
use merpati_store::{SledStore, Store, StoreError};
use merpati_types::MessageId;
use tokio::sync::Notify;

use crate::body::Budget;
use crate::core::Core;
use crate::maintain::Maintenance;
use crate::repeats::Repeats;
use crate::spool::{DiskSpool, Inner, now_millis, unforeseen_bits};
use crate::whole::Whole;

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
    /// Files that can still be made on the disk: fewer are answered with 452; 1,000 by default.
    pub min_free_files: u64,
    /// Octets of sled's cache; 8 MiB by default.
    pub index_cache: u64,
    /// Messages that stay in memory although they need not, because nothing is done with them
    /// within a minute; 10,000 by default. What else is in memory is on its way in or out.
    pub resident: usize,
    /// How long a transaction is remembered that a client may repeat because it never saw our
    /// reply; zero, the default, takes every transaction for a new one.
    pub repeat_window: Duration,
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
            min_free_files: 1000,
            index_cache: 8 << 20,
            resident: 10_000,
            repeat_window: Duration::ZERO,
            checkpoint_every: Duration::from_secs(5),
            journal: merpati_journal::Options::default(),
        }
    }
}

/// What was found once everything had been read.
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

impl Report {
    /// How many things an operator must know of.
    pub(crate) fn alarms(&self) -> u64 {
        (self.journal.damage.len() + self.malformed.len() + self.missing_bodies.len()) as u64
    }
}

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The journal cannot be used.
    #[error("the spool's journal cannot be opened")]
    Journal(#[from] merpati_journal::OpenError),
    /// The directory cannot be used.
    #[error("the spool's directory cannot be used")]
    Io(#[from] io::Error),
}

/// Where the spool keeps what it keeps.
pub(crate) struct Places {
    pub(crate) journal: Arc<dyn Disk>,
    pub(crate) bodies: Arc<dyn Disk>,
    pub(crate) index: OpenIndex,
}

/// Opens the index's store; from nothing if that is asked for.
pub(crate) type OpenIndex = Box<dyn FnMut(Anew) -> Result<Arc<dyn Store>, StoreError> + Send>;

/// Whether a store begins empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anew {
    Yes,
    No,
}

pub(crate) fn open(directory: &Path, options: Options) -> Result<DiskSpool, OpenError> {
    // The journal's lock comes first: it keeps a second process off all the rest.
    OsDisk::open(directory)?;
    let journal = Arc::new(OsDisk::open(directory.join("journal"))?);
    let bodies = Arc::new(OsDisk::open(directory.join("bodies"))?);
    let path = directory.join("index");
    let index: OpenIndex = Box::new(move |anew| {
        if anew == Anew::Yes {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
        }
        let usual = merpati_store::Options::default();
        let options = merpati_store::Options { cache: options.index_cache, ..usual };
        Ok(Arc::new(SledStore::open(&path, options)?))
    });
    open_on(Places { journal, bodies, index }, options)
}

/// Opens on any disk and store.
pub(crate) fn open_on(places: Places, options: Options) -> Result<DiskSpool, OpenError> {
    let Places { journal, bodies, index } = places;
    let journal_options = merpati_journal::Options { replay_from: u64::MAX, ..options.journal };
    let (journal, recovery) = Journal::open(journal, journal_options, drop)?;
    let (work, todo) = mpsc::channel();
    let repeats = Repeats::new(options.repeat_window);
    let names = bodies.list()?;
    let ids = names.iter().filter_map(|name| name.parse::<MessageId>().ok());
    let last_id = ids.map(MessageId::as_u64).fold(recovery.highest_key, u64::max);
    let last_id = last_id.saturating_add(unforeseen_bits());
    let core = Core::new(recovery.last, now_millis() << 16, repeats);
    let inner = Arc::new(Inner {
        journal,
        bodies,
        options,
        budget: Budget::new(options.memory),
        notify: Notify::new(),
        room: Notify::new(),
        index: Mutex::new(IndexState::Loading),
        whole: Whole::default(),
        closed: AtomicBool::new(false),
        last_id: AtomicU64::new(last_id),
        id_base: unforeseen_bits(),
        damaged: AtomicU64::new(0),
        work,
        core: Mutex::new(core),
    });
    let maintenance = Maintenance::new(inner.clone(), index);
    let thread = std::thread::Builder::new()
        .name("spool".into())
        .spawn(move || maintenance.run(recovery, names, &todo))?;
    Ok(DiskSpool::new(inner, thread))
}
