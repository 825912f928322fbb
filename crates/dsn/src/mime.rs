//! As much of MIME as reports need, read from whatever bytes: header sections, the parts of
//! multiparts, transfer encodings.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use merpati_types::{HeaderError, HeaderSection};

/// The longest boundary that is looked for: RFC 2046 §5.1.1 has 70.
const BOUNDARY_LIMIT: usize = 200;
/// The most parameters of a Content-Type that are read.
const PARAMETER_LIMIT: usize = 20;

/// Padding may be missing, and what is left over at the end is dropped.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A message or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub(crate) headers: HeaderSection,
    /// As it was sent, encoded.
    pub(crate) body: Bytes,
}

/// A Content-Type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// `type/subtype` in lower case.
    pub(crate) kind: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Entity {
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, HeaderError> {
        let headers = HeaderSection::read(bytes)?;
        let end = headers.raw().len();
        let rest = &bytes[end..];
        let empty = match rest {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => 0,
        };
        Ok(Self { headers, body: bytes.slice(end + empty..) })
    }

    /// Of a part without one, what RFC 2045 §5.2 says.
    pub(crate) fn content_type(&self) -> ContentType {
        let field = self.headers.find("Content-Type").map(|field| field.unfolded());
        ContentType::parse(field.as_deref().unwrap_or("text/plain"))
    }

    /// The body, its transfer encoding undone as far as it is one.
    pub(crate) fn decoded(&self) -> Bytes {
        let field = self.headers.find("Content-Transfer-Encoding").map(|field| field.unfolded());
        let name = field.as_deref().unwrap_or_default();
        let name = name.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
        if name.eq_ignore_ascii_case("base64") {
            Bytes::from(from_base64(&self.body))
        } else if name.eq_ignore_ascii_case("quoted-printable") {
            Bytes::from(from_quoted_printable(&self.body))
        } else {
            self.body.clone()
        }
    }
}

impl ContentType {
    fn parse(text: &str) -> Self {
        let (kind, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let kind = kind.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let mut parameters = Vec::new();
        while parameters.len() < PARAMETER_LIMIT {
            let Some((name, after)) = rest.split_once('=') else { break };
            let name = name.trim_matches(|c: char| c.is_whitespace() || c == ';');
            let (value, after) = parameter_value(after.trim_start());
            parameters.push((name.to_ascii_lowercase(), value));
            rest = after;
        }
        Self { kind, parameters }
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(own, _)| own == name)?;
        Some(&found.1)
    }

    /// The boundary of a multipart that can be cut.
    pub(crate) fn boundary(&self) -> Option<&str> {
        let boundary = self.parameter("boundary").filter(|_| self.kind.starts_with("multipart/"));
        boundary.filter(|text| !text.is_empty() && text.len() <= BOUNDARY_LIMIT)
    }
}

/// A token or a quoted string, and what is left behind it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[place + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The parts of a multipart's body (RFC 2046 §5.1.1), at most `limit` of them. One that nothing
/// ends goes to the end.
pub(crate) fn parts(body: &Bytes, boundary: &str, limit: usize) -> Vec<Bytes> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut start = None;
    for place in memchr::memmem::find_iter(body, delimiter.as_bytes()) {
        if place > 0 && body[place - 1] != b'\n' {
            continue;
        }
        let after = place + delimiter.len();
        let end = memchr::memchr(b'\n', &body[after..]).map_or(body.len(), |end| after + end + 1);
        let rest = body[after..end].trim_ascii_end();
        let is_last = rest.starts_with(b"--");
        // It may begin a longer one.
        if !is_last && !rest.is_empty() {
            continue;
        }
        if let Some(start) = start {
            // The line end before a delimiter is the delimiter's.
            let part: &[u8] = &body[start..place.max(start)];
            let part = part.strip_suffix(b"\n").unwrap_or(part);
            let part = part.strip_suffix(b"\r").unwrap_or(part);
            parts.push(body.slice(start..start + part.len()));
        }
        start = (!is_last).then_some(end);
        if is_last || parts.len() >= limit {
            return parts;
        }
    }
    if let Some(start) = start {
        parts.push(body.slice(start..));
    }
    parts
}

