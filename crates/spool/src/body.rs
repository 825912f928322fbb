//! Message bytes: in memory while small, in a file of their own when not.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use merpati_journal::{Disk, DiskFile};
use merpati_plugin::spool::{MessageInfo, SpoolError};
use merpati_plugin::{BodyReader, BodySource};
use merpati_types::{HeaderEdits, HeaderSection, MessageId};

/// Octets read from a file at once.
const PIECE: usize = 64 << 10;

/// Octets of small bodies that all of the process may hold in memory.
#[derive(Debug)]
pub(crate) struct Budget {
    whole: usize,
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(octets: usize) -> Arc<Self> {
        Arc::new(Self { whole: octets, left: AtomicUsize::new(octets) })
    }

    /// Whether there is room for what would only be convenient: what is on its way in
    /// needs the other half.
    pub(crate) fn is_ample(&self) -> bool {
        self.left.load(Ordering::Relaxed) >= self.whole / 2
    }

    /// A reservation of nothing, to grow.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation { budget: self.clone(), octets: 0 }
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    octets: usize,
}

impl Reservation {
    /// Takes that much more; `false` if it is not there.
    pub(crate) fn grow(&mut self, octets: usize) -> bool {
        let left = &self.budget.left;
        let take = |left: usize| left.checked_sub(octets);
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.octets += octets;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.octets, Ordering::Relaxed);
    }
}

/// A body in memory and its part of the budget.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) bytes: Bytes,
    _reserved: Arc<Reservation>,
}

impl Kept {
    pub(crate) fn new(bytes: Bytes, reserved: Reservation) -> Self {
        Self { bytes, _reserved: Arc::new(reserved) }
    }
}

/// The name of a message's body file.
pub(crate) fn file_name(id: MessageId) -> String {
    id.to_string()
}

/// A body file that is being written, in pieces off the async threads.
pub(crate) struct FileWriter {
    pub(crate) file: Arc<dyn DiskFile>,
    buffer: BytesMut,
    written: u64,
}

impl FileWriter {
    pub(crate) async fn create(disk: Arc<dyn Disk>, id: MessageId) -> io::Result<Self> {
        let file = blocking(move || disk.create(&file_name(id))).await?;
        Ok(Self { file, buffer: BytesMut::new(), written: 0 })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 4 * PIECE { self.flush().await } else { Ok(()) }
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.buffer.split();
        let (file, offset) = (self.file.clone(), self.written);
        self.written += bytes.len() as u64;
        let write = move || {
            file.write_at(offset, &[IoSlice::new(&bytes)])?;
            io::Result::Ok(bytes)
        };
        // The buffer comes back to be used again.
        self.buffer = blocking(write).await?;
        self.buffer.clear();
        Ok(())
    }

    /// Octets taken so far, flushed or not.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Puts the file and its name on stable storage.
    pub(crate) async fn finish(mut self, disk: Arc<dyn Disk>) -> io::Result<()> {
        self.flush().await?;
        blocking(move || {
            self.file.sync_data()?;
            disk.sync_dir()
        })
        .await
    }
}

/// The bytes of a message as received.
#[derive(Clone)]
pub(crate) enum Stored {
    Memory(Bytes),
    File { file: Arc<dyn DiskFile>, size: u64 },
}

impl Stored {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// The first octets, at most `len`.
    async fn start(&self, len: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(..len.min(bytes.len()))),
            Self::File { file, size } => {
                let len = len.min(usize::try_from(*size).unwrap_or(usize::MAX));
                read_file(file.clone(), 0, len).await
            }
        }
    }
}

#[async_trait]
impl BodySource for Stored {
    fn size(&self) -> u64 {
        self.len()
    }

    fn in_memory(&self) -> Option<Bytes> {
        match self {
            Self::Memory(bytes) => Some(bytes.clone()),
            Self::File { .. } => None,
        }
    }

    async fn open(&self) -> io::Result<Box<dyn BodyReader>> {
        Ok(Box::new(Pass { first: Bytes::new(), rest: self.clone(), at: 0 }))
    }
}

/// A stored message with its edits applied.
#[derive(Clone)]
pub(crate) struct Edited {
    header: Bytes,
    rest: Stored,
    /// Where in `rest` the part after the received header begins.
    after: u64,
}

impl Edited {
    /// Reads the header section and applies the edits to it.
    pub(crate) async fn new(stored: Stored, info: &MessageInfo) -> io::Result<Self> {
        let edits = &info.message.edits;
        if edits.is_empty() {
            return Ok(Self { header: Bytes::new(), rest: stored, after: 0 });
        }
        let (header, after) = edit(&stored, edits).await?;
        Ok(Self { header, rest: stored, after })
    }

    pub(crate) fn size(&self) -> u64 {
        self.header.len() as u64 + self.rest.len() - self.after
    }

    pub(crate) fn open(&self) -> Box<dyn BodyReader> {
        Box::new(Pass { first: self.header.clone(), rest: self.rest.clone(), at: self.after })
    }
}

/// The edited header section, and where the received one ends.
async fn edit(stored: &Stored, edits: &HeaderEdits) -> io::Result<(Bytes, u64)> {
    let most = HeaderSection::OCTET_LIMIT + PIECE;
    let mut len = PIECE;
    loop {
        let start = stored.start(len).await?;
        let complete = start.len() as u64 == stored.len();
        match HeaderSection::read(&start) {
            // It has ended for sure where a whole line follows it.
            Ok(section)
                if complete || memchr::memchr(b'\n', &start[section.raw().len()..]).is_some() =>
            {
                let after = section.raw().len();
                return Ok((apart(edits.apply(&section), &start[after..]), after as u64));
            }
            Ok(_) if len < most => len *= 4,
            // Nothing can be found in a header section beyond all limits: what is added
            // goes before it.
            Ok(_) | Err(_) => {
                let nothing = HeaderSection::read(&Bytes::new()).expect("nothing has no limit");
                return Ok((apart(edits.apply(&nothing), &start), 0));
            }
        }
    }
}

/// The header section, with an empty line behind it where `rest` would continue its last field:
/// what a sender wrote must not become a part of what we say.
fn apart(header: Bytes, rest: &[u8]) -> Bytes {
    if header.is_empty() || !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
        return header;
    }
    [&header[..], b"\r\n"].concat().into()
}

/// One pass: first what is in memory, then the rest piece by piece.
struct Pass {
    first: Bytes,
    rest: Stored,
    at: u64,
}

#[async_trait]
impl BodyReader for Pass {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(4 * PIECE);
            return Ok(Some(self.first.split_to(len)));
        }
        let left = usize::try_from(self.rest.len() - self.at).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let piece = match &self.rest {
            Stored::Memory(bytes) => {
                let at = bytes.len() - left;
                bytes.slice(at..at + left.min(4 * PIECE))
            }
            Stored::File { file, .. } => read_file(file.clone(), self.at, left.min(PIECE)).await?,
        };
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

async fn read_file(file: Arc<dyn DiskFile>, at: u64, len: usize) -> io::Result<Bytes> {
    blocking(move || {
        let mut buf = BytesMut::zeroed(len);
        if file.read_at(at, &mut buf)? < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body file is short"));
        }
        Ok(buf.freeze())
    })
    .await
}

/// Runs something that may wait for the disk off the async threads.
pub(crate) async fn blocking<T, E>(
    run: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // It goes on where it would have been.
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What the spool says of a failed disk.
pub(crate) fn spool_error(error: io::Error) -> SpoolError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SpoolError::Full { reason: "no space on the disk".into() }
        }
        _ => SpoolError::Unavailable(error),
    }
}
