//! A directory as a disk whose changes stay in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use merpati_journal::{Disk, DiskFile, Room};

/// Octets that are kept together when one of them changes.
const PAGE: usize = 4096;
/// The file that whoever writes to a journal has locked.
const LOCK: &str = "lock";

/// A directory that is never written to: whoever uses it sees its own changes, nobody else does.
///
/// Memory is used for what is written, not for what is there.
pub(super) struct Overlay {
    path: PathBuf,
    /// Files that were opened, made or, if there is nothing, removed.
    names: Mutex<BTreeMap<String, Option<Arc<Changes>>>>,
}

/// What is different about a file.
struct Changes {
    /// The file as it is on the disk, if it is there.
    base: Option<PathBuf>,
    content: Mutex<Content>,
}

struct Content {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, names: Mutex::default() }
    }

    /// The plain files of the directory itself; none if there is no directory.
    pub(super) fn files(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().filter(|name| name != LOCK);
            if entry.file_type()?.is_file() {
                names.extend(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn find(&self, name: &str) -> io::Result<Arc<Changes>> {
        let mut names = self.names();
        match names.get(name) {
            Some(Some(changes)) => return Ok(changes.clone()),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let base = self.path.join(name);
        let size = std::fs::metadata(&base)?.len();
        let content = Mutex::new(Content { size, pages: BTreeMap::new() });
        let changes = Arc::new(Changes { base: Some(base), content });
        names.insert(name.to_owned(), Some(changes.clone()));
        Ok(changes)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Changes>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Overlay {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.find(name).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Mutex::new(Content { size: 0, pages: BTreeMap::new() });
        let changes = Arc::new(Changes { base: None, content });
        self.names().insert(name.to_owned(), Some(changes.clone()));
        Ok(Arc::new(OverlayFile { base: None, changes }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let changes = self.find(name)?;
        let base = changes.base.as_ref().map(File::open).transpose()?;
        Ok(Arc::new(OverlayFile { base, changes }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut found = self.files()?;
        let names = self.names();
        found.retain(|name| !names.contains_key(name));
        found.extend(names.iter().filter(|(_, there)| there.is_some()).map(|(n, _)| n.clone()));
        Ok(found)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let changes = self.find(from)?;
        let mut names = self.names();
        names.insert(from.to_owned(), None);
        names.insert(to.to_owned(), Some(changes));
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.names().insert(name.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        Ok(Room::ENDLESS)
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let file = match File::open(self.path.join(LOCK)) {
            // No server has ever been here, or it is a copy.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct OverlayFile {
    base: Option<File>,
    changes: Arc<Changes>,
}

impl OverlayFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.changes.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the disk; zeros where nothing is.
    fn read_base(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while let Some(base) = self.base.as_ref().filter(|_| filled < buf.len()) {
            match base.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buf[filled..].fill(0);
        Ok(())
    }

    fn write(&self, content: &mut Content, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let number = offset / PAGE as u64;
            let within = usize::try_from(offset % PAGE as u64).expect("less than a page");
            let part = bytes.split_off(..bytes.len().min(PAGE - within)).expect("not longer");
            let page = match content.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(none) => {
                    let mut page = Box::new([0; PAGE]);
                    self.read_base(number * PAGE as u64, &mut page[..])?;
                    none.insert(page)
                }
            };
            page[within..within + part.len()].copy_from_slice(part);
            offset += part.len() as u64;
            content.size = content.size.max(offset);
        }
        Ok(())
    }
}

impl DiskFile for OverlayFile {
    fn write_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut content = self.content();
        for part in parts {
            self.write(&mut content, offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.content();
        let left = usize::try_from(content.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let buf = &mut buf[..len];
        if len == 0 {
            return Ok(0);
        }
        self.read_base(offset, buf)?;
        let end = offset + len as u64;
        let first = offset / PAGE as u64;
        for (number, page) in content.pages.range(first..end.div_ceil(PAGE as u64)) {
            let start = number * PAGE as u64;
            let (from, to) = (offset.max(start), end.min(start + PAGE as u64));
            let at = |place: u64, base: u64| usize::try_from(place - base).expect("inside both");
            buf[at(from, offset)..at(to, offset)]
                .copy_from_slice(&page[at(from, start)..at(to, start)]);
        }
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content().size)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.content();
        content.size = content.size.max(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_stay_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let old: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        std::fs::write(path.join("old"), &old).unwrap();
        std::fs::write(path.join("gone"), "x").unwrap();
        let overlay = Overlay::new(path.to_owned());
        let file = overlay.open("old").unwrap();
        let mut expected = old.clone();
        for (offset, text) in [(4_090, "over a page's end"), (0, "first"), (9_998, "past it")] {
            let offset: usize = offset;
            file.write_at(offset as u64, &[IoSlice::new(text.as_bytes())]).unwrap();
            expected.resize(expected.len().max(offset + text.len()), 0);
            expected[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        }
        file.preallocate(20_000).unwrap();
        expected.resize(20_000, 0);
        // Through another handle, in pieces of all sorts.
        let again = overlay.open("old").unwrap();
        for piece in [1, 63, 4_095, 4_096, 4_097, 30_000] {
            let mut read = Vec::new();
            let mut buf = vec![0xff; piece];
            loop {
                let count = again.read_at(read.len() as u64, &mut buf).unwrap();
                read.extend_from_slice(&buf[..count]);
                if count < piece {
                    break;
                }
            }
            assert!(read == expected, "pieces of {piece}");
        }
        overlay.unlink("gone").unwrap();
        overlay.create("new").unwrap();
        overlay.rename("old", "renamed").unwrap();
        assert!(overlay.create("renamed").is_err() && overlay.open("gone").is_err());
        let mut names = overlay.list().unwrap();
        names.sort_unstable();
        assert_eq!(names, ["new", "renamed"]);

        assert_eq!(std::fs::read(path.join("old")).unwrap(), old);
        assert_eq!(overlay.files().unwrap(), ["gone", "old"]);
    }
}
