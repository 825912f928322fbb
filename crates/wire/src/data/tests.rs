//! The body codecs against rules simple enough to be seen right.

use proptest::prelude::*;

use super::*;

const ALPHABET: [u8; 4] = *b"\r\n.a";

/// What a DATA decoder makes of a whole input.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    body: Vec<u8>,
    /// What follows the end, or `None` if the body has not ended.
    rest: Option<Vec<u8>>,
    flaws: Flaws,
}

/// RFC 5321 §4.5.2 in two lines: the body ends at the first CRLF.CRLF of what was sent after the
/// CRLF of DATA, and loses the first dot of each line.
fn naive(input: &[u8]) -> Outcome {
    let framed = [b"\r\n", input].concat();
    let end = framed.windows(5).position(|window| window == b"\r\n.\r\n");
    let text = &framed[..end.map_or(framed.len(), |end| end + 2)];
    let mut body = Vec::new();
    for (at, &byte) in text.iter().enumerate().skip(2) {
        if !(byte == b'.' && text[..at].ends_with(b"\r\n")) {
            body.push(byte);
        }
    }
    let flaws = naive_flaws(&body);
    Outcome { body, rest: end.map(|end| framed[end + 5..].to_vec()), flaws }
}

fn naive_flaws(body: &[u8]) -> Flaws {
    let mut flaws = Flaws::default();
    for (at, &byte) in body.iter().enumerate() {
        match byte {
            b'\r' if body.get(at + 1) != Some(&b'\n') => flaws.note(Flaw::BareCr, at as u64),
            b'\n' if at == 0 || body[at - 1] != b'\r' => flaws.note(Flaw::BareLf, at as u64),
            0 => flaws.note(Flaw::Nul, at as u64),
            _ => {}
        }
    }
    flaws
}

/// Decodes `pieces` one after another.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = DataDecoder::new();
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    let mut ended = false;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(decoded) = decoder.decode(&mut buffer) {
            match decoded {
                Decoded::Body(bytes) => body.extend_from_slice(&bytes),
                Decoded::End => ended = true,
            }
        }
    }
    assert_eq!(decoder.size(), body.len() as u64);
    Outcome { body, rest: ended.then(|| buffer.to_vec()), flaws: decoder.flaws() }
}

fn compare(decoded: &Outcome, expected: &Outcome, input: &[u8]) {
    if expected.rest.is_some() {
        assert_eq!(decoded, expected, "{}", input.escape_ascii());
        return;
    }
    // Until the end is known, a CR that could belong to the final dot is held back, and a CR at
    // the very end may yet get its LF.
    let held = input == b".\r" || input.ends_with(b"\r\n.\r");
    let body = &expected.body[..expected.body.len() - usize::from(held)];
    assert_eq!(decoded.rest, None, "{}", input.escape_ascii());
    assert_eq!(decoded.body, body, "{}", input.escape_ascii());
    assert_eq!(decoded.flaws.first(Flaw::BareLf), expected.flaws.first(Flaw::BareLf));
}

/// Calls `visit` with every string of exactly `length` octets over the alphabet.
fn every_string(length: usize, mut visit: impl FnMut(&[u8])) {
    let mut text = [0; 10];
    for number in 0..4_u32.pow(length as u32) {
        for (at, octet) in text[..length].iter_mut().enumerate() {
            *octet = ALPHABET[(number >> (2 * at)) as usize & 3];
        }
        visit(&text[..length]);
    }
}

#[test]
fn every_string_of_ten_octets_whole() {
    for length in 0..=10 {
        every_string(length, |text| compare(&decode([text]), &naive(text), text));
    }
}

