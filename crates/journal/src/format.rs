//! The bytes on disk: segment ends, record headers, table of contents.
//!
//! All integers are little-endian. The crate's documentation draws the layout.

use crc32fast::Hasher;

/// Records begin at multiples of this many octets.
pub(crate) const ALIGN: u64 = 64;
/// Octets of a record header.
pub(crate) const HEADER: usize = 64;
/// Octets of a segment end.
pub(crate) const END: usize = 128;
/// Octets of an entry in a table of contents.
pub(crate) const ENTRY: usize = 40;
/// The version this code writes and the only one it reads.
pub(crate) const VERSION: u16 = 2;

const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"MPJr");
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"MPJseg\0\x01");

/// Octets of a segment end in version 1.
const END_V1: usize = 64;

/// What the first and the last 128 octets of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub(crate) id: u64,
    /// The sequence number the segment's first record has.
    pub(crate) first: u64,
    /// The last sequence number that counts in older segments; above is void.
    pub(crate) previous: u64,
    /// Mixed into every record's header checksum, the same in all of a journal.
    pub(crate) salt: u64,
    /// The largest key any record in an older segment ever had; in the far end of a
    /// sealed segment those of this one count too.
    pub(crate) highest_key: u64,
    pub(crate) state: State,
}

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It may hold records. The near end of a sealed one says so still.
    Begun,
    /// It is closed, and this is its table of contents; only in the far end.
    Sealed(Toc),
    /// It was made before it was needed: its numbers mean nothing yet.
    Prepared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Toc {
    pub(crate) offset: u64,
    pub(crate) count: u32,
    pub(crate) crc: u32,
}

