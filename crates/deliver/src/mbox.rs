//! Delivery into mbox files (RFC 4155), in the form that is called mboxrd: every line that begins
//! with any number of `>` and `From ` gets one `>` more, so that a reader can take it off again.
//!
//! A message is appended under a lock and synced before it counts; what cannot be written whole is
//! cut off again. A crash in the middle can leave a part of a message, and the whole behind it.

mod quote;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use merpati_plugin::deliver::{DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::{Deliverer, Job, async_trait};
use merpati_types::{Recipient, Timestamp};
use rustix::fs::{FlockOperation, OFlags};
use tokio::sync::OwnedMutexGuard;

use crate::line_ending::{Converter, LineEnding};
use crate::local::{self, Trouble, blocking};
use crate::maildir::Template;
use crate::trace::trace;
use quote::Quoter;

/// How much is written at once.
const PIECE: usize = 256 * 1024;
/// How often somebody else's lock is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What an mbox transport needs to know.
#[derive(Clone, Debug)]
pub struct MboxConfig {
    /// The transport's name.
    pub name: String,
    /// Which file belongs to which recipient.
    pub path: Template,
    /// How long to wait for somebody else's lock.
    pub lock_timeout: Duration,
}

/// Delivers into mbox files.
#[derive(Clone, Debug)]
pub struct Mbox {
    config: Arc<MboxConfig>,
    /// Who of ours is at which file: the system's locks are those of a process, and end with the
    /// first of its files that is closed.
    turns: Arc<Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>>,
}

impl Mbox {
    /// A transport with this configuration.
    #[must_use]
    pub fn new(config: MboxConfig) -> Self {
        Self { config: Arc::new(config), turns: Arc::default() }
    }

    async fn store(&self, job: &Job, recipient: &Recipient) -> Result<PathBuf, Trouble> {
        let path = self.config.path.directory(&recipient.address);
        let _turn = self.turn(&path).await;
        let mut reader = job.message.open().await?;
        let (place, patience) = (path.clone(), self.config.lock_timeout);
        let open = blocking(move || Open::lock(&place, patience)).await?;
        let mut writer = Writer { open: Some(open), pending: BytesMut::new() };
        let mut text = BytesMut::new();
        let mut converter = Converter::new(LineEnding::Lf);
        let mut quoter = Quoter::default();
        writer.pending.extend_from_slice(separator(job).as_bytes());
        converter.convert(&trace(job, recipient), &mut text);
        let stored = async {
            while let Some(piece) = reader.next().await? {
                converter.convert(&piece, &mut text);
                quoter.quote(&text.split(), &mut writer.pending);
                if writer.pending.len() >= PIECE {
                    writer.write_out().await?;
                }
            }
            converter.finish(&mut text);
            quoter.quote(&text.split(), &mut writer.pending);
            quoter.finish(&mut writer.pending);
            writer.finish().await
        };
        match stored.await {
            Ok(()) => Ok(path),
            Err(trouble) => {
                writer.undo().await;
                Err(trouble)
            }
        }
    }

