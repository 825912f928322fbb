//! A simulated disk that forgets what was not synced.
//!
//! Every operation that changes something is numbered. A [`Fault`] can be set
//! for one of them, or for all until further notice, and [`SimDisk::crash`] is
//! the power cut: of what was not synced, each sector and each directory entry is
//! kept or lost by the seed.
//!
//! ```
//! use merpati_journal::Disk;
//! use merpati_testkit::disk::SimDisk;
//!
//! let disk = SimDisk::new();
//! disk.create("a")?;
//! disk.sync_dir()?;
//! disk.create("b")?;
//! let names = disk.crash(1).list()?;
//! assert!(names.contains(&"a".to_owned()));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use merpati_journal::{Disk, DiskFile, Room};

/// Octets that are written whole or not at all.
pub const SECTOR: usize = 512;

/// What goes wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation, and every later one, fails.
    Cut,
    /// The operation fails with `EIO`. A sync that fails drops what it should
    /// have kept, by the seed, and calls it clean, as Linux does. Of a write that
    /// fails any sectors are written, by the seed.
    Io,
    /// The operation fails with `ENOSPC`; of a write the beginning is written, as
    /// much as the seed says.
    Full,
    /// The operation fails with `EROFS`, and nothing is written.
    ReadOnly,
}

/// One simulated directory, shared by its clones.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// What every operation meets.
    trouble: Option<Fault>,
    /// Octets all files together may take.
    capacity: Option<u64>,
    /// Ranges of files that cannot be read.
    unreadable: Vec<(usize, std::ops::Range<u64>)>,
    ignores_syncs: bool,
    /// What the last operation met.
    met: Option<Fault>,
    dead: bool,
    locked: bool,
    random: Random,
    trace: Vec<&'static str>,
}

