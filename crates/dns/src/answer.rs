//! From what hickory says to what a resolver answers.

use std::net::IpAddr;

use hickory_resolver::lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use merpati_plugin::{Answer, Dnssec, Lookup, MxRecord, ResolveError};
use merpati_types::Domain;

/// What hickory answers.
pub(crate) type Raw = Result<lookup::Lookup, NetError>;

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

/// One answer from those of both address families. A family that failed hides nothing; that both
/// deny the name is needed to say that it does not exist, since servers are seen that deny it
/// for the family they do not have.
pub(crate) fn join(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Lookup<IpAddr> {
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.records.extend(v6.records);
            Ok(v4)
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(ResolveError::NxDomain(v4)), Err(ResolveError::NxDomain(v6))) => {
            Err(ResolveError::NxDomain(v4.min(v6)))
        }
        (Err(why @ (ResolveError::Temporary(_) | ResolveError::Bogus(_))), Err(_))
        | (Err(_), Err(why @ (ResolveError::Temporary(_) | ResolveError::Bogus(_)))) => Err(why),
        (Err(_), Err(_)) => Err(ResolveError::NoData(Dnssec::Insecure)),
    }
}

/// Keeps what `read` makes of the records: aliases and signatures come along with the answer.
fn records<T>(raw: Raw, read: &mut dyn FnMut(&RData) -> Option<T>) -> Lookup<T> {
    let lookup = raw.map_err(silence)?;
    let records: Vec<T> = lookup.answers().iter().filter_map(|record| read(&record.data)).collect();
    if records.is_empty() {
        return Err(ResolveError::NoData(Dnssec::Insecure));
    }
    Ok(Answer::insecure(records))
}

fn silence(error: NetError) -> ResolveError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => ResolveError::NxDomain(Dnssec::Insecure),
            ResponseCode::NoError => ResolveError::NoData(Dnssec::Insecure),
            code => ResolveError::Temporary(code.to_string()),
        },
        error => ResolveError::Temporary(error.to_string()),
    }
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
