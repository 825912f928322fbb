//! Delivery into Maildirs: `tmp`, then `new`, file and directory synced before it counts.
//!
//! The file's name is made of the message's arrival, its queue id and the recipient's place, so
//! that a delivery repeated after a crash replaces its own file instead of adding a second one.

mod place;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use merpati_plugin::deliver::{DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::{Deliverer, Job, async_trait};
use merpati_types::Recipient;

pub use crate::line_ending::LineEnding;
pub use place::{PlaceError, Template};

use crate::line_ending::Converter;
use crate::local::{self, Trouble, blocking};
use crate::trace::trace;

/// How much is handed to a file at once.
const PIECE: usize = 256 * 1024;

/// What a Maildir transport needs to know.
#[derive(Clone, Debug)]
pub struct MaildirConfig {
    /// The transport's name.
    pub name: String,
    /// Which directory belongs to which recipient.
    pub path: Template,
    /// Line ends in the files.
    pub line_ending: LineEnding,
    /// Our name, the last part of a file's name.
    pub hostname: String,
}

/// Delivers into Maildirs.
#[derive(Clone, Debug)]
pub struct Maildir {
    config: Arc<MaildirConfig>,
}

impl Maildir {
    /// A transport with this configuration.
    #[must_use]
    pub fn new(config: MaildirConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    async fn store(
        &self,
        job: &Job,
        place: u32,
        recipient: &Recipient,
    ) -> Result<PathBuf, Trouble> {
        let slot = Slot::of(&self.config, job, place, recipient);
        let mut reader = job.message.open().await?;
        let mut writer = Writer {
            converter: Converter::new(self.config.line_ending),
            pending: BytesMut::new(),
            open: None,
            slot,
        };
        writer.take(&trace(job, recipient)).await?;
        while let Some(piece) = reader.next().await? {
            writer.take(&piece).await?;
        }
        writer.finish().await
    }
}

#[async_trait]
impl Deliverer for Maildir {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let mut outcomes = Vec::with_capacity(job.parcel.pending.len());
        for (place, recipient) in job.parcel.recipients() {
            outcomes.push(match self.store(&job, place, recipient).await {
                Ok(path) => DeliveryOutcome {
                    result: DeliveryResult::Delivered(Handover::Final),
                    remote: None,
                    source: None,
                    diagnostic: format!("stored as {}", path.display()),
                },
                Err(trouble) => trouble.outcome(self.name()),
            });
        }
        outcomes
    }
}

/// Where one message for one recipient goes.
#[derive(Clone, Debug)]
struct Slot {
    directory: PathBuf,
    file: String,
}

impl Slot {
    fn of(config: &MaildirConfig, job: &Job, place: u32, recipient: &Recipient) -> Self {
        let mut directory = config.path.directory(&recipient.address);
        if let Some(folder) = &job.parcel.info.message.attributes.folder {
            directory.push(place::folder(folder));
        }
        let seconds = job.parcel.info.message.arrived.as_millis().div_euclid(1_000);
        let id = job.parcel.id.message;
        let host = place::host(&config.hostname);
        Self { directory, file: format!("{seconds}.Q{id}R{place}.{host}") }
    }

    /// Creates the mailbox if it is not there, and the file in `tmp`.
    fn create(&self) -> io::Result<File> {
        let path = self.directory.join("tmp").join(&self.file);
        match File::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_mailbox(&self.directory)?;
                File::create(&path)
            }
            other => other,
        }
    }

    /// Makes the file durable, and only then visible.
    fn publish(&self, file: &File) -> io::Result<PathBuf> {
        file.sync_all()?;
        let new = self.directory.join("new");
        let visible = new.join(&self.file);
        fs::rename(self.directory.join("tmp").join(&self.file), &visible)?;
        local::sync_directory(&new)?;
        Ok(visible)
    }

    fn discard(&self) {
        // Nothing depends on it: a later attempt truncates the file.
        let _ = fs::remove_file(self.directory.join("tmp").join(&self.file));
    }
}

fn create_mailbox(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for part in ["tmp", "new", "cur"] {
        builder.create(directory.join(part))?;
    }
    local::sync_with_ancestors(directory)
}

/// Gathers pieces; a message of one piece is created, written and published in one step off the
/// async threads.
struct Writer {
    converter: Converter,
    pending: BytesMut,
    open: Option<File>,
    slot: Slot,
}

impl Writer {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.converter.convert(bytes, &mut self.pending);
        if self.pending.len() >= PIECE {
            self.write_out().await?;
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), Trouble> {
        let (open, slot) = (self.open.take(), self.slot.clone());
        let piece = self.pending.split().freeze();
        let file = blocking(move || {
            let mut file = match open {
                Some(file) => file,
                None => slot.create()?,
            };
            file.write_all(&piece).inspect_err(|_| slot.discard())?;
            Ok(file)
        })
        .await?;
        self.open = Some(file);
        Ok(())
    }

    async fn finish(mut self) -> Result<PathBuf, Trouble> {
        self.converter.finish(&mut self.pending);
        let Self { pending, open, slot, .. } = self;
        let path = blocking(move || {
            let mut file = match open {
                Some(file) => file,
                None => slot.create()?,
            };
            let done = file.write_all(&pending).and_then(|()| slot.publish(&file));
            done.inspect_err(|_| slot.discard())
        })
        .await?;
        Ok(path)
    }
}
