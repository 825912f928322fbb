//! The hash of a body in canonical form (RFC 6376 §3.4, §3.7).

use std::fmt;

use mail_auth::common::crypto::{HashContext, HashImpl, Sha256};
use mail_auth::dkim::Canonicalization as Library;
use mail_auth::dkim::canonicalize::BodyHasher as LibraryHasher;

use crate::signer::SignError;

/// How much may happen to a message on its way before its signature no longer holds
/// (RFC 6376 §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Canonicalization {
    /// Almost nothing; empty lines at the end of a body may come and go.
    Simple,
    /// White space may also change in length, and letter case in the names of fields.
    #[default]
    Relaxed,
}

impl Canonicalization {
    pub(crate) fn theirs(self) -> Library {
        match self {
            Self::Simple => Library::Simple,
            Self::Relaxed => Library::Relaxed,
        }
    }
}

/// The SHA-256 of a body in canonical form. One serves every key that signs the message, and
/// every later attempt to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash {
    pub(crate) canonicalization: Canonicalization,
    pub(crate) digest: [u8; 32],
}

/// Hashes a body that comes in pieces, cut anywhere, and keeps none of it.
///
/// ```
/// use merpati_mailauth::{BodyHasher, Canonicalization};
///
/// let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
/// hasher.write(b"Hello,  wor");
/// hasher.write(b"ld. \r\n \r\n");
/// let one = hasher.finish()?;
///
/// let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
/// hasher.write(b"Hello, world.\r\n");
/// assert_eq!(one, hasher.finish()?);
/// # Ok::<(), merpati_mailauth::SignError>(())
/// ```
pub struct BodyHasher {
    canonicalization: Canonicalization,
    hasher: LibraryHasher<<Sha256 as HashImpl>::Context>,
    held: Blank,
    line_ends: LineEnds,
}

impl BodyHasher {
    /// Begins with an empty body.
    #[must_use]
    pub fn new(canonicalization: Canonicalization) -> Self {
        let hasher = LibraryHasher::new(Sha256::hasher(), canonicalization.theirs(), 0);
        Self { canonicalization, hasher, held: Blank::default(), line_ends: LineEnds::default() }
    }

    /// The next piece of the body: what follows the empty line after the header section, with
    /// CRLF line ends, and as it goes over the wire but for transparency (dots are not doubled).
    pub fn write(&mut self, piece: &[u8]) {
        self.line_ends.count(piece);
        match self.canonicalization {
            Canonicalization::Simple => self.hasher.write(piece),
            Canonicalization::Relaxed => self.write_relaxed(piece),
        }
    }

    /// The hash of all that was written.
    ///
    /// # Errors
    /// [`SignError::BareLineEnd`], when there was a CR or LF that is no part of a CRLF.
    pub fn finish(self) -> Result<BodyHash, SignError> {
        if !self.line_ends.are_paired() {
            return Err(SignError::BareLineEnd);
        }
        let (hasher, _) = self.hasher.finish();
        let mut digest = [0; 32];
        digest.copy_from_slice(hasher.complete().as_ref());
        Ok(BodyHash { canonicalization: self.canonicalization, digest })
    }

    /// The library takes lines of white space at the end of a body for text (its issue 62), so
    /// that no verifier agrees with the hash. White space therefore waits here until text
    /// follows; what waits at the end is not part of the canonical form: "Ignore all empty lines
    /// at the end of the message body", after white space at the end of lines (RFC 6376 §3.4.4).
    fn write_relaxed(&mut self, piece: &[u8]) {
        let blank = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
        let text = piece.iter().rposition(|octet| !blank(octet)).map_or(0, |last| last + 1);
        let (text, end) = piece.split_at(text);
        if !text.is_empty() {
            std::mem::take(&mut self.held).pass(|octets| self.hasher.write(octets));
            self.hasher.write(text);
        }
        self.held.add(end);
    }
}

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let canonicalization = &self.canonicalization;
        f.debug_struct("BodyHasher").field("canonicalization", canonicalization).finish()
    }
}

/// A run of white space in relaxed form: line ends, and whether white space follows the last.
#[derive(Debug, Default)]
struct Blank {
    line_ends: usize,
    space: bool,
}

impl Blank {
    fn add(&mut self, octets: &[u8]) {
        for octet in octets {
            match octet {
                b'\n' => {
                    self.line_ends += 1;
                    self.space = false;
                }
                b' ' | b'\t' => self.space = true,
                _ => {}
            }
        }
    }

    fn pass(self, mut to: impl FnMut(&[u8])) {
        const LINES: &[u8] = b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
        let mut left = self.line_ends * 2;
        while left > 0 {
            let some = left.min(LINES.len());
            to(&LINES[..some]);
            left -= some;
        }
        if self.space {
            to(b" ");
        }
    }
}

/// Whether every CR is followed by LF and every LF preceded by CR, in text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct LineEnds {
    carriage_returns: usize,
    line_feeds: usize,
    last: u8,
    /// An LF stood alone.
    bare: bool,
}

impl LineEnds {
    pub(crate) fn count(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else { return };
        for place in memchr::memchr_iter(b'\n', piece) {
            let before = if place == 0 { self.last } else { piece[place - 1] };
            self.bare |= before != b'\r';
            self.line_feeds += 1;
        }
        self.carriage_returns += memchr::memchr_iter(b'\r', piece).count();
        self.last = last;
    }

    /// Where every LF follows a CR, a CR stands alone only if there are more of them.
    pub(crate) fn are_paired(&self) -> bool {
        !self.bare && self.carriage_returns == self.line_feeds
    }
}

#[cfg(test)]
mod tests;
