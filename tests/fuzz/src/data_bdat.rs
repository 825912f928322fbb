//! DATA and BDAT, both ways.
//!
//! Promises: DATA ends where the naive rule says and nowhere else, whatever the cutting; what is
//! encoded decodes to the same; the encoder lets no bare CR or LF out; BDAT counts.

use bytes::{Bytes, BytesMut};
use merpati_wire::{BdatDecoder, DataDecoder, DataEncoder, Decoded, Flaw, Flaws};

/// The first octet is the size of the pieces.
pub fn check(data: &[u8]) {
    let (step, stream) = crate::steered(data);
    check_decoder(stream, step);
    check_encoder(stream, step);
    check_chunks(stream, step);
}

/// A body that ends by the naive rule, and where what follows it begins.
pub(crate) struct Naive {
    pub(crate) body: Vec<u8>,
    pub(crate) end: usize,
}

/// RFC 5321 §4.5.2: the body ends at the first CRLF.CRLF of what was sent after the CRLF of DATA,
/// and loses the first dot of each line.
pub(crate) fn naive(input: &[u8]) -> Option<Naive> {
    let framed = [b"\r\n", input].concat();
    let end = framed.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let text = &framed[..end + 2];
    let mut body = Vec::new();
    for (at, &octet) in text.iter().enumerate().skip(2) {
        if !(octet == b'.' && text[..at].ends_with(b"\r\n")) {
            body.push(octet);
        }
    }
    Some(Naive { body, end: end + 3 })
}

/// Whether a CR or LF of `body` stands alone, and whether there is a NUL.
pub(crate) fn naive_flaws(body: &[u8]) -> [Option<u64>; 3] {
    let first = |found: &dyn Fn(usize) -> bool| (0..body.len()).find(|&at| found(at));
    let cr = first(&|at| body[at] == b'\r' && body.get(at + 1) != Some(&b'\n'));
    let lf = first(&|at| body[at] == b'\n' && (at == 0 || body[at - 1] != b'\r'));
    let nul = first(&|at| body[at] == 0);
    [cr, lf, nul].map(|place| place.map(|at| at as u64))
}

fn places(flaws: &Flaws) -> [Option<u64>; 3] {
    [Flaw::BareCr, Flaw::BareLf, Flaw::Nul].map(|flaw| flaws.first(flaw))
}

fn check_decoder(stream: &[u8], step: u8) {
    let expected = naive(stream);
    let mut decoder = DataDecoder::new();
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    let mut rest = None;
    let mut fed = 0;
    for piece in crate::pieces(stream, step) {
        buffer.extend_from_slice(piece);
        fed += piece.len();
        while let Some(decoded) = decoder.decode(&mut buffer) {
            match decoded {
                Decoded::Body(bytes) => {
                    assert!(!bytes.is_empty());
                    body.extend_from_slice(&bytes);
                }
                Decoded::End => rest = Some(fed - buffer.len()),
            }
        }
        assert!(rest.is_some() || buffer.is_empty(), "bytes are kept back");
        if rest.is_some() {
            break;
        }
    }
    assert_eq!(rest, expected.as_ref().map(|naive| naive.end));
    assert_eq!(decoder.size(), body.len() as u64);
    if let Some(expected) = expected {
        assert_eq!(body, expected.body);
        assert_eq!(places(&decoder.flaws()), naive_flaws(&body));
    }
}

fn check_encoder(body: &[u8], step: u8) {
    let mut encoder = DataEncoder::new();
    let mut wire = Vec::new();
    let encoded = (|| {
        for piece in crate::pieces(body, step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(bytes) = encoder.encode(&mut piece)? {
                wire.extend_from_slice(&bytes);
            }
            assert!(piece.is_empty());
        }
        wire.extend_from_slice(&encoder.finish()?);
        Ok(())
    })();
    let [cr, lf, _] = naive_flaws(body);
    match encoded {
        Ok(()) => {
            assert_eq!((cr, lf), (None, None));
            let read = naive(&wire).expect("an encoded body ends");
            assert_eq!(read.end, wire.len());
            let missing: &[u8] =
                if body.is_empty() || body.ends_with(b"\r\n") { b"" } else { b"\r\n" };
            assert_eq!(read.body, [body, missing].concat());
        }
        Err(merpati_wire::EncodeError { flaw, at }) => {
            let expected = if flaw == Flaw::BareCr { cr } else { lf };
            assert_eq!(expected, Some(at));
        }
    }
    let [cr, lf, _] = naive_flaws(&wire);
    assert_eq!((cr, lf), (None, None), "a bare CR or LF gets out");
}

fn check_chunks(stream: &[u8], step: u8) {
    for (mut decoder, looks) in [(BdatDecoder::text(), true), (BdatDecoder::binary(), false)] {
        let mut body = Vec::new();
        for chunk in crate::pieces(stream, step) {
            decoder.start_chunk(chunk.len() as u64);
            let mut buffer = BytesMut::from(chunk);
            buffer.extend_from_slice(b"QUIT");
            let mut next = || decoder.decode(&mut buffer).expect("all of the chunk is there");
            while let Decoded::Body(bytes) = next() {
                body.extend_from_slice(&bytes);
            }
            assert_eq!(buffer, "QUIT");
            assert_eq!(decoder.decode(&mut buffer), None);
        }
        assert_eq!(body, stream);
        assert_eq!(decoder.size(), stream.len() as u64);
        let expected = if looks { naive_flaws(stream) } else { [None; 3] };
        assert_eq!(places(&decoder.flaws()), expected);
    }
}
