//! What a validated answer proves.
//!
//! hickory validates each set of records; here is decided what that makes of the whole answer. Two
//! things are looked at again, for hickory lets them pass: that a denial comes from a zone the
//! name is in, and that a record made from a wildcard comes with the proof that there is none
//! closer. Otherwise whoever can forge an answer could deny what a signed zone has.

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use merpati_plugin::{Dnssec, ResolveError};

/// The most aliases that are followed.
pub(crate) const ALIASES: usize = 8;

/// Whether the resolver that answered has validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    Yes,
    No,
}

/// Records of the type asked for, never none, and how far they are proven.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) data: Vec<RData>,
    /// The weakest state on the way.
    pub(crate) dnssec: Dnssec,
    pub(crate) alias: Option<Followed>,
}

/// That the name is an alias.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) canonical: Name,
    pub(crate) first: Dnssec,
}

/// There are no such records.
#[derive(Debug)]
pub(crate) struct Silence {
    pub(crate) error: ResolveError,
    /// Whether asking for each alias alone may tell more: hickory judges an alias and the denial
    /// behind it as one, by the zone of the alias, and forgets aliases whose end it remembers.
    pub(crate) by_steps: bool,
    /// How long that may be kept, in seconds.
    pub(crate) ttl: Option<u32>,
}

impl From<ResolveError> for Silence {
    fn from(error: ResolveError) -> Self {
        Self { error, by_steps: false, ttl: None }
    }
}

/// What an answer proves.
pub(crate) fn judge(
    asked: &Name,
    kind: RecordType,
    raw: Result<Lookup, NetError>,
    checked: Checked,
) -> Result<Proven, Silence> {
    match raw {
        Ok(lookup) => positive(asked, kind, lookup.answers(), lookup.authorities(), checked),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Err(negative(asked, &none, checked)),
        // RFC 9276 §3.2: a proof with too many iterations leaves the answer insecure.
        Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. })) => {
            if response.answers.is_empty() {
                return Err(denial(response.metadata.response_code, Dnssec::Insecure).into());
            }
            let mut proven =
                positive(asked, kind, &response.answers, &response.authorities, checked)?;
            proven.dnssec = Dnssec::Insecure;
            Ok(proven)
        }
        Err(NetError::Dns(DnsError::DnssecBogus)) => {
            Err(bogus(asked, "signatures or proofs do not hold"))
        }
        Err(NetError::Dns(DnsError::Nsec { .. })) => {
            Err(bogus(asked, "the proof of absence does not hold"))
        }
        Err(error) => Err(ResolveError::Temporary(error.to_string()).into()),
    }
}

fn bogus(name: &Name, why: &str) -> Silence {
    let error = ResolveError::Bogus(format!("{name}: {why}"));
    Silence { error, by_steps: true, ttl: None }
}

fn positive(
    asked: &Name,
    kind: RecordType,
    answers: &[Record],
    authorities: &[Record],
    checked: Checked,
) -> Result<Proven, Silence> {
    let mut owner = asked;
    let mut dnssec = Dnssec::Secure;
    let mut first = None;
    for _ in 0..=ALIASES {
        let here = answers.iter().filter(|record| record.name == *owner);
        let found: Vec<_> = here.clone().filter(|record| record.record_type() == kind).collect();
        if !found.is_empty() {
            dnssec = dnssec.min(state_of(&found, checked)?);
            if dnssec == Dnssec::Secure && !expansion_is_proven(owner, answers, authorities) {
                return Err(bogus(owner, "a wildcard without proof that no closer name exists"));
            }
            let data = found.into_iter().map(|record| record.data.clone()).collect();
            let canonical = owner.clone();
            let alias = first.map(|first| Followed { canonical, first });
            return Ok(Proven { data, dnssec, alias });
        }
        let mut alias = here.filter_map(|record| match &record.data {
            RData::CNAME(CNAME(target)) => Some((record, target)),
            _ => None,
        });
        let Some((record, target)) = alias.next() else { break };
        let state = state_of(&[record], checked)?;
        first.get_or_insert(state);
        dnssec = dnssec.min(state);
        owner = target;
    }
    // Records of other names, or a circle of aliases.
    let error = ResolveError::Temporary(format!("{asked}: the answer is to another question"));
    Err(Silence { error, by_steps: true, ttl: None })
}

fn state_of(records: &[&Record], checked: Checked) -> Result<Dnssec, Silence> {
    if checked == Checked::No {
        return Ok(Dnssec::Insecure);
    }
    let mut weakest = Dnssec::Secure;
    for record in records {
        match record.proof {
            Proof::Secure => {}
            // Indeterminate is what was not asked of anybody, as for localhost.
            Proof::Insecure | Proof::Indeterminate => weakest = Dnssec::Insecure,
            Proof::Bogus => return Err(bogus(&record.name, "signatures do not hold")),
        }
    }
    Ok(weakest)
}

