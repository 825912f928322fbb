//! Message bodies on the wire: DATA with its dots, BDAT with its counts.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr2, memchr3};

use crate::flaw::{Flaw, Flaws};

/// What a body decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Octets of the body, as the sender meant them.
    Body(Bytes),
    /// The end of the DATA body, or of the BDAT chunk. What is left in the input follows it.
    End,
}

/// Decodes the body that follows a 354 reply (RFC 5321 §4.5.2).
///
/// Only CRLF.CRLF ends the body, or .CRLF as its very first line; a bare CR or LF is body, noted in
/// [`flaws`](Self::flaws), and never a line end: taking it as one lets mail be smuggled. The body
/// includes the CRLF before the final dot, and leaves out the dot that a sender puts before every
/// line that begins with one.
///
/// ```text
///              .          CR           LF
/// LineStart ------> Dot ------> DotCr ------> Ended
///   ^  | other       | other      | other
///   |  v             v            v
///   | Text <------------------- (as after Cr)
///   |  | CR  ^ other
///   |  v     |
///   '-- Cr --'
///   LF
/// ```
///
/// Body octets are handed on as slices of the input, without copying, save for a CR that a chunk
/// boundary parted from what follows it.
#[derive(Debug, Clone)]
pub struct DataDecoder {
    state: DataState,
    size: u64,
    flaws: Flaws,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataState {
    /// At the beginning of a line.
    LineStart,
    /// In a line, after an octet that is neither CR nor a line's first dot.
    Text,
    /// After a CR that was handed on.
    Cr,
    /// After a dot at the beginning of a line, which was dropped.
    Dot,
    /// After such a dot and a CR, which is held: it is body unless LF follows.
    DotCr,
    /// After the end.
    Ended,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataDecoder {
    /// A decoder for the body that begins with the next octet.
    pub fn new() -> Self {
        DataDecoder { state: DataState::LineStart, size: 0, flaws: Flaws::default() }
    }

    /// Octets of the body handed on so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was found wrong so far; complete once [`Decoded::End`] was given.
    pub fn flaws(&self) -> Flaws {
        self.flaws
    }

    /// Takes what comes next from the front of `input`, or `None` when more bytes are needed.
    ///
    /// After [`Decoded::End`] it takes nothing more: what is left in `input` are commands.
    pub fn decode(&mut self, input: &mut BytesMut) -> Option<Decoded> {
        loop {
            let first = *input.first()?;
            match (self.state, first) {
                (DataState::Ended, _) => return None,
                (DataState::LineStart, b'.') => {
                    input.advance(1);
                    self.state = DataState::Dot;
                }
                (DataState::Dot, b'\r') => {
                    if let [_, next, ..] = input[..] {
                        if next == b'\n' {
                            input.advance(2);
                            self.state = DataState::Ended;
                            return Some(Decoded::End);
                        }
                        return Some(self.run(input));
                    }
                    input.advance(1);
                    self.state = DataState::DotCr;
                }
                (DataState::DotCr, b'\n') => {
                    input.advance(1);
                    self.state = DataState::Ended;
                    return Some(Decoded::End);
                }
                (DataState::DotCr, _) => {
                    self.size += 1;
                    self.state = DataState::Cr;
                    return Some(Decoded::Body(Bytes::from_static(b"\r")));
                }
                _ => return Some(self.run(input)),
            }
        }
    }

    /// Takes the longest run of body octets: to the end of input, or to a dot that starts a line.
    /// The input is not empty and begins with a body octet.
    fn run(&mut self, input: &mut BytesMut) -> Decoded {
        let bytes = &input[..];
        let mut at = 0;
        let mut state = self.state;
        while let Some(&byte) = bytes.get(at) {
            state = match (state, byte) {
                (DataState::Cr, b'\n') => DataState::LineStart,
                (DataState::LineStart, b'.') => break,
                (before, _) => {
                    if before == DataState::Cr {
                        // The first octet's CR may have been handed on with the last run.
                        self.flaws.note(Flaw::BareCr, (self.size + at as u64).saturating_sub(1));
                    }
                    match next_special(&bytes[at..]) {
                        None => {
                            at = bytes.len();
                            state = DataState::Text;
                            break;
                        }
                        Some(offset) => {
                            at += offset;
                            match bytes[at] {
                                b'\r' => DataState::Cr,
                                b'\n' => {
                                    self.flaws.note(Flaw::BareLf, self.size + at as u64);
                                    DataState::Text
                                }
                                _ => {
                                    self.flaws.note(Flaw::Nul, self.size + at as u64);
                                    DataState::Text
                                }
                            }
                        }
                    }
                }
            };
            at += 1;
        }
        self.state = state;
        self.size += at as u64;
        Decoded::Body(input.split_to(at).freeze())
    }
}

/// Where the next CR, LF or NUL is.
fn next_special(bytes: &[u8]) -> Option<usize> {
    match bytes.first() {
        // They come in a row in hostile input, where a search for each would be slow.
        Some(b'\r' | b'\n' | 0) => Some(0),
        _ => memchr3(b'\r', b'\n', 0, bytes),
    }
}

/// Decodes the chunks of BDAT commands (RFC 3030 §2): counts octets, and looks at line ends unless
/// the body is binary.
///
/// One decoder serves all chunks of a message, since a CR and its LF may come in two.
#[derive(Debug, Clone)]
pub struct BdatDecoder {
    left: u64,
    chunk: Chunk,
    size: u64,
    scan: Option<Scan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Open,
    Closed,
}

/// Looks for flaws in a body that comes in pieces.
#[derive(Debug, Clone, Default)]
struct Scan {
    after_cr: bool,
    flaws: Flaws,
}

impl BdatDecoder {
    /// A decoder for a message of lines (BODY=7BIT or 8BITMIME), which notes flaws.
    pub fn text() -> Self {
        BdatDecoder { left: 0, chunk: Chunk::Closed, size: 0, scan: Some(Scan::default()) }
    }

    /// A decoder for a message with BODY=BINARYMIME, in which every octet is as good as another.
    pub fn binary() -> Self {
        BdatDecoder { left: 0, chunk: Chunk::Closed, size: 0, scan: None }
    }

    /// Begins a chunk of `size` octets, which may be 0. What was left of the chunk before is
    /// forgotten.
    pub fn start_chunk(&mut self, size: u64) {
        self.left = size;
        self.chunk = Chunk::Open;
    }

    /// Takes what comes next from the front of `input`, or `None` when more bytes are needed or no
    /// chunk is open. [`Decoded::End`] is given once a chunk.
    pub fn decode(&mut self, input: &mut BytesMut) -> Option<Decoded> {
        if self.chunk == Chunk::Closed {
            return None;
        }
        if self.left == 0 {
            self.chunk = Chunk::Closed;
            return Some(Decoded::End);
        }
        if input.is_empty() {
            return None;
        }
        let take = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        let body = input.split_to(take).freeze();
        if let Some(scan) = &mut self.scan {
            scan.feed(&body, self.size);
        }
        self.left -= take as u64;
        self.size += take as u64;
        Some(Decoded::Body(body))
    }

    /// Octets of the open chunk that have not come yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Octets of the body handed on so far, of all chunks.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was found wrong so far. A CR at the very end counts as bare, so ask after the last
    /// chunk.
    pub fn flaws(&self) -> Flaws {
        let Some(scan) = &self.scan else { return Flaws::default() };
        let mut flaws = scan.flaws;
        if scan.after_cr {
            flaws.note(Flaw::BareCr, self.size - 1);
        }
        flaws
    }
}

impl Scan {
    /// Looks at the next piece, which begins at octet `offset` of the body.
    fn feed(&mut self, piece: &[u8], offset: u64) {
        let mut at = 0;
        while at < piece.len() {
            if self.after_cr {
                self.after_cr = false;
                if piece[at] == b'\n' {
                    at += 1;
                    continue;
                }
                self.flaws.note(Flaw::BareCr, offset + at as u64 - 1);
            }
            let Some(found) = next_special(&piece[at..]) else { return };
            at += found;
            match piece[at] {
                b'\r' => self.after_cr = true,
                b'\n' => self.flaws.note(Flaw::BareLf, offset + at as u64),
                _ => self.flaws.note(Flaw::Nul, offset + at as u64),
            }
            at += 1;
        }
    }
}

/// Encodes a body for DATA: doubles the dot at the beginning of a line, ends the last line, and
/// adds the final dot (RFC 5321 §4.5.2).
///
/// It hands on slices of its input without copying: a dot is doubled by ending one slice after it
/// and beginning the next before it. A CR or LF alone never leaves: receivers that take one for a
/// line end would read a second message into the first.
#[derive(Debug, Clone)]
pub struct DataEncoder {
    state: EncodeState,
    taken: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EncodeState {
    /// At the beginning of a line.
    LineStart,
    /// At the beginning of a line that starts with a dot, after the dot that is added.
    Stuffed,
    /// In a line.
    Text,
    /// After a CR that is held until its LF comes.
    HeldCr,
}

/// A body that DATA can't carry. The transaction can only be ended by closing the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{flaw} at octet {at} of the body")]
pub struct EncodeError {
    /// What is wrong: a bare CR or a bare LF.
    pub flaw: Flaw,
    /// Where, in octets of the body from 0.
    pub at: u64,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// An encoder at the beginning of a body.
    pub fn new() -> Self {
        DataEncoder { state: EncodeState::LineStart, taken: 0 }
    }

    /// Takes what it can from the front of `input`; gives what to write, or `None` once `input` is
    /// empty.
    ///
    /// # Errors
    /// The body has a CR or an LF by itself, which has not been handed on. The encoder must not be
    /// used further.
    pub fn encode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, EncodeError> {
        let Some(&first) = input.first() else { return Ok(None) };
        if self.state == EncodeState::HeldCr {
            if first != b'\n' {
                return Err(EncodeError { flaw: Flaw::BareCr, at: self.taken - 1 });
            }
            input.advance(1);
            self.taken += 1;
            self.state = EncodeState::LineStart;
            return Ok(Some(Bytes::from_static(b"\r\n")));
        }
        let (end, next) = self.scan(input)?;
        let mut piece = input.slice(..end);
        match next {
            // The dot at the slice's end is sent now, and again as the first of the next slice.
            EncodeState::Stuffed => {
                input.advance(end - 1);
                self.taken += end as u64 - 1;
            }
            EncodeState::HeldCr => {
                input.advance(end);
                self.taken += end as u64;
                piece.truncate(end - 1);
            }
            EncodeState::LineStart | EncodeState::Text => {
                input.advance(end);
                self.taken += end as u64;
            }
        }
        self.state = next;
        if piece.is_empty() { Ok(None) } else { Ok(Some(piece)) }
    }

    /// Finds how much of `bytes` can go out in one slice, and the state after it.
    fn scan(&self, bytes: &[u8]) -> Result<(usize, EncodeState), EncodeError> {
        let mut at = match self.state {
            EncodeState::LineStart if bytes[0] == b'.' => return Ok((1, EncodeState::Stuffed)),
            EncodeState::Stuffed => 1,
            _ => 0,
        };
        loop {
            let Some(offset) = memchr2(b'\r', b'\n', &bytes[at..]) else {
                let next = if at == bytes.len() && at > 0 && bytes[at - 1] == b'\n' {
                    EncodeState::LineStart
                } else {
                    EncodeState::Text
                };
                return Ok((bytes.len(), next));
            };
            at += offset;
            if bytes[at] == b'\n' {
                return Err(EncodeError { flaw: Flaw::BareLf, at: self.taken + at as u64 });
            }
            match bytes.get(at + 1) {
                None => return Ok((at + 1, EncodeState::HeldCr)),
                Some(b'\n') => at += 2,
                Some(_) => {
                    return Err(EncodeError { flaw: Flaw::BareCr, at: self.taken + at as u64 });
                }
            }
            if bytes.get(at) == Some(&b'.') {
                return Ok((at + 1, EncodeState::Stuffed));
            }
        }
    }

    /// What ends the body: a CRLF if its last line has none, and the line with the dot.
    ///
    /// # Errors
    /// The body ends with a CR.
    pub fn finish(self) -> Result<Bytes, EncodeError> {
        match self.state {
            EncodeState::LineStart => Ok(Bytes::from_static(b".\r\n")),
            EncodeState::Text | EncodeState::Stuffed => Ok(Bytes::from_static(b"\r\n.\r\n")),
            EncodeState::HeldCr => Err(EncodeError { flaw: Flaw::BareCr, at: self.taken - 1 }),
        }
    }
}

#[cfg(test)]
mod tests;
