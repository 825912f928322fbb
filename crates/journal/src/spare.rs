//! Segment files made before they are needed, and those that had an earlier life.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::format::{END, SegmentEnd, State, segment_name};

/// A file on its way to be the next segment; making it may take a while, so that
/// [`run`](Self::run) may go to another thread.
pub struct Preparation {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) id: u64,
    pub(crate) size: u64,
    pub(crate) salt: u64,
    /// A file of an earlier segment to use again.
    pub(crate) spare: Option<Spare>,
}

/// A file of the size of a segment that nothing needs, under a name that says so.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// A segment without a beginning: named, reserved and synced, so that the first
/// record's own sync is all it still needs.
pub struct Prepared {
    pub(crate) id: u64,
    pub(crate) size: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl From<Prepared> for Spare {
    fn from(prepared: Prepared) -> Self {
        Self { name: segment_name(prepared.id), file: prepared.file }
    }
}

impl Preparation {
    /// Makes the file.
    ///
    /// # Errors
    /// What the disk says; there is no such file then.
    pub fn run(self) -> io::Result<Prepared> {
        let name = segment_name(self.id);
        self.make(&name).inspect_err(|_| {
            // What may be left of it holds no record; recovery takes it away too.
            let _ = self.disk.unlink(&name);
            if let Some(spare) = &self.spare {
                let _ = self.disk.unlink(&spare.name);
            }
        })
    }

    fn make(&self, name: &str) -> io::Result<Prepared> {
        let file = match &self.spare {
            Some(spare) => spare.file.clone(),
            None => {
                let file = self.disk.create(name)?;
                file.preallocate(self.size)?;
                file
            }
        };
        let end = SegmentEnd {
            id: self.id,
            first: 0,
            previous: 0,
            salt: self.salt,
            highest_key: 0,
            state: State::Prepared,
        };
        write_ends(&*file, self.size, &end)?;
        file.sync_data()?;
        if let Some(spare) = &self.spare {
            self.disk.rename(&spare.name, name)?;
        }
        self.disk.sync_dir()?;
        Ok(Prepared { id: self.id, size: self.size, file })
    }
}

/// Writes both ends of a segment.
pub(crate) fn write_ends(file: &dyn DiskFile, size: u64, end: &SegmentEnd) -> io::Result<()> {
    let bytes = end.encode();
    file.write_at(0, &[IoSlice::new(&bytes)])?;
    file.write_at(size - END as u64, &[IoSlice::new(&bytes)])
}