impl SegmentEnd {
    pub(crate) fn encode(&self) -> [u8; END] {
        let mut out = [0; END];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        out[12..14].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        out[32..40].copy_from_slice(&self.previous.to_le_bytes());
        out[40..48].copy_from_slice(&self.salt.to_le_bytes());
        out[48..56].copy_from_slice(&self.highest_key.to_le_bytes());
        match self.state {
            State::Begun => {}
            State::Sealed(toc) => {
                out[14] = 1;
                out[56..64].copy_from_slice(&toc.offset.to_le_bytes());
                out[64..68].copy_from_slice(&toc.count.to_le_bytes());
                out[68..72].copy_from_slice(&toc.crc.to_le_bytes());
            }
            State::Prepared => out[14] = 2,
        }
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The table of contents, in the far end of a sealed segment.
    pub(crate) fn toc(&self) -> Option<Toc> {
        match self.state {
            State::Sealed(toc) => Some(toc),
            State::Begun | State::Prepared => None,
        }
    }

    /// The number of the last record, in the far end of a sealed segment.
    pub(crate) fn last(&self) -> Option<u64> {
        // Numbers rise by one within a segment, and one with damage is never sealed.
        self.toc().map(|toc| self.first + u64::from(toc.count) - 1)
    }

    pub(crate) fn decode(bytes: &[u8; END]) -> Result<Self, BadEnd> {
        let crc = u32_at(bytes, 8);
        let version = u16::from_le_bytes([bytes[12], bytes[13]]);
        let summed = if version == 1 { &bytes[12..END_V1] } else { &bytes[12..] };
        if u64_at(bytes, 0) != SEGMENT_MAGIC || crc != crc32fast::hash(summed) {
            return Err(BadEnd::Damaged);
        }
        if version != VERSION {
            return Err(BadEnd::Version(version));
        }
        let state = match bytes[14] {
            0 => State::Begun,
            1 => State::Sealed(Toc {
                offset: u64_at(bytes, 56),
                count: u32_at(bytes, 64),
                crc: u32_at(bytes, 68),
            }),
            2 => State::Prepared,
            _ => return Err(BadEnd::Damaged),
        };
        Ok(Self {
            id: u64_at(bytes, 16),
            first: u64_at(bytes, 24),
            previous: u64_at(bytes, 32),
            salt: u64_at(bytes, 40),
            highest_key: u64_at(bytes, 48),
            state,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadEnd {
    Damaged,
    Version(u16),
}

/// The header before each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) segment: u64,
    pub(crate) seq: u64,
    /// The sequence number known to be synced when this was written.
    pub(crate) synced: u64,
    pub(crate) key: u64,
    pub(crate) meta_len: u32,
    pub(crate) body_len: u32,
    pub(crate) meta_crc: u32,
    pub(crate) body_crc: u32,
    /// How many more records of the same group follow.
    pub(crate) left: u32,
    pub(crate) kind: u8,
}

impl RecordHeader {
    pub(crate) fn encode(&self, salt: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.to_le_bytes());
        out[32..40].copy_from_slice(&self.key.to_le_bytes());
        out[40..44].copy_from_slice(&self.meta_len.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_len.to_le_bytes());
        out[48..52].copy_from_slice(&self.meta_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.body_crc.to_le_bytes());
        out[56..60].copy_from_slice(&self.left.to_le_bytes());
        out[60] = self.kind;
        let crc = salted(salt, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header, if these octets are one of segment `segment`.
    pub(crate) fn decode(bytes: &[u8], salt: u64, segment: u64) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if u32_at(bytes, 0) != RECORD_MAGIC
            || u64_at(bytes, 8) != segment
            || u32_at(bytes, 4) != salted(salt, &bytes[8..])
        {
            return None;
        }
        Some(Self {
            segment,
            seq: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            key: u64_at(bytes, 32),
            meta_len: u32_at(bytes, 40),
            body_len: u32_at(bytes, 44),
            meta_crc: u32_at(bytes, 48),
            body_crc: u32_at(bytes, 52),
            left: u32_at(bytes, 56),
            kind: bytes[60],
        })
    }

    /// Octets from this header to the next.
    pub(crate) fn span(&self) -> u64 {
        span(u64::from(self.meta_len) + u64::from(self.body_len))
    }
}

/// Octets a record with `payload` octets takes.
pub(crate) fn span(payload: u64) -> u64 {
    (HEADER as u64 + payload).next_multiple_of(ALIGN)
}

/// One line of a table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TocEntry {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) key: u64,
    pub(crate) meta_len: u32,
    pub(crate) body_len: u32,
    pub(crate) left: u32,
    pub(crate) kind: u8,
}

impl TocEntry {
    pub(crate) fn new(offset: u64, header: &RecordHeader) -> Self {
        Self {
            offset,
            seq: header.seq,
            key: header.key,
            meta_len: header.meta_len,
            body_len: header.body_len,
            left: header.left,
            kind: header.kind,
        }
    }

    /// Octets of the record, with its header.
    pub(crate) fn span(&self) -> u64 {
        span(u64::from(self.meta_len) + u64::from(self.body_len))
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        out[0..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.key.to_le_bytes());
        out[24..28].copy_from_slice(&self.meta_len.to_le_bytes());
        out[28..32].copy_from_slice(&self.body_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.left.to_le_bytes());
        out[36] = self.kind;
        out
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY]) -> Self {
        Self {
            offset: u64_at(bytes, 0),
            seq: u64_at(bytes, 8),
            key: u64_at(bytes, 16),
            meta_len: u32_at(bytes, 24),
            body_len: u32_at(bytes, 28),
            left: u32_at(bytes, 32),
            kind: bytes[36],
        }
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The name of a file that was a segment and is kept to become another.
pub(crate) fn spare_name(id: u64) -> String {
    format!("{id:016x}{SPARE}")
}

/// How the names of spare files end.
pub(crate) const SPARE: &str = ".spare";

/// The segment a file name stands for.
pub(crate) fn segment_id(name: &str) -> Option<u64> {
    id_before(name, ".seg")
}

/// The segment with this name, or that a spare file once was.
pub(crate) fn id_before(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            segment: 7,
            seq: 99,
            synced: 98,
            key: 0x1234,
            meta_len: 10,
            body_len: 70,
            meta_crc: 1,
            body_crc: 2,
            left: 3,
            kind: 4,
        }
    }

    #[test]
    fn a_record_header_reads_back_only_in_its_own_segment_and_journal() {
        let bytes = header().encode(5);
        assert_eq!(RecordHeader::decode(&bytes, 5, 7), Some(header()));
        assert_eq!(RecordHeader::decode(&bytes, 6, 7), None);
        assert_eq!(RecordHeader::decode(&bytes, 5, 8), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let end = SegmentEnd {
            id: 3,
            first: 10,
            previous: 9,
            salt: 77,
            highest_key: 0x5678,
            state: State::Sealed(Toc { offset: 640, count: 2, crc: 5 }),
        };
        assert_eq!(SegmentEnd::decode(&end.encode()), Ok(end));
        assert_eq!(end.last(), Some(11));
        for bit in 0..HEADER * 8 {
            let mut bytes = header().encode(5);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bytes, 5, 7), None, "bit {bit}");
        }
        for bit in 0..END * 8 {
            let mut bytes = end.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentEnd::decode(&bytes), Err(BadEnd::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn names_and_spans() {
        assert_eq!(segment_id(&segment_name(0xabc)), Some(0xabc));
        for name in ["", "x.seg", "lock", "0000000000000abc.bad", "+000000000000abc.seg"] {
            assert_eq!(segment_id(name), None, "{name}");
        }
        for (payload, expected) in [(0, 64), (1, 128), (64, 128), (65, 192)] {
            assert_eq!(span(payload), expected);
        }
    }
}
