//! Zones as text, and what is found in them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};

use super::signing::{Signature, ZoneKey, sets};

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
/// _25._tcp.mx.receiver.test TLSA 3 1 1 0123abcd
/// ```
/// A name that has no line of its own, and none below it, does not exist (NXDOMAIN).
///
/// These lines count once the zone is [`Zone::signed`]:
/// ```text
/// unsigned.test            INSECURE           ; it and what is below is a zone without signatures
/// forged.test              FORGED MX          ; the signature is wrong; of all types, without one
/// old.test                 EXPIRED            ; the signatures have expired
/// denied.test              MISDENIED unsigned.test ; denied by a zone that the name is not in
/// ```
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: BTreeMap<LowerName, Node>,
    key: Option<Arc<ZoneKey>>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    records: Vec<RData>,
    /// For a type, or for every type.
    faults: Vec<(Option<RecordType>, Fault)>,
    /// For a type, or for every type.
    signatures: Vec<(Option<RecordType>, Signature)>,
    insecure: bool,
    misdenied: Option<Name>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Failure,
    Silence,
}

/// What a zone has for a name and a type.
pub(super) enum Found {
    Records(Vec<Record>),
    Nothing { owner: Name, aliases: Vec<Record>, code: ResponseCode },
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
    #[error(
        "expected A, AAAA, MX, TXT, CNAME, PTR, TLSA, NODATA, SERVFAIL, SILENCE, INSECURE, FORGED, \
         EXPIRED or MISDENIED"
    )]
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
            "INSECURE" => node.insecure = true,
            "FORGED" => node.signatures.push((read_type(value)?, Signature::Forged)),
            "EXPIRED" => node.signatures.push((read_type(value)?, Signature::Expired)),
            "MISDENIED" => node.misdenied = Some(read_name(value)?),
            _ => node.records.push(read_record(kind, value)?),
        }
        Ok(())
    }

    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let mut aliases = Vec::new();
        let mut owner = name.clone();
        for _ in 0..ALIASES {
            let Some(node) = self.names.get(&LowerName::new(&owner)) else {
                let code = if self.has_any_in(&owner) {
                    ResponseCode::NoError
                } else {
                    ResponseCode::NXDomain
                };
                return Found::Nothing { owner, aliases, code };
            };
            if node.misdenied.is_some() {
                return Found::Nothing { owner, aliases, code: ResponseCode::NoError };
            }
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
                return Found::Nothing { owner, aliases, code: ResponseCode::NoError };
            };
            aliases.push(record(alias));
            owner = target.clone();
        }
        Found::Failure
    }
}

/// What is signed: all of it is the root zone.
impl Zone {
    /// Signs it from now on.
    #[must_use]
    pub fn signed(mut self, key: &Arc<ZoneKey>) -> Self {
        let server = RData::NS(NS(Name::root()));
        for node in self.names.values_mut().filter(|node| node.insecure) {
            node.records.push(server.clone());
        }
        let apex = self.names.entry(LowerName::new(&Name::root())).or_default();
        apex.records.extend([authority().data, server, key.dnskey()]);
        self.key = Some(Arc::clone(key));
        self
    }

    /// The records with their signatures.
    pub(super) fn with_signatures(&self, mut records: Vec<Record>) -> Vec<Record> {
        let Some(key) = &self.key else { return records };
        for set in sets(&records) {
            let (owner, kind) = (&set[0].name, set[0].record_type());
            if self.unsigned_zone(owner, kind).is_none() {
                let node = self.names.get(&LowerName::new(owner));
                let how = node.and_then(|node| node.signature(kind));
                records.push(key.sign(&set, how.unwrap_or(Signature::Valid)));
            }
        }
        records
    }

    /// What goes with the denial of a name, or of a type of it.
    pub(super) fn proof(&self, owner: &Name, kind: RecordType, code: ResponseCode) -> Vec<Record> {
        if self.key.is_none() {
            return vec![authority()];
        }
        let misdenied =
            self.names.get(&LowerName::new(owner)).and_then(|node| node.misdenied.clone());
        if let Some(other) = misdenied.or_else(|| self.unsigned_zone(owner, kind)) {
            return vec![Record::from_rdata(other, TTL, authority().data)];
        }
        let mut records = vec![authority(), self.nsec(owner)];
        if code == ResponseCode::NXDomain {
            let mut encloser = owner.base_name();
            while !self.has_any_in(&encloser) {
                encloser = encloser.base_name();
            }
            let wildcard = self.nsec(&encloser.prepend_label("*").expect("it is a short label"));
            if wildcard != records[1] {
                records.push(wildcard);
            }
        }
        self.with_signatures(records)
    }

    /// The record that matches or covers a name.
    fn nsec(&self, name: &Name) -> Record {
        let name = LowerName::new(name);
        let shown = |(known, _): &(&LowerName, _)| !self.is_below_cut(known);
        let covering = self.names.range(..=&name).rev().find(shown);
        let (owner, node) = covering.expect("the root is a name of every signed zone");
        let after = (Bound::Excluded(owner), Bound::Unbounded);
        let next = self.names.range(after).find(shown);
        let next = next.map_or_else(Name::root, |(next, _)| Name::from(next));
        let types: Vec<_> = match node.insecure {
            true => vec![RecordType::NS],
            false => node.records.iter().map(RData::record_type).collect(),
        };
        let nsec = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new_cover_self(next, types)));
        Record::from_rdata(Name::from(owner), TTL, nsec)
    }

    fn is_below_cut(&self, name: &LowerName) -> bool {
        let name = Name::from(name);
        !name.is_root() && self.cut(name.base_name()).is_some()
    }

    /// The closest unsigned zone that a name is in, if it is in one.
    fn cut(&self, mut name: Name) -> Option<Name> {
        loop {
            if self.names.get(&LowerName::new(&name)).is_some_and(|node| node.insecure) {
                return Some(name);
            }
            if name.is_root() {
                return None;
            }
            name = name.base_name();
        }
    }

    /// Whether the name has a line, or one below it has: those follow it in the order of names.
    fn has_any_in(&self, name: &Name) -> bool {
        let name = LowerName::new(name);
        let first = self.names.range(&name..).next();
        first.is_some_and(|(known, _)| name.zone_of(known))
    }

    /// The unsigned zone that has this type of this name.
    fn unsigned_zone(&self, name: &Name, kind: RecordType) -> Option<Name> {
        let cut = self.cut(name.clone())?;
        let of_parent = matches!(kind, RecordType::DS | RecordType::NSEC) && cut == *name;
        (!of_parent).then_some(cut)
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

    fn signature(&self, kind: RecordType) -> Option<Signature> {
        let applies = |of: &Option<RecordType>| of.is_none_or(|of| of == kind);
        self.signatures.iter().find(|(of, _)| applies(of)).map(|&(_, how)| how)
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
        "TLSA" => RData::TLSA(read_tlsa(value).ok_or(ZoneErrorKind::Value)?),
        _ => return Err(ZoneErrorKind::Type),
    })
}

/// `3 1 1 0123abcd`
fn read_tlsa(value: &str) -> Option<TLSA> {
    let mut words = value.split_whitespace();
    let mut number = || words.next()?.parse::<u8>().ok();
    let (usage, selector, matching) = (number()?, number()?, number()?);
    let data = words
        .next()?
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    Some(TLSA::new(usage.into(), selector.into(), matching.into(), data.collect::<Option<_>>()?))
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