#[test]
fn every_string_of_ten_octets_bytewise() {
    /// Walks the tree of all strings, so that each octet is decoded once for all strings that
    /// share a beginning.
    fn walk(decoder: &DataDecoder, text: &mut Vec<u8>, body: &mut Vec<u8>) {
        if text.len() == 10 {
            return;
        }
        for octet in ALPHABET {
            text.push(octet);
            let mut next = decoder.clone();
            let mut buffer = BytesMut::from(&[octet][..]);
            let before = body.len();
            let mut ended = false;
            while let Some(decoded) = next.decode(&mut buffer) {
                match decoded {
                    Decoded::Body(bytes) => body.extend_from_slice(&bytes),
                    Decoded::End => ended = true,
                }
            }
            if ended || text.len() == 10 {
                let rest = ended.then(|| buffer.to_vec());
                let outcome = Outcome { body: body.clone(), rest, flaws: next.flaws() };
                compare(&outcome, &naive(text), text);
            }
            if !ended {
                walk(&next, text, body);
            }
            body.truncate(before);
            text.pop();
        }
    }
    walk(&DataDecoder::new(), &mut Vec::new(), &mut Vec::new());
}

#[test]
fn every_string_of_seven_octets_at_every_cut() {
    for length in 1..=7 {
        every_string(length, |text| {
            let expected = naive(text);
            for first in 0..=length {
                for second in first..=length {
                    let pieces = [&text[..first], &text[first..second], &text[second..]];
                    compare(&decode(pieces), &expected, text);
                }
            }
        });
    }
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_a_body() {
    for fake in [
        "\n.\n",
        "\r.\r",
        "\r.\n",
        "\n.\r",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r\n",
        "\r\n.\r",
        "\r\n.\0\r\n",
        "\r\n\0.\r\n",
        "\0\r\n\0.\r\n",
        "\r\n.\r\r\n",
        "\r\n..\r\n",
        "\r\n. \r\n",
        "\n\r\n.\n\r\n",
    ] {
        let input = format!("Subject: a\r\n\r\nb{fake}MAIL FROM:<x@y>\r\n.\r\nQUIT\r\n");
        let outcome = decode([input.as_bytes()]);
        assert_eq!(outcome.rest.as_deref(), Some(&b"QUIT\r\n"[..]), "{fake:?}");
        let body = String::from_utf8(outcome.body).unwrap();
        assert!(body.ends_with("MAIL FROM:<x@y>\r\n"), "{fake:?}");
        assert_eq!(outcome.flaws.is_empty(), fake == "\r\n..\r\n" || fake == "\r\n. \r\n");
    }
}

#[test]
fn nul_is_noted_where_it_first_is() {
    let flaws = decode([&b"ab\r\n..\0c\0\r\n.\r\n"[..]]).flaws;
    assert_eq!(flaws.first(Flaw::Nul), Some(5));
    assert!(!flaws.has_bare_line_end());
}

#[test]
fn body_slices_are_not_copied() {
    let mut input = BytesMut::from(&b"one\r\ntwo\r\n..three\r\n.\r\n"[..]);
    let range = input.as_ptr_range();
    let mut decoder = DataDecoder::new();
    let mut slices = 0;
    while let Some(Decoded::Body(bytes)) = decoder.decode(&mut input) {
        assert!(range.contains(&bytes.as_ptr()));
        slices += 1;
    }
    assert_eq!(slices, 2, "clean lines come together");
}

/// What a DATA encoder makes of `pieces`.
fn encode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = DataEncoder::new();
    let mut out = Vec::new();
    for piece in pieces {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(slice) = encoder.encode(&mut piece)? {
            assert!(!slice.is_empty());
            out.extend_from_slice(&slice);
        }
        assert!(piece.is_empty());
    }
    out.extend_from_slice(&encoder.finish()?);
    Ok(out)
}

