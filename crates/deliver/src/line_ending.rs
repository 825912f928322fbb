//! Line ends in mailboxes, and towards programs.

use bytes::{BufMut, BytesMut};

/// How lines end in a mailbox, or towards a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnding {
    /// LF, as programs expect.
    #[default]
    Lf,
    /// CRLF, as on the wire.
    CrLf,
}

/// Converts a message piece by piece. Only CRLF changes; a bare CR or LF stays as it is.
#[derive(Debug)]
pub(crate) struct Converter {
    ending: LineEnding,
    /// A piece ended in CR; whether it is part of CRLF shows in the next one.
    held_cr: bool,
}

impl Converter {
    pub(crate) fn new(ending: LineEnding) -> Self {
        Self { ending, held_cr: false }
    }

    pub(crate) fn convert(&mut self, mut bytes: &[u8], out: &mut BytesMut) {
        if self.ending == LineEnding::CrLf {
            out.put_slice(bytes);
            return;
        }
        if bytes.is_empty() {
            return;
        }
        if std::mem::take(&mut self.held_cr) && bytes[0] != b'\n' {
            out.put_u8(b'\r');
        }
        if let Some(rest) = bytes.strip_suffix(b"\r") {
            self.held_cr = true;
            bytes = rest;
        }
        let mut copied = 0;
        for cr in memchr::memchr_iter(b'\r', bytes) {
            if bytes.get(cr + 1) == Some(&b'\n') {
                out.put_slice(&bytes[copied..cr]);
                copied = cr + 1;
            }
        }
        out.put_slice(&bytes[copied..]);
    }

    pub(crate) fn finish(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.held_cr) {
            out.put_u8(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crlf_changes_wherever_the_pieces_are_cut() {
        let check = |ending, message: &[u8], expected: &[u8]| {
            for cut in 0..=message.len() {
                let mut converter = Converter::new(ending);
                let mut out = BytesMut::new();
                converter.convert(&message[..cut], &mut out);
                converter.convert(&message[cut..], &mut out);
                converter.finish(&mut out);
                assert_eq!(out, expected, "{message:?} cut at {cut}");
            }
        };
        check(LineEnding::Lf, b"a\r\nb\r\n", b"a\nb\n");
        check(LineEnding::Lf, b"\r\r\n\n\r", b"\r\n\n\r");
        check(LineEnding::Lf, b"", b"");
        check(LineEnding::CrLf, b"a\r\nb\r\n", b"a\r\nb\r\n");
    }
}
