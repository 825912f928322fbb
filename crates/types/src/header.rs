//! The header section of a message, as it was received.

use std::ops::Range;

use bytes::Bytes;

/// Why a header section is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// More octets than [`HeaderSection::OCTET_LIMIT`].
    #[error("header section is longer than {limit} octets")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// More fields than [`HeaderSection::FIELD_LIMIT`].
    #[error("header section has more than {limit} fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
}

/// A header section: its bytes, and where its fields are.
///
/// It ends before the empty line, or before the first line that is neither a field nor a
/// continuation, as every mail server reads it: such a line begins the body.
#[derive(Clone, Debug)]
pub struct HeaderSection {
    raw: Bytes,
    fields: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    name: Range<u32>,
    /// After the colon, with the final line end.
    value: Range<u32>,
}

/// A field as it was received.
#[derive(Clone, Copy, Debug)]
pub struct HeaderField<'a> {
    raw: &'a [u8],
    name: &'a str,
    value: &'a [u8],
}

impl<'a> HeaderField<'a> {
    /// The name, as written.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// All that follows the colon, without the final line end; folds are in it.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        let value = self.value.strip_suffix(b"\n").unwrap_or(self.value);
        value.strip_suffix(b"\r").unwrap_or(value)
    }

    /// The value without line ends and outer white space; octets that are not UTF-8 are
    /// replaced.
    #[must_use]
    pub fn unfolded(&self) -> String {
        let text = String::from_utf8_lossy(self.value());
        text.replace(['\r', '\n'], "").trim().to_owned()
    }

    /// The whole field with its final line end.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

impl HeaderSection {
    /// The most octets.
    pub const OCTET_LIMIT: usize = 1024 * 1024;
    /// The most fields.
    pub const FIELD_LIMIT: usize = 1_000;

    /// Reads the header section at the beginning of `message`, which is a whole message or as
    /// much of it as exceeds [`Self::OCTET_LIMIT`].
    ///
    /// # Errors
    /// [`HeaderError`], when a limit is exceeded.
    pub fn read(message: &Bytes) -> Result<Self, HeaderError> {
        let mut fields: Vec<Place> = Vec::with_capacity(16);
        let mut at = 0;
        while at < message.len() {
            if at > Self::OCTET_LIMIT {
                return Err(HeaderError::TooLong { limit: Self::OCTET_LIMIT });
            }
            let rest = &message[at..];
            let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let line = &rest[..length];
            let offset = |within: usize| u32::try_from(at + within).unwrap_or(u32::MAX);
            if matches!(line[0], b' ' | b'\t') {
                // A first line that continues nothing is no header.
                match fields.last_mut() {
                    Some(field) => field.value.end = offset(length),
                    None => break,
                }
            } else if let Some(colon) = field_name(line) {
                if fields.len() >= Self::FIELD_LIMIT {
                    return Err(HeaderError::TooManyFields { limit: Self::FIELD_LIMIT });
                }
                let name = line[..colon].trim_ascii_end().len();
                fields.push(Place {
                    name: offset(0)..offset(name),
                    value: offset(colon + 1)..offset(length),
                });
            } else {
                break;
            }
            at += length;
        }
        if at > Self::OCTET_LIMIT {
            return Err(HeaderError::TooLong { limit: Self::OCTET_LIMIT });
        }
        Ok(Self { raw: message.slice(..at), fields })
    }

    /// The bytes, every field with its line end, without the empty line that follows.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The fields, first to last.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = HeaderField<'_>> + ExactSizeIterator {
        self.fields.iter().map(|place| {
            let name = &self.raw[place.name.start as usize..place.name.end as usize];
            HeaderField {
                raw: &self.raw[place.name.start as usize..place.value.end as usize],
                name: std::str::from_utf8(name).expect("field names are ASCII"),
                value: &self.raw[place.value.start as usize..place.value.end as usize],
            }
        })
    }

    /// The fields of this name, ignoring letter case.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = HeaderField<'a>> {
        self.fields().filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// The first field of this name, ignoring letter case.
    #[must_use]
    pub fn find<'a>(&'a self, name: &'a str) -> Option<HeaderField<'a>> {
        self.named(name).next()
    }

    /// How many fields have this name.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.named(name).count()
    }
}

/// Where the colon of a field is, if the line begins one.
///
/// ```text
/// field = 1*ftext *WSP ":" unstructured          RFC 5322 §3.6.8, §4.5
/// ```
fn field_name(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~');
    (!name.is_empty() && name.iter().all(printable)).then_some(colon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Result<HeaderSection, HeaderError> {
        HeaderSection::read(&Bytes::copy_from_slice(message.as_bytes()))
    }

    #[test]
    fn finds_fields_and_the_end() {
        let check = |message: &str, fields: &[(&str, &str)], length: usize| {
            let section = read(message).unwrap();
            let found: Vec<_> = section.fields().map(|f| (f.name(), f.unfolded())).collect();
            let found: Vec<_> = found.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert_eq!((found.as_slice(), section.raw().len()), (fields, length), "{message:?}");
        };
        check("", &[], 0);
        check("\r\nbody", &[], 0);
        check("body\r\n", &[], 0);
        check("A: 1\r\nb:2\r\n\r\nC: 3\r\n", &[("A", "1"), ("b", "2")], 11);
        check("A: 1\r\n 2\r\n\t3\r\n\r\n", &[("A", "1 2\t3")], 14);
        check("A : 1\r\n\r\n", &[("A", "1")], 7);
        check("A: 1\r\nno field\r\nB: 2\r\n", &[("A", "1")], 6);
        check(" A: 1\r\n\r\n", &[], 0);
        check("A: 1\n\nbody", &[("A", "1")], 5);
        check("A:", &[("A", "")], 2);
    }

    #[test]
    fn looks_up_without_regard_to_case() {
        let section = read("Received: a\r\nTo: b\r\nRECEIVED: c\r\n\r\n").unwrap();
        assert_eq!(section.count("received"), 2);
        assert_eq!(section.find("to").unwrap().raw(), b"To: b\r\n");
        assert!(section.find("From").is_none());
    }

    #[test]
    fn keeps_its_limits() {
        let fields = "A: b\r\n".repeat(HeaderSection::FIELD_LIMIT);
        assert_eq!(read(&fields).unwrap().fields().len(), HeaderSection::FIELD_LIMIT);
        let error = read(&(fields + "A: b\r\n")).unwrap_err();
        assert_eq!(error, HeaderError::TooManyFields { limit: HeaderSection::FIELD_LIMIT });
        let long = format!("A: {}\r\n\r\n", "b".repeat(HeaderSection::OCTET_LIMIT));
        let error = read(&long).unwrap_err();
        assert_eq!(error, HeaderError::TooLong { limit: HeaderSection::OCTET_LIMIT });
    }
}