#[test]
fn every_body_of_seven_octets_arrives_or_is_refused() {
    for length in 0..=7 {
        every_string(length, |text| {
            let flaws = naive_flaws(text);
            let first = [Flaw::BareCr, Flaw::BareLf]
                .into_iter()
                .filter_map(|flaw| flaws.first(flaw).map(|at| EncodeError { flaw, at }))
                .min_by_key(|error| error.at);
            for cut in 0..=length {
                let encoded = encode([&text[..cut], &text[cut..]]);
                match (&encoded, first) {
                    (Err(error), Some(expected)) => assert_eq!(*error, expected),
                    (Ok(wire), None) => {
                        let mut body = text.to_vec();
                        if !(body.is_empty() || body.ends_with(b"\r\n")) {
                            body.extend_from_slice(b"\r\n");
                        }
                        let expected =
                            Outcome { body, rest: Some(Vec::new()), flaws: Flaws::default() };
                        assert_eq!(naive(wire), expected, "{}", text.escape_ascii());
                    }
                    _ => panic!("{}: {encoded:?}, not {first:?}", text.escape_ascii()),
                }
            }
        });
    }
}

#[test]
fn the_encoder_sends_no_bare_cr_or_lf_before_it_refuses() {
    every_string(6, |text| {
        for cut in 0..=6 {
            let mut encoder = DataEncoder::new();
            let mut out = Vec::new();
            'body: for piece in [&text[..cut], &text[cut..]] {
                let mut piece = Bytes::copy_from_slice(piece);
                loop {
                    match encoder.encode(&mut piece) {
                        Ok(Some(slice)) => out.extend_from_slice(&slice),
                        Ok(None) => break,
                        Err(_) => break 'body,
                    }
                }
            }
            assert!(naive_flaws(&out).is_empty(), "{}", text.escape_ascii());
        }
    });
}

/// What a BDAT decoder makes of chunks, of which each comes in pieces of `step` octets.
fn bdat(mut decoder: BdatDecoder, chunks: &[&[u8]], step: usize) -> (Vec<u8>, Flaws) {
    let mut body = Vec::new();
    for chunk in chunks {
        decoder.start_chunk(chunk.len() as u64);
        let mut buffer = BytesMut::new();
        let mut ended = false;
        // The next command follows at once, and has to be left alone.
        let sent = [chunk, &b"BDAT"[..]].concat();
        for piece in sent.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(decoded) = decoder.decode(&mut buffer) {
                match decoded {
                    Decoded::Body(bytes) => body.extend_from_slice(&bytes),
                    Decoded::End => {
                        assert!(!ended);
                        ended = true;
                    }
                }
            }
        }
        assert!(ended);
        assert_eq!(buffer, "BDAT");
    }
    assert_eq!(decoder.size(), body.len() as u64);
    (body, decoder.flaws())
}

#[test]
fn bdat_counts_and_looks_across_chunks() {
    every_string(5, |text| {
        for step in [1, 2, 9] {
            for cut in 0..=5 {
                let chunks = [&text[..cut], &text[cut..], b""];
                let text_body = bdat(BdatDecoder::text(), &chunks, step);
                assert_eq!(text_body, (text.to_vec(), naive_flaws(text)));
                let binary_body = bdat(BdatDecoder::binary(), &chunks, step);
                assert_eq!(binary_body, (text.to_vec(), Flaws::default()));
            }
        }
    });
}

#[test]
fn an_empty_chunk_ends_without_input() {
    let mut decoder = BdatDecoder::text();
    let mut input = BytesMut::new();
    assert_eq!(decoder.decode(&mut input), None);
    decoder.start_chunk(0);
    assert_eq!(decoder.decode(&mut input), Some(Decoded::End));
    assert_eq!(decoder.decode(&mut input), None);
}

fn cut_at(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        lines in prop::collection::vec("[.a\u{e9}]{0,5}", 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let body: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
        let pieces = cut_at(&body, &cuts);
        let wire = encode(pieces.iter().map(Vec::as_slice)).unwrap();
        let pieces = cut_at(&wire, &cuts);
        let outcome = decode(pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(outcome, Outcome { body, rest: Some(vec![]), flaws: Flaws::default() });
    }

    #[test]
    fn any_octets_decode_as_the_naive_rule_says(
        input in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), any::<u8>()], 0..80),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let input = [&input[..], b"\r\n.\r\nrest"].concat();
        let pieces = cut_at(&input, &cuts);
        prop_assert_eq!(decode(pieces.iter().map(Vec::as_slice)), naive(&input));
    }
}
