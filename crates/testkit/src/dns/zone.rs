//! Zones as text, and what is found in them.

use std::collections::BTreeMap;
use std::str::FromStr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

/// How long records may be kept, in seconds.
const TTL: u32 = 60;
/// The most aliases that are followed.
const ALIASES: usize = 8;

/// Names, and what is said of them.
///
/// One record a line; `;` outside of quotes begins a comment. Names are absolute, with or without a dot at the end.
///
/// ```text
/// receiver.test            MX    10 mx.receiver.test
/// nomail.test              MX    0 .
/// mx.receiver.test         A     127.0.0.1
/// mx.receiver.test         AAAA  ::1
/// www.receiver.test        CNAME receiver.test
/// receiver.test            TXT   "v=spf1 a " "-all"
/// 1.2.0.192.in-addr.arpa   PTR   mx.receiver.test
/// empty.test               NODATA
/// broken.test              SERVFAIL
/// half.test                SERVFAIL AAAA      ; its other types are answered
/// mute.test                SILENCE            ; queries are not answered
/// ```
/// A name that has no line of its own, and none below it, does not exist (NXDOMAIN).
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: BTreeMap<LowerName, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    records: Vec<RData>,
    /// For a type, or for every type.
    faults: Vec<(Option<RecordType>, Fault)>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Failure,
    Silence,
}

/// What a zone has for a name and a type.
pub(super) enum Found {
    Records(Vec<Record>),
    Nothing { aliases: Vec<Record>, code: ResponseCode },
    Failure,
    Silence,
}

/// A line of a zone is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the zone: {kind}")]
pub struct ZoneError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub kind: ZoneErrorKind,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneErrorKind {
    /// No domain name.
    #[error("the name is malformed")]
    Name,
    /// Neither a type of record that a zone may have, nor a fault.
    #[error("expected A, AAAA, MX, TXT, CNAME, PTR, NODATA, SERVFAIL or SILENCE")]
    Type,
    /// Not what the type demands.
    #[error("the value does not fit the type")]
    Value,
}

impl Zone {
    /// Reads a zone.
    ///
    /// # Errors
    /// [`ZoneError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let mut zone = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = without_comment(line).trim();
            if !line.is_empty() {
                zone.add(line).map_err(|kind| ZoneError { line: number + 1, kind })?;
            }
        }
        Ok(zone)
    }

    fn add(&mut self, line: &str) -> Result<(), ZoneErrorKind> {
        let (name, rest) = split(line);
        let (kind, value) = split(rest);
        let node = self.names.entry(LowerName::new(&read_name(name)?)).or_default();
        match kind {
            "NODATA" if value.is_empty() => {}
            "SERVFAIL" => node.faults.push((read_type(value)?, Fault::Failure)),
            "SILENCE" => node.faults.push((read_type(value)?, Fault::Silence)),
            _ => node.records.push(read_record(kind, value)?),
        }
        Ok(())
    }

    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let mut aliases = Vec::new();
        let mut owner = name.clone();
        for _ in 0..ALIASES {
            let Some(node) = self.names.get(&LowerName::new(&owner)) else {
                let below = self.names.keys().any(|known| owner.zone_of(known));
                let code = if below { ResponseCode::NoError } else { ResponseCode::NXDomain };
                return Found::Nothing { aliases, code };
            };
            match node.fault(kind) {
                Some(Fault::Failure) => return Found::Failure,
                Some(Fault::Silence) => return Found::Silence,
                None => {}
            }
            let wanted = node.records.iter().filter(|data| data.record_type() == kind);
            let record = |data: &RData| Record::from_rdata(owner.clone(), TTL, data.clone());
            let found: Vec<_> = wanted.map(record).collect();
            if !found.is_empty() {
                aliases.extend(found);
                return Found::Records(aliases);
            }
            let Some(alias @ RData::CNAME(CNAME(target))) =
                node.records.iter().find(|data| data.record_type() == RecordType::CNAME)
            else {
                return Found::Nothing { aliases, code: ResponseCode::NoError };
            };
            aliases.push(record(alias));
            owner = target.clone();
        }
        Found::Failure
    }
}

impl FromStr for Zone {
    type Err = ZoneError;
    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Self::parse(text)
    }
}

impl Node {
    fn fault(&self, kind: RecordType) -> Option<Fault> {
        let applies = |of: &Option<RecordType>| of.is_none_or(|of| of == kind);
        self.faults.iter().find(|(of, _)| applies(of)).map(|&(_, fault)| fault)
    }
}

/// The SOA record that a negative answer bears (RFC 2308 §3), so that it can be kept.
pub(super) fn authority() -> Record {
    let soa = SOA::new(Name::root(), Name::root(), 1, 3_600, 600, 86_400, TTL);
    Record::from_rdata(Name::root(), TTL, RData::SOA(soa))
}

/// A `;` in quotes is text: DKIM keys and DMARC records have them.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let comment = line.find(|character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    });
    &line[..comment.unwrap_or(line.len())]
}

fn split(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn read_name(text: &str) -> Result<Name, ZoneErrorKind> {
    let mut name = Name::from_utf8(text).map_err(|_| ZoneErrorKind::Name)?;
    name.set_fqdn(true);
    Ok(name)
}

fn read_type(text: &str) -> Result<Option<RecordType>, ZoneErrorKind> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ZoneErrorKind::Type)
}

fn read_record(kind: &str, value: &str) -> Result<RData, ZoneErrorKind> {
    let wrong = |_| ZoneErrorKind::Value;
    Ok(match kind {
        "A" => RData::A(A(value.parse().map_err(wrong)?)),
        "AAAA" => RData::AAAA(AAAA(value.parse().map_err(wrong)?)),
        "CNAME" => RData::CNAME(CNAME(read_name(value)?)),
        "PTR" => RData::PTR(PTR(read_name(value)?)),
        "MX" => {
            let (preference, exchange) = split(value);
            let preference = preference.parse().map_err(|_| ZoneErrorKind::Value)?;
            RData::MX(MX::new(preference, read_name(exchange)?))
        }
        "TXT" => RData::TXT(TXT::from_bytes(read_strings(value)?)),
        _ => return Err(ZoneErrorKind::Type),
    })
}

/// `"one" "two"`, without escapes; each at most 255 octets (RFC 1035 §3.3).
fn read_strings(text: &str) -> Result<Vec<&[u8]>, ZoneErrorKind> {
    let mut strings = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"').and_then(|open| open.split_once('"'));
        let (string, after) = quoted.ok_or(ZoneErrorKind::Value)?;
        if string.len() > 255 {
            return Err(ZoneErrorKind::Value);
        }
        strings.push(string.as_bytes());
        rest = after.trim_start();
    }
    if strings.is_empty() { Err(ZoneErrorKind::Value) } else { Ok(strings) }
}
