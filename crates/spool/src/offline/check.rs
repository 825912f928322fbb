//! Reading everything, to say what is wrong and where.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use merpati_journal::{Content, Damage, Disk, Entry, ReadError};
use merpati_store::{Scan, SledStore};
use merpati_types::MessageId;

use super::{Offline, OfflineError, is_own};
use crate::body::file_name;
use crate::fact::{Fact, Place, kind};
use crate::index::Index;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A file, relative to the spool's directory, and the octet in it, if that is known.
    pub place: String,
    /// The message it is about, if that is known.
    pub message: Option<MessageId>,
    /// What is wrong.
    pub what: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// What any crash leaves behind; the next start clears it away.
    Leftover,
    /// The index is no good; the next start makes it anew, and nothing is lost.
    Index,
    /// Something that nobody needs any more cannot be read.
    Dead,
    /// Something that was relied on cannot be read: mail may be lost.
    Damage,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        match self.message {
            Some(id) => write!(f, " (message {id})"),
            None => Ok(()),
        }
    }
}

impl Offline {
    /// Reads every record and looks at every file, and tells of what is wrong. Waits for the
    /// disk.
    ///
    /// Body files have no checksum of their own: that they are there and as long as they should
    /// be is all that is looked at.
    ///
    /// # Errors
    /// The directory, or the ends of a segment, cannot be read.
    pub fn check(&self, found: &mut dyn FnMut(Problem)) -> Result<(), OfflineError> {
        let damage = &self.report.journal.damage;
        for damage in damage {
            found(of_damage(damage));
        }
        if let Some(torn) = &self.report.journal.torn {
            let what = "a write that a crash has cut short, and nobody was told of".to_owned();
            let place = at(torn.segment, torn.offset);
            found(Problem { severity: Severity::Leftover, place, message: None, what });
        }
        for name in self.journal.files()?.iter().filter(|name| name.ends_with(".bad")) {
            let what = "damaged octets that were set aside earlier".to_owned();
            let place = format!("journal/{name}");
            found(Problem { severity: Severity::Leftover, place, message: None, what });
        }
        for segment in self.inner().journal.reader().segments() {
            let told = |content: &Content| damage.iter().any(|damage| covers(damage, content));
            let contents = self.contents(segment)?;
            let untold = contents.iter().filter(|content| !told(content));
            untold.filter_map(|content| self.record(content)).for_each(&mut *found);
        }
        self.check_bodies(found)?;
        self.check_index(found)?;
        Ok(())
    }

    /// Live messages that cannot be read whole, with the reason.
    pub(super) fn unreadable(&self) -> Result<Vec<(MessageId, String)>, OfflineError> {
        let mut broken = Vec::new();
        self.check(&mut |problem| {
            if let (Severity::Damage, Some(id)) = (problem.severity, problem.message)
                && self.is_live(id)
                && broken.iter().all(|(known, _)| *known != id)
            {
                broken.push((id, format!("{}: {}", problem.place, problem.what)));
            }
        })?;
        Ok(broken)
    }

    /// What is wrong with a record, if anything is.
    fn record(&self, content: &Content) -> Option<Problem> {
        let id = MessageId::from_u64(content.key);
        let (name, position) = (name(content.kind), content.position);
        let what = match self.inner().journal.reader().parts(position) {
            Ok((meta, _)) => {
                let Content { seq, kind, key, .. } = *content;
                Fact::from_entry(&Entry { seq, kind, key, meta, position }).err()?;
                format!("the {name} record makes no sense")
            }
            Err(ReadError::Damaged { .. }) => format!("the {name} record is damaged"),
            Err(ReadError::Gone { .. }) => return None,
            Err(ReadError::Io(error)) => format!("the {name} record cannot be read: {error}"),
            Err(error) => format!("the {name} record cannot be read: {error}"),
        };
        // What happened to a message is in memory by now, and its meta part was read well. Its
        // own bytes are needed only while the newest copy of them is this one.
        let newest = self.inner().core().view(id).ok().flatten().map(|view| view.base);
        let needed = !is_own(content) && newest.is_some() || newest == Some(position);
        let severity = if needed { Severity::Damage } else { Severity::Dead };
        let place = at(position.segment, position.offset);
        Some(Problem { severity, place, message: Some(id), what })
    }

