//! The reply parser and EHLO keywords.
//!
//! Promises: the same replies come of any cutting of the input; the buffer stays bounded; a reply
//! can be written and is read the same again; capabilities are stable.

use bytes::BytesMut;
use merpati_types::Reply;
use merpati_wire::{
    Capabilities, REPLY_LINE_LIMIT, REPLY_LINE_TOLERANCE, ReplyError, ReplyParser, encode_reply,
};

/// The first octet is the size of the pieces.
pub fn check(data: &[u8]) {
    let (step, stream) = crate::steered(data);
    let (replies, error) = read(stream, 0);
    assert_eq!(read(stream, step), (replies.clone(), error));
    assert_eq!(read(stream, 1), (replies.clone(), error));
    for reply in replies {
        check_reply(&reply);
        check_capabilities(&Capabilities::from_reply(&reply));
    }
}

fn read(stream: &[u8], step: u8) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new();
    let mut buffer = BytesMut::new();
    let mut replies = Vec::new();
    for piece in crate::pieces(stream, step) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next_reply(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
        assert!(buffer.len() < REPLY_LINE_TOLERANCE);
    }
    (replies, None)
}

fn check_reply(reply: &Reply) {
    let mut written = BytesMut::new();
    encode_reply(reply, &mut written);
    let mut lines = 0;
    for line in written.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= REPLY_LINE_LIMIT);
        assert!(!line[..line.len() - 2].iter().any(u8::is_ascii_control));
        lines += 1;
    }
    let mut parser = ReplyParser::new();
    let again = parser.next_reply(&mut written);
    if lines == reply.lines().len() {
        assert_eq!(again, Ok(Some(reply.clone())));
    }
}

fn check_capabilities(capabilities: &Capabilities) {
    let reply = capabilities.to_reply("mx.test");
    assert_eq!(&Capabilities::from_reply(&reply), capabilities);
}