/// RFC 4035 §5.3.4: a record made from a wildcard counts only with the proof that no closer name
/// exists. hickory has checked the proof if there is a secure one.
fn expansion_is_proven(owner: &Name, answers: &[Record], authorities: &[Record]) -> bool {
    let expanded = answers.iter().filter(|record| record.name == *owner).any(|record| {
        matches!(&record.data, RData::DNSSEC(DNSSECRData::RRSIG(signature))
            if signature.input().num_labels < owner.num_labels())
    });
    !expanded || authorities.iter().any(is_secure_proof)
}

/// What an answer made from a wildcard proves whose NSEC proof hickory refuses: directly below a
/// wildcard it wants proof that the wildcard itself does not exist.
///
/// RFC 4035 §5.3.4: a record of the zone must show that the name does not exist, and that no name
/// closer to it than the wildcard's parent does.
pub(crate) fn expansion(asked: &Name, kind: RecordType, response: &Message) -> Option<Proven> {
    let signatures = response.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some((record, signature.input())),
        _ => None,
    });
    let mut expanded = signatures.filter(|(record, by)| by.num_labels < record.name.num_labels());
    let (record, by) = expanded.next()?;
    if record.name != *asked || !record.proof.is_secure() || expanded.next().is_some() {
        return None;
    }
    let holds = response.authorities.iter().any(|record| {
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else { return false };
        let (owner, next) = (&record.name, nsec.next_domain_name());
        // The last record of a zone leads back to its top.
        let covers = owner < asked && (asked < next || next <= owner);
        // RFC 6840 §4.1: above a cut, and above a DNAME, it says nothing of what is below.
        let above_cut = owner.zone_of(asked)
            && (nsec.is_ancestor_delegation() || nsec.type_set().contains(RecordType::DNAME));
        let closest = labels_in_common(owner, asked).max(labels_in_common(next, asked));
        record.proof.is_secure()
            && by.signer_name.zone_of(owner)
            && covers
            && !above_cut
            && !asked.zone_of(next)
            && closest == by.num_labels
    });
    if !holds {
        return None;
    }
    positive(asked, kind, &response.answers, &response.authorities, Checked::Yes).ok()
}

fn labels_in_common(name: &Name, other: &Name) -> u8 {
    let mut name = name.clone();
    while !name.zone_of(other) {
        name = name.base_name();
    }
    name.num_labels()
}

fn is_secure_proof(record: &Record) -> bool {
    let kind = record.record_type();
    record.proof.is_secure() && matches!(kind, RecordType::NSEC | RecordType::NSEC3)
}

fn negative(asked: &Name, none: &NoRecords, checked: Checked) -> Silence {
    let name = none.query.name();
    let soa = none.soa.as_deref();
    let ttl = soa.map(|soa| soa.ttl.min(soa.data.minimum)).or(none.negative_ttl);
    let error = match denial_state(name, none, checked) {
        Some(state) => denial(none.response_code, state),
        None => return bogus(asked, "the denial is of another zone"),
    };
    Silence { error, by_steps: name != asked, ttl }
}

/// How far a denial is proven; `None` if it proves nothing and should.
fn denial_state(name: &Name, none: &NoRecords, checked: Checked) -> Option<Dnssec> {
    if checked == Checked::No {
        return Some(Dnssec::Insecure);
    }
    let authorities = none.authorities.as_deref().unwrap_or_default();
    let mut proofs = authorities.iter().filter(|record| record.record_type() != RecordType::RRSIG);
    let all_secure = proofs.clone().all(|record| record.proof.is_secure());
    if all_secure && authorities.iter().any(is_secure_proof) {
        return Some(Dnssec::Secure);
    }
    // hickory takes what is insecure for proof that the name is, whatever zone it is of. Without
    // any record it has itself looked whether the name is in an unsigned zone.
    let said_of_its_zone = proofs
        .any(|record| record.proof.is_insecure() && record.name.zone_of(name))
        || none.soa.as_ref().is_some_and(|soa| soa.proof.is_insecure() && soa.name.zone_of(name));
    let nothing_said = authorities.is_empty() && none.soa.is_none();
    (said_of_its_zone || nothing_said).then_some(Dnssec::Insecure)
}

fn denial(code: ResponseCode, state: Dnssec) -> ResolveError {
    match code {
        ResponseCode::NXDomain => ResolveError::NxDomain(state),
        ResponseCode::NoError => ResolveError::NoData(state),
        code => ResolveError::Temporary(code.to_string()),
    }
}

#[cfg(test)]
mod tests;