    fn check_bodies(&self, found: &mut dyn FnMut(Problem)) -> Result<(), OfflineError> {
        let mut unnamed: BTreeSet<String> = self.bodies.files()?.into_iter().collect();
        for id in self.messages()? {
            let Ok(Some(view)) = self.inner().core().view(id) else { continue };
            if view.place != Place::File {
                continue;
            }
            let name = file_name(id);
            unnamed.remove(&name);
            let size = self.bodies.open(&name).and_then(|file| file.size());
            let what = match size {
                Ok(size) if size == view.size => continue,
                Ok(size) => format!("it has {size} octets instead of {}", view.size),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".into(),
                Err(error) => format!("it cannot be read: {error}"),
            };
            let place = format!("bodies/{name}");
            found(Problem { severity: Severity::Damage, place, message: Some(id), what });
        }
        for name in unnamed {
            let what = "no message names it".to_owned();
            let place = format!("bodies/{name}");
            found(Problem { severity: Severity::Leftover, place, message: None, what });
        }
        Ok(())
    }

    /// Reads a copy of the index: opening one may change it.
    fn check_index(&self, found: &mut dyn FnMut(Problem)) -> Result<(), OfflineError> {
        let index = self.directory.join("index");
        if !index.is_dir() {
            let what = "there is none; the next start makes it anew".to_owned();
            let place = "index".to_owned();
            found(Problem { severity: Severity::Leftover, place, message: None, what });
            return Ok(());
        }
        let copy = Scratch::copy_of(&index)?;
        if let Err(what) = read_index(&copy.0) {
            let place = "index".to_owned();
            found(Problem { severity: Severity::Index, place, message: None, what });
        }
        Ok(())
    }
}

fn read_index(path: &Path) -> Result<(), String> {
    let usual = merpati_store::Options::default();
    let options = merpati_store::Options { cache: 8 << 20, ..usual };
    let store = SledStore::open(path, options).map_err(|error| error.to_string())?;
    let mut index = Index::open(Arc::new(store)).map_err(|error| error.to_string())?;
    match index.load(|_, _| Scan::Next) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err("it does not add up".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn copy_of(from: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        // What an earlier process with our number has left behind is in nobody's way.
        let scratch = (0..1_000).find_map(|number| {
            let name = format!("merpati-index-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                made => Some(made.map(|()| Self(path))),
            }
        });
        let scratch = scratch.unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))?;
        copy(from, &scratch.0)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is small, and where such things are swept.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

fn covers(damage: &Damage, content: &Content) -> bool {
    let position = content.position;
    damage.segment == position.segment
        && (damage.offset..damage.offset + damage.len).contains(&position.offset)
}

fn of_damage(damage: &Damage) -> Problem {
    let Damage { segment, offset, len, first, last, about } = damage;
    let records = match last.checked_sub(*first) {
        None => "nothing that counts".to_owned(),
        Some(0) => format!("record {first}"),
        Some(_) => format!("records {first} to {last}"),
    };
    let kind = about.map(|(kind, _)| format!(", a {} record", name(kind))).unwrap_or_default();
    Problem {
        severity: Severity::Damage,
        place: at(*segment, *offset),
        message: about.map(|(_, key)| MessageId::from_u64(key)),
        what: format!("{len} octets cannot be read: {records}{kind}"),
    }
}

fn at(segment: u64, offset: u64) -> String {
    format!("journal/{segment:016x}.seg at {offset}")
}

fn name(record: u8) -> &'static str {
    match record {
        kind::MESSAGE => "message",
        kind::COPY => "copy",
        kind::ATTEMPT => "attempt",
        kind::OUTCOME => "outcome",
        kind::MARK => "mark",
        kind::DONE => "done",
        _ => "unknown",
    }
}
