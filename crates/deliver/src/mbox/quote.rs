//! Lines that readers would take for the next message's first.

use bytes::{BufMut as _, BytesMut};

/// What such a line begins with, behind any number of `>`.
const FROM: &[u8] = b"From ";
/// Behind so many `>` nothing is quoted: no reader has ever taken such a line for a message's
/// first, and a line of nothing else must not fill the memory.
const MOST: usize = 1_000;

/// Quotes a text with LF line ends, piece by piece, and ends it with an empty line.
#[derive(Debug)]
pub(super) struct Quoter {
    /// The beginning of a line that is not known yet; `None` within a line.
    head: Option<Vec<u8>>,
}

impl Default for Quoter {
    fn default() -> Self {
        Self { head: Some(Vec::new()) }
    }
}

impl Quoter {
    pub(super) fn quote(&mut self, mut bytes: &[u8], out: &mut BytesMut) {
        while let Some((&first, rest)) = bytes.split_first() {
            let Some(head) = &mut self.head else {
                let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                out.put_slice(&bytes[..end]);
                if bytes[end - 1] == b'\n' {
                    self.head = Some(Vec::new());
                }
                bytes = &bytes[end..];
                continue;
            };
            let known = head.len() - head.iter().take_while(|octet| **octet == b'>').count();
            if first == FROM[known] || first == b'>' && known == 0 && head.len() < MOST {
                head.push(first);
                bytes = rest;
                if known + 1 == FROM.len() {
                    out.put_u8(b'>');
                    self.let_go(out);
                }
            } else {
                self.let_go(out);
            }
        }
    }

    pub(super) fn finish(mut self, out: &mut BytesMut) {
        let within = self.head.as_ref().is_none_or(|head| !head.is_empty());
        self.let_go(out);
        out.put_slice(if within { b"\n\n" } else { b"\n" });
    }

    /// The rest of the line is as it is.
    fn let_go(&mut self, out: &mut BytesMut) {
        out.put_slice(&self.head.take().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_message_is_quoted_at_every_cut() {
        for (text, expected) in [
            ("a\n", "a\n\n"),
            ("a", "a\n\n"),
            ("", "\n"),
            ("From x\nb\n", ">From x\nb\n\n"),
            ("a\n>From x\n>>From y\n", "a\n>>From x\n>>>From y\n\n"),
            ("From\nFromage\n From x\nfrom x\n", "From\nFromage\n From x\nfrom x\n\n"),
            ("a\nFrom", "a\nFrom\n\n"),
            (">>>\n>\n", ">>>\n>\n\n"),
            ("aFrom x\n> From x\n", "aFrom x\n> From x\n\n"),
        ] {
            for size in 1..=text.len().max(1) {
                let (mut quoter, mut out) = (Quoter::default(), BytesMut::new());
                for piece in text.as_bytes().chunks(size) {
                    quoter.quote(piece, &mut out);
                }
                quoter.finish(&mut out);
                assert_eq!(out, expected.as_bytes(), "{text:?} in pieces of {size}");
            }
        }
        let (mut quoter, mut out) = (Quoter::default(), BytesMut::new());
        let long = format!("{}From x\n", ">".repeat(MOST + 5));
        quoter.quote(long.as_bytes(), &mut out);
        assert_eq!(out, long.as_bytes());
    }
}
