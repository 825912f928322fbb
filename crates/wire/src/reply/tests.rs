//! Tables of replies, read and written.

use super::*;

/// What a stream of replies is read as, in pieces of `step` octets: one line each, with `|` between
/// texts, and `!` before an error.
fn read(stream: &[u8], step: usize) -> Vec<String> {
    let mut parser = ReplyParser::new();
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for piece in stream.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next_reply(&mut buffer) {
                Ok(Some(reply)) => found.push(show(&reply)),
                Ok(None) => break,
                Err(error) => {
                    found.push(format!("!{error}"));
                    return found;
                }
            }
        }
    }
    if parser.is_partial() {
        found.push("...".to_owned());
    }
    found
}

fn show(reply: &Reply) -> String {
    let enhanced = reply.enhanced().map(|status| format!("{status} ")).unwrap_or_default();
    format!("{} {enhanced}{}", reply.code(), reply.lines().join("|"))
}

/// Checks at every size of pieces.
fn check(stream: &[u8], expected: &[&str]) {
    for step in 1..=stream.len().clamp(1, 100) {
        assert_eq!(read(stream, step), expected, "{} by {step}", stream.escape_ascii());
    }
}

#[test]
fn replies_are_read() {
    check(b"", &[]);
    check(b"250 OK\r\n", &["250 OK"]);
    check(b"250\r\n", &["250 "]);
    check(b"250 \r\n", &["250 "]);
    check(b"250-\r\n250\r\n", &["250 |"]);
    check(b"220 mx.test ESMTP\r\n250 OK\r\n", &["220 mx.test ESMTP", "250 OK"]);
    check(b"250-mx.test\r\n250-SIZE 10\r\n250 DSN\r\n", &["250 mx.test|SIZE 10|DSN"]);
    check(b"354 go ahead\r\n", &["354 go ahead"]);
    check(b"250 OK\n", &["250 OK"]);
    check(b"250-a\n250 b\r\n", &["250 a|b"]);
    check(b"250 OK", &["..."]);
    check(b"250-a\r\n", &["..."]);
    check(b"250 OK\r", &["..."]);
    check(b"250 a\rb\r\n", &["250 a b"]);
    check(b"250 a\0b\r\n", &["250 a b"]);
    check(b"250 caf\xc3\xa9\r\n", &["250 caf\u{e9}"]);
    check(b"250 caf\xe9\r\n", &["250 caf\u{fffd}"]);
    check(b"250  two spaces\r\n", &["250  two spaces"]);
}

