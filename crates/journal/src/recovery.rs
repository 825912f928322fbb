//! What a journal's directory says after whatever happened to it.
//!
//! Nothing above the last sequence number that some later batch states as
//! synced was ever acknowledged for certain, so the first bad record above it is
//! the torn tail of a crash and ends the journal. A bad record at or below it is
//! damage: reported, set aside, and stepped over.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::format::{SPARE, TocEntry, id_before, segment_id, segment_name};
use crate::log::write_toc;
use crate::record::Entry;

mod pass;
mod scan;
mod segment;
mod window;

pub(crate) use pass::Pass;
use pass::copy_range;
pub(crate) use segment::{Segment, limit};

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Records that count.
    pub records: u64,
    /// The last sequence number that counts.
    pub last: u64,
    /// The largest key any record ever had, removed and void ones included.
    pub highest_key: u64,
    /// The segments that are kept, oldest first.
    pub segments: Vec<u64>,
    /// Places where acknowledged records cannot be read. An alarm is due for
    /// each: copies of what is there are in the directory, named `*.bad`.
    pub damage: Vec<Damage>,
    /// Where an unacknowledged write was cut short, if one was.
    pub torn: Option<Torn>,
}

/// A place where acknowledged records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Where in the segment the unreadable octets begin.
    pub offset: u64,
    /// How many octets cannot be read.
    pub len: u64,
    /// The first sequence number that is missing.
    pub first: u64,
    /// The last sequence number that is missing; below `first` if none is.
    pub last: u64,
    /// Kind and key of the record, where its header can still be read.
    pub about: Option<(u8, u64)>,
}

/// An unacknowledged write that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub segment: u64,
    /// Where the part that does not count begins.
    pub offset: u64,
}

/// What [`Log`](crate::Log) goes on from.
pub(crate) struct Found {
    pub(crate) salt: Option<u64>,
    pub(crate) files: BTreeMap<u64, Arc<dyn DiskFile>>,
    pub(crate) next_segment: u64,
    pub(crate) next: u64,
    pub(crate) report: Recovery,
}

/// Reads the whole directory, telling `replay` of each record that counts, from the number
/// `from` on, and readies it for writing.
pub(crate) fn run(
    disk: &dyn Disk,
    from: u64,
    replay: &mut dyn FnMut(Entry),
) -> Result<Found, OpenError> {
    let names = disk.list()?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| segment_id(name)).collect();
    ids.sort_unstable();
    let mut all =
        ids.iter().map(|&id| Segment::open(disk, id)).collect::<Result<Vec<_>, OpenError>>()?;
    // One segment that cannot be read is damage; when none can, nothing is known of the journal.
    if all.iter().all(|segment| segment.error.is_some())
        && let Some(error) = all.first_mut().and_then(|first| first.error.take())
    {
        return Err(error.into());
    }
    let (unused, segments): (Vec<_>, Vec<_>) = all.into_iter().partition(|all| all.unused);

    let salt = segments.iter().find_map(Segment::end).map(|end| end.salt);
    let mut pass = Pass::new(disk, salt.unwrap_or(0), (from, u64::MAX), replay, &|_| false);
    let mut files = BTreeMap::new();
    let mut empty: Vec<String> = unused.iter().map(|segment| segment_name(segment.id)).collect();
    for (index, segment) in segments.iter().enumerate() {
        // A later segment says how much of the older ones counts.
        let limit = limit(&segments[index..]);
        let (records, damage) = (pass.report.records, pass.report.damage.len());
        if let Some((entries, end)) = pass.segment(segment, limit) {
            let whole = pass.report.damage.len() == damage;
            settle(segment, &entries, end, whole, limit.map_or(pass.stated, |_| u64::MAX))?;
        }
        let idle = pass.report.records == records
            && pass.report.damage.len() == damage
            && segment.error.is_none();
        // The newest stays, even without records: it knows the numbers to go on from.
        let knows = index + 1 == segments.len() && segment.end().is_some();
        if idle && !knows {
            // It was being made, or first written to, when something ended the process.
            empty.push(segment_name(segment.id));
        } else {
            files.insert(segment.id, segment.file.clone());
        }
    }
    let highest = pass.highest;
    let mut report = pass.report;
    report.segments = files.keys().copied().collect();
    let spare = |name: &&String| name.ends_with(SPARE);
    for name in empty.iter().chain(names.iter().filter(spare)) {
        disk.unlink(name)?;
    }
    if !names.is_empty() {
        disk.sync_dir()?;
    }
    let lived = names.iter().filter_map(|name| id_before(name, SPARE));
    Ok(Found {
        salt,
        files,
        next_segment: ids.into_iter().chain(lived).max().map_or(1, |id| id + 1),
        next: highest.max(report.last) + 1,
        report,
    })
}

/// Makes a segment that was never sealed like one that was, unless part of it is damaged: then
/// the next opening shall find that too.
fn settle(
    segment: &Segment,
    entries: &[TocEntry],
    end: u64,
    whole: bool,
    stated: u64,
) -> io::Result<()> {
    // Records that no later one states as synced may have gone through a failed sync of
    // an earlier process: then the system's cache shows what the disk does not have, and
    // calls it clean. Writing it once more makes the next sync mean it.
    let file = &*segment.file;
    for entry in entries.iter().filter(|entry| entry.seq > stated) {
        let end = entry.offset + entry.span();
        copy_range(file, entry.offset, file, entry.offset, end)?;
    }
    match segment.end() {
        Some(ends) if !entries.is_empty() && whole => {
            file.sync_data()?;
            write_toc(file, ends, end, segment.size, entries)
        }
        // What was read may be in the cache only, and is relied on from here.
        _ => file.sync_data(),
    }
}
