//! Replies: written by the server, read by the client.

use bytes::{Buf, BufMut, BytesMut};
use memchr::memchr;
use merpati_types::{Class, EnhancedStatus, Reply, ReplyCode};

/// Longest reply line that is written, CRLF included (RFC 5321 §4.5.3.1.5).
pub const REPLY_LINE_LIMIT: usize = 512;

/// Longest reply line that is read, CRLF included: some peers exceed the 512 octets of RFC 5321.
pub const REPLY_LINE_TOLERANCE: usize = 2_048;

/// Most lines of one reply that are read.
pub const REPLY_LINES_LIMIT: usize = 128;

/// Most octets of one reply that are read, all lines together.
pub const REPLY_SIZE_LIMIT: usize = 65_536;

/// Writes a reply (RFC 5321 §4.2, RFC 2034 §4), with an enhanced status on every line if it has one.
///
/// A text too long for a line of [`REPLY_LINE_LIMIT`] is continued on the next.
pub fn encode_reply(reply: &Reply, out: &mut BytesMut) {
    let code = reply.code().to_string();
    let status = reply.enhanced().map_or_else(String::new, |status| format!("{status} "));
    let room = REPLY_LINE_LIMIT - code.len() - 1 - status.len() - 2;
    let mut texts =
        reply.lines().iter().flat_map(|line| Pieces { rest: Some(line), room }).peekable();
    while let Some(text) = texts.next() {
        out.put_slice(code.as_bytes());
        out.put_u8(if texts.peek().is_some() { b'-' } else { b' ' });
        out.put_slice(status.as_bytes());
        out.put_slice(text.as_bytes());
        out.put_slice(b"\r\n");
    }
}

/// Cuts a text, which may be empty, into pieces of at most `room` octets.
struct Pieces<'a> {
    rest: Option<&'a str>,
    room: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.take()?;
        if text.len() <= self.room {
            return Some(text);
        }
        let limit =
            (0..=self.room).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(self.room);
        // At a space if there is one in the second half, so that words stay whole.
        let cut = text[..limit].rfind(' ').filter(|&at| at > limit / 2).unwrap_or(limit);
        let (piece, rest) = text.split_at(cut);
        self.rest = Some(rest.strip_prefix(' ').unwrap_or(rest));
        Some(piece)
    }
}

/// Reads replies out of what a server sends.
///
/// Lines end with CRLF; a lone LF is taken as well, since servers in the field send it, and no
/// attack follows from it: a reply carries nothing that could be read as another. Other control
/// characters and octets that are not UTF-8 are replaced in the text. All bounds are constants of
/// this module: what exceeds them is an error, after which the connection can't be used.
///
/// An enhanced status is taken from the beginning of the first line, if its class agrees with the
/// code, and from each other line that repeats it.
#[derive(Debug, Clone, Default)]
pub struct ReplyParser {
    partial: Option<Partial>,
    /// Octets at the front of the buffer that hold no LF.
    scanned: usize,
}

/// A reply of which some lines have come.
#[derive(Debug, Clone)]
struct Partial {
    code: ReplyCode,
    lines: Vec<String>,
    octets: usize,
}

