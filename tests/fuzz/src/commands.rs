//! Line framing and command syntax.
//!
//! Promises: the same lines come of any cutting of the input; the buffer stays below the limit; what
//! is read can be written, is read the same again, and is one line.

use bytes::BytesMut;
use merpati_wire::{Command, Line, LineFramer};

const LIMIT: usize = 512;

/// The first octet is the size of the pieces.
pub fn check(data: &[u8]) {
    let (step, stream) = crate::steered(data);
    let whole = frame(stream, 0);
    assert_eq!(frame(stream, step), whole);
    assert_eq!(frame(stream, 1), whole);
    for line in whole {
        if let Line::Complete(line) = line {
            check_line(&line);
        }
    }
}

fn frame(stream: &[u8], step: u8) -> Vec<Line> {
    let mut framer = LineFramer::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut lines = Vec::new();
    for piece in crate::pieces(stream, step) {
        buffer.extend_from_slice(piece);
        while let Some(line) = framer.next_line(&mut buffer) {
            if let Line::Complete(line) = &line {
                assert!(line.len() + 2 <= LIMIT);
            }
            lines.push(line);
        }
        assert!(buffer.len() < LIMIT);
    }
    lines
}

fn check_line(line: &[u8]) {
    let Ok(command) = Command::parse(line) else { return };
    assert!(!line.contains(&0) && !line.contains(&b'\r') && !line.contains(&b'\n'));
    let mut written = BytesMut::new();
    command.encode(&mut written);
    let text = written.strip_suffix(b"\r\n").expect("a command ends with CRLF");
    assert!(!text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n')));
    assert_eq!(Command::parse(text), Ok(command), "{}", text.escape_ascii());
}
