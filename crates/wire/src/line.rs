//! Cuts a byte stream into command lines.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// Longest command line a server must take, CRLF included (RFC 5321 §4.5.3.1.4).
pub const COMMAND_LINE_MINIMUM: usize = 512;

/// Longest AUTH line a server should take, CRLF included (RFC 4954 §4: 12288 octets).
pub const AUTH_LINE_MINIMUM: usize = 12_288;

/// Cuts CRLF-ended lines out of a buffer, and holds no bytes of its own.
///
/// Only CRLF ends a line (RFC 5321 §2.3.8). A bare CR or LF stays inside the line, where
/// [`Command::parse`](crate::Command::parse) refuses it: were it a line end, what a client meant
/// as one line could be read as two commands.
///
/// A line longer than the limit is dropped as it arrives, so the buffer never grows beyond the
/// limit, and is reported once, when its end has been read.
///
/// ```text
///            limit reached, no CRLF          CRLF: yields TooLong
/// Scanning ------------------------> Skipping --------------------> Scanning
///    | CRLF: yields Line
///    '-----> Scanning
/// ```
#[derive(Debug, Clone)]
pub struct LineFramer {
    limit: usize,
    state: State,
}

/// What [`LineFramer::next_line`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its CRLF.
    Complete(Bytes),
    /// A line over the limit has ended; its bytes are gone. The reply is 500 5.5.2.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first `seen` octets of the buffer hold no CRLF.
    Scanning { seen: usize },
    /// In an over-long line, after an octet that is not CR.
    Skipping,
    /// In an over-long line, after a CR.
    SkippingCr,
}

impl LineFramer {
    /// A framer for lines of at most `limit` octets, CRLF included.
    pub fn new(limit: usize) -> Self {
        LineFramer { limit, state: State::Scanning { seen: 0 } }
    }

    /// The limit in octets, CRLF included.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes the limit, from the next line that is cut on: AUTH lines may be longer than commands.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Forgets a line that was begun; for use after the buffer was emptied, as at STARTTLS.
    pub fn reset(&mut self) {
        self.state = State::Scanning { seen: 0 };
    }

    /// Takes the next line from the front of `input`, or `None` when more bytes are needed.
    ///
    /// Between calls bytes may only be added to the end of `input`, or all taken away and
    /// [`reset`](Self::reset) called.
    pub fn next_line(&mut self, input: &mut BytesMut) -> Option<Line> {
        loop {
            match self.state {
                State::Scanning { seen } => match find_crlf(input, seen) {
                    Some(at) if at + 2 <= self.limit => {
                        let mut line = input.split_to(at + 2);
                        line.truncate(at);
                        self.state = State::Scanning { seen: 0 };
                        return Some(Line::Complete(line.freeze()));
                    }
                    Some(at) => {
                        input.advance(at + 2);
                        self.state = State::Scanning { seen: 0 };
                        return Some(Line::TooLong);
                    }
                    None if input.len() < self.limit => {
                        self.state = State::Scanning { seen: input.len() };
                        return None;
                    }
                    None => {
                        let cr = input.last() == Some(&b'\r');
                        input.clear();
                        self.state = if cr { State::SkippingCr } else { State::Skipping };
                        return None;
                    }
                },
                State::SkippingCr if input.first() == Some(&b'\n') => {
                    input.advance(1);
                    self.state = State::Scanning { seen: 0 };
                    return Some(Line::TooLong);
                }
                State::SkippingCr if input.is_empty() => return None,
                // Treats what is left of the line as over the limit, whatever its length.
                State::SkippingCr | State::Skipping => {
                    self.state = match find_crlf(input, 0) {
                        Some(at) => {
                            input.advance(at + 1);
                            State::SkippingCr
                        }
                        None => {
                            let cr = input.last() == Some(&b'\r');
                            input.clear();
                            self.state = if cr { State::SkippingCr } else { State::Skipping };
                            return None;
                        }
                    };
                }
            }
        }
    }
}

/// Where the first CRLF begins, given that the first `seen` octets hold none.
fn find_crlf(input: &[u8], seen: usize) -> Option<usize> {
    let mut from = seen;
    while let Some(offset) = memchr(b'\n', &input[from..]) {
        let at = from + offset;
        if at > 0 && input[at - 1] == b'\r' {
            return Some(at - 1);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: usize, input: &[u8], step: usize) -> Vec<String> {
        let mut framer = LineFramer::new(limit);
        let mut buffer = BytesMut::new();
        let mut lines = Vec::new();
        for piece in input.chunks(step.max(1)) {
            buffer.extend_from_slice(piece);
            while let Some(line) = framer.next_line(&mut buffer) {
                lines.push(match line {
                    Line::Complete(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    Line::TooLong => "<too long>".to_owned(),
                });
            }
            assert!(buffer.len() < limit.max(1), "buffer grew to the limit");
        }
        lines
    }

    fn check(limit: usize, input: &str, expected: &[&str]) {
        for step in 1..=input.len().max(1) {
            assert_eq!(run(limit, input.as_bytes(), step), expected, "{input:?} by {step}");
        }
    }

    #[test]
    fn only_crlf_ends_a_line() {
        check(64, "", &[]);
        check(64, "\r\n", &[""]);
        check(64, "NOOP\r\n", &["NOOP"]);
        check(64, "NOOP\r\nQUIT\r\n", &["NOOP", "QUIT"]);
        check(64, "NOOP\nQUIT\r\n", &["NOOP\nQUIT"]);
        check(64, "NOOP\rQUIT\r\n", &["NOOP\rQUIT"]);
        check(64, "NOOP\r\r\n", &["NOOP\r"]);
        check(64, "NOOP\n\r\n", &["NOOP\n"]);
        check(64, "\n\r\n", &["\n"]);
        check(64, "NOOP\n", &[]);
        check(64, "NOOP\r", &[]);
        check(64, "NOOP", &[]);
    }

    #[test]
    fn over_long_lines_are_reported_once_at_their_end() {
        check(8, "123456\r\n", &["123456"]);
        check(8, "1234567\r\n", &["<too long>"]);
        check(8, "12345678\r\n", &["<too long>"]);
        check(8, "123456789012345678901234567890\r\nNOOP\r\n", &["<too long>", "NOOP"]);
        check(8, "1234567\r\r\nNOOP\r\n", &["<too long>", "NOOP"]);
        check(8, "12345678901\n\n\n\r\rxx\r\r\nNOOP\r\n", &["<too long>", "NOOP"]);
        check(8, "123456789", &[]);
        check(8, "123456789\r", &[]);
        check(8, "123456789\n", &[]);
        check(8, "123456789\r\n123456789\r\nA\r\n", &["<too long>", "<too long>", "A"]);
    }

    #[test]
    fn the_limit_may_change_between_lines() {
        let mut framer = LineFramer::new(8);
        let mut buffer = BytesMut::from(&b"AUTH X\r\n0123456789\r\n0123456789\r\n"[..]);
        assert_eq!(framer.next_line(&mut buffer), Some(Line::Complete("AUTH X".into())));
        framer.set_limit(32);
        assert_eq!(framer.next_line(&mut buffer), Some(Line::Complete("0123456789".into())));
        framer.set_limit(8);
        assert_eq!(framer.next_line(&mut buffer), Some(Line::TooLong));
        assert_eq!(framer.next_line(&mut buffer), None);
    }
}