/// What a server sent is not a reply; whatever it says next can't be trusted to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A line does not begin with a code from 200 to 599 and a hyphen, a space or its end.
    #[error("reply line without a valid code")]
    Malformed,
    /// The lines of one reply have different codes (RFC 5321 §4.2.1).
    #[error("reply lines with the codes {first} and {other}")]
    CodesDiffer {
        /// The first line's code.
        first: ReplyCode,
        /// The code that differs.
        other: ReplyCode,
    },
    /// A line is longer than [`REPLY_LINE_TOLERANCE`], or all lines than [`REPLY_SIZE_LIMIT`].
    #[error("reply longer than {limit} octets")]
    TooLong {
        /// The limit in octets.
        limit: usize,
    },
    /// More lines than [`REPLY_LINES_LIMIT`].
    #[error("reply of more than {limit} lines")]
    TooManyLines {
        /// The limit in lines.
        limit: usize,
    },
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    pub fn new() -> Self {
        ReplyParser::default()
    }

    /// Whether a reply was begun and has not ended.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some() || self.scanned > 0
    }

    /// Forgets a reply that was begun; for use after the buffer was emptied, as at STARTTLS.
    pub fn reset(&mut self) {
        *self = ReplyParser::default();
    }

    /// Takes the next reply from the front of `input`, or `None` when more bytes are needed.
    ///
    /// Between calls bytes may only be added to the end of `input`, or all taken away and
    /// [`reset`](Self::reset) called.
    ///
    /// # Errors
    /// The server does not speak SMTP, or exceeds the bounds. The connection can't be used further.
    pub fn next_reply(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let Some(offset) = memchr(b'\n', &input[self.scanned..]) else {
                if input.len() >= REPLY_LINE_TOLERANCE {
                    return Err(ReplyError::TooLong { limit: REPLY_LINE_TOLERANCE });
                }
                self.scanned = input.len();
                return Ok(None);
            };
            let end = self.scanned + offset;
            if end >= REPLY_LINE_TOLERANCE {
                return Err(ReplyError::TooLong { limit: REPLY_LINE_TOLERANCE });
            }
            let line = &input[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let finished = self.take_line(line, end + 1)?;
            input.advance(end + 1);
            self.scanned = 0;
            if let Some(partial) = finished {
                return Ok(Some(assemble(partial)));
            }
        }
    }

    /// Adds a line; gives the whole once it was the last.
    fn take_line(&mut self, line: &[u8], octets: usize) -> Result<Option<Partial>, ReplyError> {
        let (digits, rest) = line.split_first_chunk::<3>().ok_or(ReplyError::Malformed)?;
        let code = code(*digits).ok_or(ReplyError::Malformed)?;
        let (more, text) = match rest {
            [] => (More::No, rest),
            [b' ', text @ ..] => (More::No, text),
            [b'-', text @ ..] => (More::Yes, text),
            _ => return Err(ReplyError::Malformed),
        };
        let mut partial =
            self.partial.take().unwrap_or(Partial { code, lines: Vec::new(), octets: 0 });
        if partial.code != code {
            return Err(ReplyError::CodesDiffer { first: partial.code, other: code });
        }
        if partial.lines.len() == REPLY_LINES_LIMIT {
            return Err(ReplyError::TooManyLines { limit: REPLY_LINES_LIMIT });
        }
        partial.octets += octets;
        if partial.octets > REPLY_SIZE_LIMIT {
            return Err(ReplyError::TooLong { limit: REPLY_SIZE_LIMIT });
        }
        partial.lines.push(clean(text));
        match more {
            More::No => Ok(Some(partial)),
            More::Yes => {
                self.partial = Some(partial);
                Ok(None)
            }
        }
    }
}

/// The text of a line; before the enhanced status is looked for, which a space has to follow.
fn clean(text: &[u8]) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    String::from_utf8_lossy(text).chars().map(visible).collect()
}

/// Whether another line of the reply follows.
enum More {
    Yes,
    No,
}

fn code(digits: [u8; 3]) -> Option<ReplyCode> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    ReplyCode::new(number)
}

/// Parts the enhanced status from the texts.
fn assemble(partial: Partial) -> Reply {
    let enhanced = partial.lines.first().and_then(|line| {
        let status: EnhancedStatus = line.split(' ').next()?.parse().ok()?;
        let class = match partial.code.as_u16() / 100 {
            2 => Class::Success,
            4 => Class::Transient,
            5 => Class::Permanent,
            _ => return None,
        };
        (status.class == class).then_some(status)
    });
    let strip = |line: &'_ str| -> usize {
        let first = line.split(' ').next().unwrap_or_default();
        match enhanced {
            Some(status) if first.parse() == Ok(status) => (first.len() + 1).min(line.len()),
            _ => 0,
        }
    };
    let lines = partial.lines.iter().map(|line| &line[strip(line)..]);
    Reply::with_lines(partial.code, enhanced, lines)
}

#[cfg(test)]
mod tests;