/// RFC 2045 §6.8: what is not of the alphabet is skipped.
fn from_base64(text: &[u8]) -> Vec<u8> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut digits: Vec<u8> = text.iter().copied().filter(is_digit).collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    BASE64.decode(digits).unwrap_or_default()
}

/// RFC 2045 §6.7: what is no escape stays as it is, and spaces before a line's end go.
fn from_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let content = line.trim_ascii_end();
        let is_ended = line.ends_with(b"\n");
        let (content, is_soft) = match content.strip_suffix(b"=") {
            Some(content) => (content, true),
            None => (content, false),
        };
        let mut rest = content;
        while let Some(place) = memchr::memchr(b'=', rest) {
            out.extend_from_slice(&rest[..place]);
            rest = &rest[place + 1..];
            match rest.get(..2).and_then(from_hex) {
                Some(byte) => {
                    out.push(byte);
                    rest = &rest[2..];
                }
                None => out.push(b'='),
            }
        }
        out.extend_from_slice(rest);
        if is_ended && !is_soft {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn from_hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read() {
        let check = |text: &str, kind: &str, boundary: Option<&str>| {
            let read = ContentType::parse(text);
            assert_eq!((read.kind.as_str(), read.boundary()), (kind, boundary), "{text}");
        };
        check("multipart/report; boundary=abc", "multipart/report", Some("abc"));
        check("Multipart/Report ; BOUNDARY = \"a b\\\"\" ; x=y", "multipart/report", Some("a b\""));
        check("multipart/mixed; x=\"a;boundary=no\"; boundary=b;", "multipart/mixed", Some("b"));
        check("multipart/mixed; boundary=\"open", "multipart/mixed", Some("open"));
        check("multipart/mixed; boundary=\"\"", "multipart/mixed", None);
        check("multipart/mixed; boundary", "multipart/mixed", None);
        check("text/plain; boundary=x", "text/plain", None);
        check("", "", None);
        let long = format!("multipart/mixed; boundary={}", "x".repeat(201));
        check(&long, "multipart/mixed", None);
    }

    #[test]
    fn multiparts_are_cut() {
        let check = |body: &str, expected: &[&str]| {
            let found = parts(&Bytes::copy_from_slice(body.as_bytes()), "b", 3);
            assert_eq!(found, expected, "{body:?}");
        };
        check("before\r\n--b\r\none\r\n--b \t\r\ntwo\r\n\r\n--b--\r\nafter", &["one", "two\r\n"]);
        check("--b\none\n--b--", &["one"]);
        check("--b\r\n--b\r\n--b--\r\n", &["", ""]);
        check("--b\r\nno --b\r\n--bb\r\nend", &["no --b\r\n--bb\r\nend"]);
        check("--b\r\n1\r\n--b\r\n2\r\n--b\r\n3\r\n--b\r\n4\r\n--b--", &["1", "2", "3"]);
        check("--b", &[""]);
        check("nothing", &[]);
    }

    #[test]
    fn encodings_are_undone() {
        let quoted =
            |text: &str| String::from_utf8(from_quoted_printable(text.as_bytes())).unwrap();
        assert_eq!(quoted("a=\r\nb =3D=c3=A9 \r\n=zz=4"), "ab =é\r\n=zz=4");
        assert_eq!(quoted("a\nb=\n"), "a\r\nb");
        let base64 = |text: &str| String::from_utf8(from_base64(text.as_bytes())).unwrap();
        assert_eq!(base64("aGVs\r\nbG8=\r\n"), "hello");
        assert_eq!(base64("aGVs bG8 !"), "hello");
        assert_eq!(base64("aGVsbG8h="), "hello!");
        assert_eq!(base64("aGVsb"), "hel");
        assert_eq!(base64("="), "");
    }
}