    /// Waits until none of ours is at this file.
    async fn turn(&self, path: &Path) -> OwnedMutexGuard<()> {
        let turn = {
            // The map is whole between statements, so a panic elsewhere leaves it usable.
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(path).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(path.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[async_trait]
impl Deliverer for Mbox {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let mut outcomes = Vec::with_capacity(job.parcel.pending.len());
        for (_, recipient) in job.parcel.recipients() {
            outcomes.push(match self.store(&job, recipient).await {
                Ok(path) => DeliveryOutcome {
                    result: DeliveryResult::Delivered(Handover::Final),
                    remote: None,
                    source: None,
                    diagnostic: format!("appended to {}", path.display()),
                },
                Err(trouble) => trouble.outcome(self.name()),
            });
        }
        outcomes
    }
}

/// The line in front of a message: `From a@b.test Mon Nov 23 19:42:00 2026`.
fn separator(job: &Job) -> String {
    let sender = job.parcel.reverse_path().mailbox().map(ToString::to_string);
    // A quoted local part may have spaces, which would end the address for readers.
    let sender = sender.filter(|sender| !sender.contains(char::is_whitespace));
    let sender = sender.as_deref().unwrap_or("MAILER-DAEMON");
    format!("From {sender} {}\n", asctime(job.parcel.info.message.arrived))
}

/// As C's `asctime` writes it, in UTC.
fn asctime(time: Timestamp) -> String {
    let text = time.to_rfc5322();
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [weekday, day, month, year, clock, ..] => {
            let day = day.trim_start_matches('0');
            format!("{weekday} {month} {day:>2} {clock} {year}")
        }
        _ => text,
    }
}

/// A mailbox that nobody else writes to.
struct Open {
    file: File,
    /// How long it was before.
    before: u64,
    /// Where it is, if it is new.
    made: Option<PathBuf>,
}

impl Open {
    /// Opens a mailbox, or makes it, and waits for its lock.
    fn lock(path: &Path, patience: Duration) -> io::Result<Self> {
        let (file, made) = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("the mailbox is no file, or has other names"));
        }
        let begun = Instant::now();
        while let Err(error) =
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        {
            let held = matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS);
            if !held || begun.elapsed() >= patience {
                return Err(error.into());
            }
            thread::sleep(RETRY);
        }
        let mut open = Self { before: file.metadata()?.len(), file, made };
        open.file.seek(SeekFrom::Start(open.before))?;
        open.end_last_line()?;
        Ok(open)
    }

    /// What somebody else left in the middle of a line must not swallow the separator.
    fn end_last_line(&mut self) -> io::Result<()> {
        let Some(last) = self.before.checked_sub(1) else { return Ok(()) };
        let mut octet = [0];
        self.file.read_exact_at(&mut octet, last)?;
        if octet != *b"\n" { self.file.write_all(b"\n\n") } else { Ok(()) }
    }

    /// Makes what was written durable.
    fn keep(&self) -> io::Result<()> {
        self.file.sync_all()?;
        match self.made.as_deref().and_then(Path::parent) {
            Some(directory) => local::sync_with_ancestors(directory),
            None => Ok(()),
        }
    }

    /// Takes back what was written.
    fn undo(&self) {
        if let Err(error) = self.file.set_len(self.before).and_then(|()| self.file.sync_all()) {
            tracing::error!(%error, "a part of a message is left in an mbox");
        }
    }
}

/// Opens a file, or makes it; with its path if it was made.
fn open(path: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut options = File::options();
    options.read(true).write(true).custom_flags(nofollow).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return Ok((opened?, None)),
    }
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match options.create_new(true).open(path) {
        // Somebody was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false);
            Ok((options.open(path)?, None))
        }
        made => Ok((made?, Some(path.to_owned()))),
    }
}

/// Writes off the async threads.
struct Writer {
    open: Option<Open>,
    pending: BytesMut,
}

impl Writer {
    async fn write_out(&mut self) -> Result<(), Trouble> {
        self.work(|_| Ok(())).await
    }

    async fn finish(&mut self) -> Result<(), Trouble> {
        self.work(Open::keep).await
    }

    /// Writes what is pending, and does something more.
    async fn work(&mut self, then: fn(&Open) -> io::Result<()>) -> Result<(), Trouble> {
        let Some(mut open) = self.open.take() else {
            return Err(io::Error::other("the mailbox is closed").into());
        };
        let piece = self.pending.split().freeze();
        let worked = blocking(move || {
            let done = open.file.write_all(&piece).and_then(|()| then(&open));
            Ok((open, done))
        });
        let (open, done) = worked.await?;
        self.open = Some(open);
        Ok(done?)
    }

    async fn undo(&mut self) {
        if let Some(open) = self.open.take() {
            let undone = blocking(move || {
                open.undo();
                Ok(())
            });
            // It has told what went wrong.
            let _ = undone.await;
        }
    }
}

#[cfg(test)]
mod tests;
