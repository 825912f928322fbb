//! TXT records that are lists of `name=value`: the common form of `_mta-sts` (RFC 8461 §3.1) and
//! `_smtp._tls` (RFC 8460 §3).

/// Why a domain has no record of a kind. Each means the same: that the domain does not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoRecord {
    /// No TXT record begins with the version.
    #[error("there is no such record")]
    Absent,
    /// More than one begins with it, and none is better than the others.
    #[error("there is more than one such record")]
    Several,
    /// It is not a list of names and values, or lacks what every such record has.
    #[error("the record is malformed")]
    Malformed,
}

/// The longest record that is read. A TXT record cannot be longer than 64 KiB, and one that
/// means something is far shorter.
const LIMIT: usize = 4_096;

/// The fields of the one record among `texts` that begins with `v=VERSION;`.
///
/// ```text
/// record    = "v=" version 1*(delim field) [delim]
/// delim     = *WSP ";" *WSP
/// field     = name "=" value
/// ```
pub(crate) fn fields<'a>(
    texts: impl IntoIterator<Item = &'a [u8]>,
    version: &str,
) -> Result<Vec<(&'a str, &'a str)>, NoRecord> {
    let mut ours = texts.into_iter().filter_map(|text| after_version(text, version));
    let rest = ours.next().ok_or(NoRecord::Absent)?;
    if ours.next().is_some() {
        return Err(NoRecord::Several);
    }
    if rest.len() > LIMIT {
        return Err(NoRecord::Malformed);
    }
    let rest = std::str::from_utf8(rest).map_err(|_| NoRecord::Malformed)?;
    let mut parts: Vec<&str> = rest.split(';').map(|part| part.trim_matches(WSP)).collect();
    // The last delimiter may end the record.
    if parts.last() == Some(&"") {
        parts.pop();
    }
    parts.into_iter().map(|part| field(part).ok_or(NoRecord::Malformed)).collect()
}

const WSP: [char; 2] = [' ', '\t'];

fn after_version<'a>(text: &'a [u8], version: &str) -> Option<&'a [u8]> {
    let rest = text.strip_prefix(b"v=")?.strip_prefix(version.as_bytes())?;
    rest.trim_ascii_start().strip_prefix(b";")
}

/// `name = (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")`; a value has no control
/// characters and is not empty.
fn field(part: &str) -> Option<(&str, &str)> {
    let (name, value) = part.split_once('=')?;
    let more = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let named = (1..=32).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(more);
    let valued = !value.is_empty() && !value.chars().any(char::is_control);
    (named && valued).then_some((name, value))
}