#[derive(Default)]
struct FileState {
    /// What a read shows.
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector written since the last sync, everything it held.
    dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Unlink(String),
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default() }
    }

    /// Makes operation number `at`, counted from 0, go wrong.
    pub fn fault(&self, at: u64, fault: Fault) {
        self.lock().faults.insert(at, fault);
    }

    /// Makes every operation from now on go wrong, until it is called with `None`.
    pub fn trouble(&self, fault: Option<Fault>) {
        self.lock().trouble = fault;
    }

    /// Lets all files together take so many octets; more is `ENOSPC`.
    pub fn limit(&self, octets: Option<u64>) {
        self.lock().capacity = octets;
    }

    /// Makes every read that touches this part of a file fail with `EIO`.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn unreadable(&self, name: &str, range: std::ops::Range<u64>) {
        let mut state = self.lock();
        let inode = *state.names.get(name).expect("the file exists");
        state.unreadable.push((inode, range));
    }

    /// Makes every sync from now on a lie, here and after power cuts.
    pub fn ignore_syncs(&self) {
        self.lock().ignores_syncs = true;
    }

    /// How many operations that change something there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What each operation was, in order; for the report of a failed test.
    #[must_use]
    pub fn trace(&self) -> Vec<&'static str> {
        self.lock().trace.clone()
    }

    /// The directory as it may be found after a power cut now.
    ///
    /// The same seed gives the same outcome. This disk stays as it is, so one
    /// recorded state can be cut many ways.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.lock();
        let mut random = Random(seed);
        let mut files: Vec<FileState> =
            state.files.iter().map(|file| file.after_crash(&mut random)).collect();
        let names = state.names_after_crash(&mut random);
        for (inode, file) in files.iter_mut().enumerate() {
            if !names.values().any(|&named| named == inode) {
                *file = FileState::default();
            }
        }
        let crashed = Self::from_parts(files, names, random);
        crashed.lock().inherit(&state);
        crashed
    }

    /// The directory as the next process finds it when only this one dies.
    #[must_use]
    pub fn kill(&self) -> Self {
        let state = self.lock();
        let files = state
            .files
            .iter()
            .map(|file| FileState {
                cache: file.cache.clone(),
                durable: file.durable.clone(),
                dirty: file.dirty.clone(),
            })
            .collect();
        let killed = Self::from_parts(files, state.names.clone(), Random(state.random.0));
        {
            let mut new = killed.lock();
            new.durable_names = state.durable_names.clone();
            new.pending = state.pending.clone();
            new.inherit(&state);
        }
        killed
    }

    /// Changes octets behind the journal's back.
    ///
    /// # Panics
    /// If there is no such file or it is shorter.
    pub fn corrupt(&self, name: &str, offset: usize, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = *state.names.get(name).expect("the file exists");
        let file = &mut state.files[inode];
        file.cache[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.durable[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The whole of a file.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|&inode| state.files[inode].cache.clone())
    }

    fn from_parts(files: Vec<FileState>, names: BTreeMap<String, usize>, random: Random) -> Self {
        let durable_names = names.clone();
        let state = State { files, names, durable_names, random, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Numbers an operation and says what it meets.
    fn step(&mut self, what: &'static str) -> io::Result<()> {
        self.alive()?;
        let at = self.operations;
        self.operations += 1;
        self.trace.push(what);
        let fault = self.faults.get(&at).copied().or(self.trouble);
        if fault == Some(Fault::Cut) {
            self.dead = true;
        }
        self.met = fault;
        match fault {
            None => Ok(()),
            Some(Fault::Io) => Err(io::Error::other("simulated EIO")),
            Some(Fault::Full) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(Fault::ReadOnly) => Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)),
            Some(Fault::Cut) => Err(power_cut()),
        }
    }

    /// Takes over what is of the device, not of its contents.
    fn inherit(&mut self, old: &Self) {
        self.capacity = old.capacity;
        self.unreadable.clone_from(&old.unreadable);
        self.ignores_syncs = old.ignores_syncs;
    }

    /// Octets that all files with a name take.
    fn used(&self) -> u64 {
        self.names.values().map(|&inode| self.files[inode].cache.len() as u64).sum()
    }

    /// Whether a file may become so long.
    fn may_grow(&self, inode: usize, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.files[inode].cache.len() as u64);
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(power_cut()) } else { Ok(()) }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Directory changes reach the disk in order up to somewhere, or in any order.
    fn names_after_crash(&self, random: &mut Random) -> BTreeMap<String, usize> {
        let mut names = self.durable_names.clone();
        let in_order = random.coin();
        for change in &self.pending {
            if random.coin() {
                change.apply(&mut names);
            } else if in_order {
                break;
            }
        }
        names
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl FileState {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let now = sector_of(&self.cache, sector);
            self.dirty.entry(sector).or_default().push(now);
        }
    }

    /// Writes the parts that fall into some of the sectors.
    fn write_some(&mut self, offset: usize, bytes: &[u8], random: &mut Random) {
        let mut at = 0;
        while at < bytes.len() {
            let len = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
            if random.coin() {
                self.write(offset + at, &bytes[at..at + len]);
            }
            at += len;
        }
    }

    fn synced(&mut self) {
        // Only what is dirty: what a failed sync has dropped is not written by a later one.
        self.durable.resize(self.cache.len(), 0);
        for &sector in self.dirty.keys() {
            let at = sector * SECTOR;
            let end = self.cache.len().min(at + SECTOR);
            self.durable[at..end].copy_from_slice(&self.cache[at..end]);
        }
        self.dirty.clear();
    }

    /// The file with a choice of what each unsynced sector held.
    fn survivor(&self, random: &mut Random) -> Vec<u8> {
        // The length is kept if any sector beyond the old end is, else by chance.
        let mut out = self.durable.clone();
        if out.len() != self.cache.len() && random.coin() {
            out.resize(self.cache.len(), 0);
        }
        for (&sector, versions) in &self.dirty {
            let choice = random.below(versions.len() as u64 + 1) as usize;
            let Some(bytes) = choice.checked_sub(1).map(|index| versions[index]) else { continue };
            let at = sector * SECTOR;
            let len = SECTOR.min(self.cache.len() - at);
            if out.len() < at + len {
                out.resize(at + len, 0);
            }
            out[at..at + len].copy_from_slice(&bytes[..len]);
        }
        out
    }

    fn after_crash(&self, random: &mut Random) -> Self {
        let cache = self.survivor(random);
        Self { durable: cache.clone(), cache, dirty: BTreeMap::new() }
    }
}

fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut out = [0; SECTOR];
    let at = sector * SECTOR;
    let len = SECTOR.min(bytes.len() - at);
    out[..len].copy_from_slice(&bytes[at..at + len]);
    out
}

fn power_cut() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "simulated power cut")
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.step("create")?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let inode = state.files.len();
        state.files.push(FileState::default());
        state.names.insert(name.to_owned(), inode);
        state.pending.push(NameChange::Create(name.to_owned(), inode));
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        state.alive()?;
        let inode = state.inode(name)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.alive()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step("rename")?;
        state.inode(from)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut state.names);
        state.pending.push(change);
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step("unlink")?;
        state.inode(name)?;
        let change = NameChange::Unlink(name.to_owned());
        change.apply(&mut state.names);
        state.pending.push(change);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        let step = state.step("sync_dir");
        if step.is_err() && !state.dead {
            let mut random = Random(state.random.draw());
            state.durable_names = state.names_after_crash(&mut random);
            state.pending.clear();
        }
        step?;
        if !state.ignores_syncs {
            state.durable_names = state.names.clone();
            state.pending.clear();
        }
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        let state = self.lock();
        state.alive()?;
        let left = state.capacity.map(|capacity| capacity.saturating_sub(state.used()));
        Ok(Room { octets: left.unwrap_or(u64::MAX), ..Room::ENDLESS })
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.lock();
        state.alive()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        Ok(Box::new(Unlock(self.clone())))
    }
}

struct Unlock(SimDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.alive()?;
        let step = state.step("write");
        let bytes = parts.iter().map(|part| &**part).collect::<Vec<&[u8]>>().concat();
        let step = step.and_then(|()| state.may_grow(self.inode, offset + bytes.len() as u64));
        let mut random = Random(if step.is_err() { state.random.draw() } else { 0 });
        let met = state.met;
        let file = &mut state.files[self.inode];
        match &step {
            Ok(()) => file.write(offset as usize, &bytes),
            // A write that fails may have written some of it: any sectors, or the beginning.
            Err(_) if matches!(met, Some(Fault::Io | Fault::Cut)) && random.coin() => {
                file.write_some(offset as usize, &bytes, &mut random);
            }
            Err(_) if met != Some(Fault::ReadOnly) => {
                let len = random.below(bytes.len() as u64 + 1) as usize;
                let room = (file.cache.len() as u64).saturating_sub(offset) as usize;
                let len = if met.is_none() { len.min(room) } else { len };
                file.write(offset as usize, &bytes[..len]);
            }
            Err(_) => {}
        }
        step
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock();
        state.alive()?;
        let wanted = offset..offset + buf.len() as u64;
        let bad = |(inode, bad): &(usize, std::ops::Range<u64>)| {
            *inode == self.inode && bad.start < wanted.end && wanted.start < bad.end
        };
        if state.unreadable.iter().any(bad) {
            return Err(io::Error::other("simulated EIO"));
        }
        let rest = state.files[self.inode].cache.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.alive()?;
        Ok(state.files[self.inode].cache.len() as u64)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step("preallocate")?;
        state.may_grow(self.inode, len)?;
        let file = &mut state.files[self.inode];
        if file.cache.len() < len as usize {
            file.cache.resize(len as usize, 0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let step = state.step("sync");
        if step.is_err() && !state.dead {
            let mut random = Random(state.random.draw());
            let file = &mut state.files[self.inode];
            file.durable = file.survivor(&mut random);
            file.dirty.clear();
        }
        step?;
        if !state.ignores_syncs {
            state.files[self.inode].synced();
        }
        Ok(())
    }
}

/// SplitMix64: enough to choose by, and the same on every machine.
#[derive(Debug, Clone, Default)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}
