//! The disk as the journal sees it: one directory of flat files.
//!
//! A crash test replaces [`OsDisk`] with a simulation that loses and tears
//! what was not synced, so nothing in this crate touches files any other way.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

/// One directory on stable storage.
///
/// Names are plain file names without a slash. A file that was created,
/// renamed or unlinked is only sure to be (or not to be) there after a power
/// cut once [`sync_dir`](Disk::sync_dir) has returned.
pub trait Disk: Send + Sync {
    /// Creates a new file and opens it for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; else what the system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none; else what the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all plain files, in no particular order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames a file, replacing what was at `to`.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound` if there is none; else what the system says.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// Puts the directory's entries on stable storage.
    ///
    /// # Errors
    /// What the system says; the entries may then be lost.
    fn sync_dir(&self) -> io::Result<()>;

    /// How much room is left for an unprivileged writer.
    ///
    /// # Errors
    /// What the system says.
    fn room(&self) -> io::Result<Room>;

    /// Takes the directory's one-writer lock, held until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it; else what the system says.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
}

/// What a writer may still use of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Octets.
    pub octets: u64,
    /// Files; [`u64::MAX`] where the disk does not count them.
    pub files: u64,
}

impl Room {
    /// A disk that counts nothing.
    pub const ENDLESS: Self = Self { octets: u64::MAX, files: u64::MAX };
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Writes all parts one after another at `offset`.
    ///
    /// # Errors
    /// What the system says; any part may then have been written.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Reads up to `buf.len()` octets; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Whether `buf` could be filled from memory; where that would mean to wait for the disk, it
    /// is left as it may be. For callers that must not wait.
    fn read_at_once(&self, _offset: u64, _buf: &mut [u8]) -> bool {
        false
    }

    /// The file's length in octets.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;

    /// Reserves space so that the file is `len` octets long, zeros where new.
    ///
    /// # Errors
    /// `StorageFull` if there is no room; else what the system says.
    fn preallocate(&self, len: u64) -> io::Result<()>;

    /// Puts the file's contents and length on stable storage.
    ///
    /// # Errors
    /// What the system says. What was written since the last success is then
    /// lost or not, whatever a later read shows and a later sync returns.
    fn sync_data(&self) -> io::Result<()>;
}

/// A directory of the operating system.
///
/// ```
/// use merpati_journal::{Disk, OsDisk};
/// # let dir = tempfile::tempdir().unwrap();
/// let disk = OsDisk::open(dir.path())?;
/// disk.create("note")?;
/// assert_eq!(disk.list()?, ["note"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
    dir: File,
}

impl OsDisk {
    /// Opens a directory, making it (mode 0700) if it is missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !path.is_dir() {
            create_private_dir(&path)?;
        }
        let dir = File::open(&path)?;
        Ok(Self { path, dir })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

impl Disk for OsDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(Room {
            octets: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems make inodes as they need them, and say so by a total of none.
            files: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

/// The name of the lock file, which no listing shows.
const LOCK: &str = "lock";

struct OsFile(File);

impl DiskFile for OsFile {
    fn write_at(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // The kernel takes at most IOV_MAX (1024) parts a call and may take fewer octets.
        for chunk in parts.chunks(1024) {
            let total: usize = chunk.iter().map(|part| part.len()).sum();
            let written = loop {
                match rustix::io::pwritev(&self.0, chunk, offset) {
                    Err(Errno::INTR) => {}
                    other => break other?,
                }
            };
            if written < total {
                self.write_rest(offset, chunk, written)?;
            }
            offset += total as u64;
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    #[cfg(target_os = "linux")]
    fn read_at_once(&self, offset: u64, buf: &mut [u8]) -> bool {
        let len = buf.len();
        let mut parts = [IoSliceMut::new(buf)];
        let read = rustix::io::preadv2(&self.0, &mut parts, offset, ReadWriteFlags::NOWAIT);
        read == Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // Some file systems cannot reserve; a sparse file still works, and a
            // full disk then shows as a failed write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.0.set_len(len),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl OsFile {
    /// Finishes a short vectored write part by part.
    fn write_rest(&self, offset: u64, parts: &[IoSlice<'_>], mut skip: usize) -> io::Result<()> {
        let mut at = offset;
        for part in parts {
            let done = skip.min(part.len());
            skip -= done;
            self.0.write_all_at(&part[done..], at + done as u64)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of 0 to 6 octets, more of them than one call takes.
    fn parts() -> Vec<Vec<u8>> {
        (0..3000_usize).map(|index| vec![index as u8; index % 7]).collect()
    }

    #[test]
    fn more_parts_than_one_call_takes_are_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = OsDisk::open(dir.path()).expect("opens");
        let file = disk.create("file").expect("creates");
        let parts = parts();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_at(5, &slices).expect("writes");
        let mut read = vec![0; 20_000];
        let len = file.read_at(5, &mut read).expect("reads");
        assert_eq!(read[..len], parts.concat());
        assert_eq!(disk.list().expect("lists"), ["file"]);
        assert!(matches!(disk.create("file"), Err(e) if e.kind() == io::ErrorKind::AlreadyExists));
    }

    /// On file systems without a page cache the answer is always no.
    #[test]
    fn what_is_read_at_once_is_what_is_there() {
        let file = OsFile(tempfile::tempfile().expect("a file"));
        file.0.write_all_at(b"0123456789", 0).expect("writes");
        let mut read = [0; 4];
        if file.read_at_once(3, &mut read) {
            assert_eq!(&read, b"3456");
        }
        assert!(!file.read_at_once(8, &mut read), "there are only two octets");
    }

    #[test]
    fn a_short_write_is_finished_wherever_it_stopped() {
        let parts = &parts()[..30];
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let whole = parts.concat();
        for written in 0..=whole.len() {
            let file = OsFile(tempfile::tempfile().expect("a file"));
            file.0.write_all_at(&whole[..written], 3).expect("writes");
            file.write_rest(3, &slices, written).expect("writes");
            let mut read = vec![0; whole.len() + 9];
            let len = file.read_at(3, &mut read).expect("reads");
            assert_eq!(read[..len], whole, "after {written}");
        }
    }
}
