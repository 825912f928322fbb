//! From what hickory says to what a resolver answers.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData};
use merpati_plugin::{Alias, Answer, Dnssec, Lookup, MxRecord, ResolveError, TlsaRecord};
use merpati_types::Domain;

use crate::proof::Proven;

/// What the DNS proves.
pub(crate) type Raw = Result<Proven, ResolveError>;

/// The exchangers among the records.
pub(crate) fn exchangers(raw: Raw) -> Lookup<MxRecord> {
    let mut null = false;
    let mut unusable = false;
    let mut read = |data: &RData| {
        let RData::MX(mx) = data else { return None };
        if mx.exchange.is_root() {
            null = true;
            return None;
        }
        let exchange = domain(&mx.exchange);
        unusable |= exchange.is_none();
        Some(MxRecord { preference: mx.preference, exchange: exchange? })
    };
    let answer = records(raw, &mut read);
    match answer {
        Err(ResolveError::NoData(_)) if unusable => {
            Err(ResolveError::Temporary("no MX record names a usable host".to_owned()))
        }
        // RFC 7505 §3: beside other records it would mean nothing.
        Err(ResolveError::NoData(_)) if null => Err(ResolveError::NullMx),
        answer => answer,
    }
}

/// The addresses among the records.
pub(crate) fn addresses(raw: Raw) -> Lookup<IpAddr> {
    records(raw, &mut |data| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    })
}

/// The names among the records.
pub(crate) fn names(raw: Raw) -> Lookup<Domain> {
    records(raw, &mut |data| match data {
        RData::PTR(ptr) => domain(&ptr.0),
        _ => None,
    })
}

/// The texts among the records, each joined from its strings.
pub(crate) fn texts(raw: Raw) -> Lookup<Vec<u8>> {
    records(raw, &mut |data| match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    })
}

/// The TLSA records among the records.
pub(crate) fn associations(raw: Raw) -> Lookup<TlsaRecord> {
    records(raw, &mut |data| match data {
        RData::TLSA(tlsa) => Some(TlsaRecord {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    })
}

/// One answer from those of both address families. A family that failed hides nothing; that both
/// deny the name is needed to say that it does not exist, since servers are seen that deny it
/// for the family they do not have.
pub(crate) fn join(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Lookup<IpAddr> {
    use ResolveError::{Bogus, NoData, NxDomain, Temporary};
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.records.extend(v6.records);
            v4.dnssec = v4.dnssec.min(v6.dnssec);
            Ok(v4)
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(why @ Bogus(_)), Err(_)) | (Err(_), Err(why @ Bogus(_))) => Err(why),
        (Err(why @ Temporary(_)), Err(_)) | (Err(_), Err(why @ Temporary(_))) => Err(why),
        (Err(NxDomain(v4)), Err(NxDomain(v6))) => Err(NxDomain(v4.min(v6))),
        (Err(NxDomain(v4) | NoData(v4)), Err(NxDomain(v6) | NoData(v6))) => Err(NoData(v4.min(v6))),
        (Err(_), Err(_)) => Err(NoData(Dnssec::Insecure)),
    }
}

/// Keeps what `read` makes of the records. Where none is of use, none are there.
fn records<T>(raw: Raw, read: &mut dyn FnMut(&RData) -> Option<T>) -> Lookup<T> {
    let Proven { data, dnssec, alias } = raw?;
    let records: Vec<T> = data.iter().filter_map(read).collect();
    if records.is_empty() {
        return Err(ResolveError::NoData(dnssec));
    }
    let alias = alias
        .and_then(|alias| Some(Alias { canonical: domain(&alias.canonical)?, first: alias.first }));
    Ok(Answer { records, dnssec, alias })
}

/// A host that mail can go to; `None` for what is no host's name.
fn domain(name: &Name) -> Option<Domain> {
    let text = name.to_ascii();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let domain = Domain::parse(text);
    if let Err(error) = &domain {
        tracing::debug!(name = text, %error, "unusable name in the DNS");
    }
    domain.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_joined() {
        let check = |v4: &str, v6: &str, expected: &str| {
            let read = |text: &str| match text {
                "nx" => Err(ResolveError::NxDomain(Dnssec::Insecure)),
                "none" => Err(ResolveError::NoData(Dnssec::Insecure)),
                "later" => Err(ResolveError::Temporary("x".to_owned())),
                address => Ok(Answer::insecure(vec![address.parse().unwrap()])),
            };
            let joined = match join(read(v4), read(v6)) {
                Ok(answer) => {
                    let records = answer.records.iter().map(ToString::to_string);
                    records.collect::<Vec<_>>().join(" ")
                }
                Err(ResolveError::NxDomain(_)) => "nx".to_owned(),
                Err(ResolveError::NoData(_)) => "none".to_owned(),
                Err(ResolveError::Temporary(_)) => "later".to_owned(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(joined, expected, "{v4} and {v6}");
        };
        check("192.0.2.1", "::1", "192.0.2.1 ::1");
        for silence in ["nx", "none", "later"] {
            check("192.0.2.1", silence, "192.0.2.1");
            check(silence, "::1", "::1");
            check(silence, "later", "later");
            check("later", silence, "later");
            check("none", silence, if silence == "later" { "later" } else { "none" });
            check(silence, "none", if silence == "later" { "later" } else { "none" });
        }
        check("nx", "nx", "nx");
    }
}
