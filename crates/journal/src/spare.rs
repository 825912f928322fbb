//! Segment files made before they are needed, and those that had an earlier life.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::format::{END, SegmentEnd, State, segment_id, segment_name, spare_name};

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
    pub fn run(mut self) -> io::Result<Prepared> {
        self.make().inspect_err(|_| {
            // What may be left of it holds no record; recovery takes it away too.
            let spare = self.spare.iter().map(|spare| &spare.name);
            for name in spare.chain([&spare_name(self.id), &segment_name(self.id)]) {
                let _ = self.disk.unlink(name);
            }
        })
    }

    /// No name of a segment ever stands for a file whose ends do not say so too.
    fn make(&mut self) -> io::Result<Prepared> {
        let spare = spare_name(self.id);
        let file = match &mut self.spare {
            Some(old) => {
                // It was prepared for another name, too late.
                if segment_id(&old.name).is_some() {
                    self.disk.rename(&old.name, &spare)?;
                    self.disk.sync_dir()?;
                    old.name.clone_from(&spare);
                }
                old.file.clone()
            }
            None => {
                let file = self.disk.create(&spare)?;
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
        let name = self.spare.as_ref().map_or(&spare, |old| &old.name);
        self.disk.rename(name, &segment_name(self.id))?;
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
