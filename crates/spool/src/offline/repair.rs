//! Mending what can be mended without a loss.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use merpati_plugin::spool::{Change, Filter, Spool, SpoolError};
use merpati_types::MessageId;

use super::{Offline, OfflineError, Problem, Severity};
use crate::open::{Options, Report};
use crate::spool::DiskSpool;

/// What is to be mended, found by a look that changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// Why the index is removed, to be made anew from the journal, if it is.
    pub index: Option<String>,
    /// Messages that cannot be read whole, with the reason: they are held, so that nobody
    /// tries them again and again, and an operator decides.
    pub hold: Vec<(MessageId, String)>,
    /// Parts of the journal that cannot be read: copies go to `journal/*.bad`, what is wrong
    /// with them to `damage.log`.
    pub aside: Vec<Problem>,
    /// Body files that may belong to what cannot be read: they are moved to `set-aside/`.
    pub rescue: Vec<String>,
    /// What any crash leaves behind, and opening the spool clears away.
    pub sweep: Vec<Problem>,
}

impl Repair {
    /// Looks at what there is to mend.
    ///
    /// # Errors
    /// As [`Offline::check`].
    pub fn plan(offline: &Offline) -> Result<Self, OfflineError> {
        let mut plan = Self { hold: offline.unreadable()?, ..Self::default() };
        offline.check(&mut |problem| match problem.severity {
            Severity::Index => plan.index = Some(problem.what),
            Severity::Leftover if problem.place.ends_with(".bad") => {}
            Severity::Leftover => plan.sweep.push(problem),
            Severity::Damage if problem.message.is_none_or(|id| !offline.is_live(id)) => {
                plan.aside.push(problem);
            }
            Severity::Damage | Severity::Dead => {}
        })?;
        if !plan.aside.is_empty() {
            let body = |problem: &Problem| Some(problem.place.strip_prefix("bodies/")?.to_owned());
            plan.rescue = plan.sweep.iter().filter_map(body).collect();
            plan.sweep.retain(|problem| body(problem).is_none());
            let why = "it may know messages that cannot be read any more".to_owned();
            plan.index.get_or_insert(why);
        }
        Ok(plan)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Mends a spool by a plan; answers how many parcels are held now. What belongs to whom stays as
/// it was, so that the server can open what root has mended. Waits for the disk.
///
/// # Errors
/// [`OfflineError`]; what was done by then is no worse than what was there before.
pub async fn repair(directory: &Path, plan: &Repair) -> Result<(u64, Report), OfflineError> {
    let done = mend(directory, plan).await;
    let owner = fs::metadata(directory)?;
    give_to(directory, owner.uid(), owner.gid())?;
    done
}

async fn mend(directory: &Path, plan: &Repair) -> Result<(u64, Report), OfflineError> {
    prepare(directory, plan)?;
    let options = Options { min_free: 0, ..Options::default() };
    let (spool, report) = DiskSpool::open(directory, options)?;
    let mut held = 0;
    for (id, why) in &plan.hold {
        let filter = Filter { id: Some(*id), ..Filter::default() };
        let reason = format!("damaged: {why}");
        let changed = spool.change(&filter, &Change::Hold { reason }, None, usize::MAX).await;
        match changed {
            Ok(changed) => held += changed.parcels,
            Err(SpoolError::Unavailable(error)) => return Err(error.into()),
            Err(error) => return Err(io::Error::other(error).into()),
        }
    }
    spool.close().await;
    Ok((held, report))
}

/// What is done before the spool is opened.
fn prepare(directory: &Path, plan: &Repair) -> Result<(), OfflineError> {
    // The lock is held meanwhile.
    let _locked = Offline::open(directory)?;
    if !plan.aside.is_empty() {
        let log = OpenOptions::new().create(true).append(true).open(directory.join("damage.log"));
        let mut log = log?;
        plan.aside.iter().try_for_each(|problem| writeln!(log, "{problem}"))?;
        log.sync_all()?;
    }
    let (bodies, aside) = (directory.join("bodies"), directory.join("set-aside"));
    if !plan.rescue.is_empty() {
        fs::create_dir_all(&aside)?;
        plan.rescue.iter().try_for_each(|name| fs::rename(bodies.join(name), aside.join(name)))?;
        File::open(&aside)?.sync_all()?;
        File::open(&bodies)?.sync_all()?;
        File::open(directory)?.sync_all()?;
    }
    if plan.index.is_some() {
        match fs::remove_dir_all(directory.join("index")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn give_to(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) != (user, group) {
        lchown(path, Some(user), Some(group))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}
