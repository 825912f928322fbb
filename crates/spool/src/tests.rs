//! The spool on a simulated disk: power cuts, failed operations, a forgetful index.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use merpati_journal::{Disk, DiskFile, Room};
use merpati_store::MemoryStore;
use merpati_testkit::disk::SimDisk;

use crate::open::{OpenIndex, Options, Places, Report, open_on};
use crate::spool::DiskSpool;

mod crash;
mod ids;
mod shares;
mod space;

/// A part of a simulated disk, told apart by the beginning of its names.
#[derive(Clone)]
struct Part {
    disk: SimDisk,
    prefix: &'static str,
}

impl Part {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Disk for Part {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(&self.name(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.name(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list()?;
        let mine = names.iter().filter_map(|name| name.strip_prefix(self.prefix));
        Ok(mine.map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.name(from), &self.name(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(&self.name(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn room(&self) -> io::Result<Room> {
        self.disk.room()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }
}

fn options() -> Options {
    let journal = merpati_journal::Options {
        segment_size: 4096,
        salt: 7,
        // What time does cannot be played again.
        back_off: Duration::ZERO,
        ..Default::default()
    };
    Options {
        small_body: 300,
        memory: 1 << 20,
        min_free: 0,
        min_free_files: 0,
        resident: 0,
        checkpoint_every: Duration::from_secs(3600),
        journal,
        ..Options::default()
    }
}

/// Opens, and does not wait until all is found again.
fn try_start(disk: &SimDisk, index: &MemoryStore) -> Result<DiskSpool, crate::open::OpenError> {
    let part = |prefix| Arc::new(Part { disk: disk.clone(), prefix });
    let index = index.clone();
    let index: OpenIndex = Box::new(move |_| Ok(Arc::new(index.clone())));
    let places = Places { journal: part("j-"), bodies: part("b-"), index };
    open_on(places, options())
}

fn try_open(
    disk: &SimDisk,
    index: &MemoryStore,
) -> Result<(DiskSpool, Report), crate::open::OpenError> {
    let spool = try_start(disk, index)?;
    let report = Report::clone(&*spool.inner().whole.wait());
    Ok((spool, report))
}

/// Faults that are planted on purpose, to see that the crash tests notice.
pub(crate) mod planted {
    use merpati_journal::Durability;
    use merpati_testkit::crash::{Plant, plant};

    /// Whether replies are given before the commit.
    pub(crate) fn durability(asked: Durability) -> Durability {
        if plant() == Some(Plant::EarlyReply) { Durability::Written } else { asked }
    }

    /// Whether the index is believed, whatever the journal says.
    pub(crate) fn trusts_the_index() -> bool {
        plant() == Some(Plant::TrustIndex)
    }
}

fn open(disk: &SimDisk, index: &MemoryStore) -> (DiskSpool, Report) {
    try_open(disk, index).expect("opens")
}
