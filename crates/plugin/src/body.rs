//! Messages as streams that can be read more than once.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

/// One pass over the bytes of a message.
#[async_trait]
pub trait BodyReader: Send {
    /// The next piece, never empty and at most 256 KiB; `None` at the end.
    ///
    /// # Errors
    /// What the storage said; the pass is over.
    async fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// A message that can be read again and again.
#[async_trait]
pub trait BodySource: Send + Sync {
    /// The length in octets.
    fn size(&self) -> u64;

    /// All of it, when it is small enough to be in memory anyway.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }

    /// Starts a pass from the first byte.
    ///
    /// # Errors
    /// What the storage said.
    async fn open(&self) -> io::Result<Box<dyn BodyReader>>;
}

/// A message in memory.
#[async_trait]
impl BodySource for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.clone())
    }

    async fn open(&self) -> io::Result<Box<dyn BodyReader>> {
        Ok(Box::new(Once(Some(self.clone()))))
    }
}

struct Once(Option<Bytes>);

#[async_trait]
impl BodyReader for Once {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        const PIECE: usize = 256 * 1024;
        let Some(mut rest) = self.0.take().filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        if rest.len() > PIECE {
            let piece = rest.split_to(PIECE);
            self.0 = Some(rest);
            return Ok(Some(piece));
        }
        Ok(Some(rest))
    }
}