#[test]
fn enhanced_statuses_are_parted_from_the_text() {
    check(b"250 2.1.0 OK\r\n", &["250 2.1.0 OK"]);
    check(b"250 2.1.0\r\n", &["250 2.1.0 "]);
    check(b"550 5.1.1 no\r\n", &["550 5.1.1 no"]);
    check(b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", &["550 5.1.1 no|such user"]);
    check(b"550-5.1.1 no\r\n550 such user\r\n", &["550 5.1.1 no|such user"]);
    check(b"550-5.1.1 no\r\n550 5.7.1 policy\r\n", &["550 5.1.1 no|5.7.1 policy"]);
    check(b"550 5.1.1\x7fno\r\n", &["550 5.1.1 no"]);
    let parse = |line: &[u8]| {
        ReplyParser::new().next_reply(&mut BytesMut::from(line)).unwrap().unwrap().enhanced()
    };
    assert_eq!(parse(b"550 5.1.1 no\r\n").unwrap().to_string(), "5.1.1");
    for without in [
        "550 4.1.1 no\r\n",
        "250 5.1.1 no\r\n",
        "354 3.0.0 go\r\n",
        "550 5.1 no\r\n",
        "550 5.1.1.1 no\r\n",
        "550  5.1.1 no\r\n",
        "550 no 5.1.1\r\n",
        "550 5.1.1x no\r\n",
    ] {
        assert_eq!(parse(without.as_bytes()), None, "{without:?}");
    }
}

#[test]
fn what_is_no_reply_is_an_error() {
    let malformed: &[&str] = &["!reply line without a valid code"];
    for line in [
        "\r\n",
        "\n",
        "25\r\n",
        "OK\r\n",
        "250OK\r\n",
        "250_OK\r\n",
        "199 x\r\n",
        "600 x\r\n",
        "000 x\r\n",
        "2\u{e9} OK\r\n",
        "+25 OK\r\n",
        " 250 OK\r\n",
        "SSH-2.0-x\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "250\tOK\r\n",
    ] {
        check(line.as_bytes(), malformed);
    }
    check(b"250-a\r\n550 b\r\n", &["!reply lines with the codes 250 and 550"]);
    check(b"250 a\r\nx\r\n", &["250 a", malformed[0]]);
    check(b"250-a\r\nb\r\n", malformed);
}

#[test]
fn bounds() {
    let too_long = "!reply longer than 2048 octets";
    let fits = format!("250 {}\r\n", "x".repeat(2042));
    assert_eq!(read(fits.as_bytes(), 100), [format!("250 {}", "x".repeat(2042))]);
    for over in [
        format!("250 {}\r\n", "x".repeat(2043)),
        format!("250 {}", "x".repeat(2044)),
        format!("250 {}", "x".repeat(100_000)),
    ] {
        for step in [1, 7, 100, 200_000] {
            assert_eq!(read(over.as_bytes(), step), [too_long], "{} by {step}", over.len());
        }
    }
    let lines = |count: usize| format!("{}250 x\r\n", "250-x\r\n".repeat(count - 1));
    assert_eq!(read(lines(128).as_bytes(), 50).len(), 1);
    assert_eq!(read(lines(128).as_bytes(), 50)[0], format!("250 {}x", "x|".repeat(127)));
    assert_eq!(read(lines(129).as_bytes(), 50), ["!reply of more than 128 lines"]);
    let wide = format!("250-{}\r\n", "x".repeat(1000)).repeat(100);
    assert_eq!(read(wide.as_bytes(), 512), ["!reply longer than 65536 octets"]);
}

fn write(reply: &Reply) -> String {
    let mut out = BytesMut::new();
    encode_reply(reply, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn reply(code: u16, status: &str, lines: &[&str]) -> Reply {
    let code = ReplyCode::new(code).unwrap();
    Reply::with_lines(code, status.parse().ok(), lines.iter().copied())
}

#[test]
fn replies_are_written() {
    for (reply, expected) in [
        (reply(250, "", &["OK"]), "250 OK\r\n"),
        (reply(250, "", &[""]), "250 \r\n"),
        (reply(250, "", &[]), "250 \r\n"),
        (reply(250, "2.1.0", &["OK"]), "250 2.1.0 OK\r\n"),
        (reply(550, "5.1.1", &["a", "b"]), "550-5.1.1 a\r\n550 5.1.1 b\r\n"),
        (reply(250, "", &["mx", "SIZE", "DSN"]), "250-mx\r\n250-SIZE\r\n250 DSN\r\n"),
        (reply(250, "", &["a\r\n250 b\0c"]), "250 a  250 b c\r\n"),
    ] {
        let written = write(&reply);
        assert_eq!(written, expected);
        let read = ReplyParser::new().next_reply(&mut BytesMut::from(&*written));
        assert_eq!(read, Ok(Some(reply)));
    }
}

#[test]
fn long_texts_are_continued() {
    let words = "word ".repeat(400);
    let umlauts = "\u{fc}".repeat(1000);
    for text in [&*words, &*umlauts, &"x".repeat(5000)] {
        for status in ["", "5.7.1"] {
            let written = write(&reply(550, status, &[text]));
            let mut whole = String::new();
            for line in written.split_inclusive("\r\n") {
                assert!(line.len() <= REPLY_LINE_LIMIT && line.ends_with("\r\n"));
                whole.push_str(&line[4..line.len() - 2].replace("5.7.1 ", ""));
            }
            assert_eq!(whole.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
