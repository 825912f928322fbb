//! Which hosts take mail for a domain, in which order (RFC 5321 §5.1).

use std::collections::BTreeSet;

use merpati_types::{Domain, Rejection, Status};

/// The most hosts that are tried for one domain. RFC 5321 §5.1 asks for two at least; a zone
/// that names hundreds must not keep us busy for days.
pub const HOST_LIMIT: usize = 16;

/// An MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host.
    pub host: Domain,
}

/// What the DNS said when asked for MX records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// These, at least one.
    Records(Vec<Mx>),
    /// `0 .`: the domain takes no mail (RFC 7505).
    Null,
    /// The name exists and has none.
    NoRecords,
    /// The name does not exist.
    NoName,
    /// It could not be found out now.
    Temporary(String),
}

/// By which names a host is ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNames(BTreeSet<Domain>);

impl OwnNames {
    /// These names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Domain>) -> Self {
        Self(names.into_iter().collect())
    }
}

/// A host to try, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host.
    pub host: Domain,
    /// Its preference; `None` where the domain is its own host.
    pub preference: Option<u16>,
}

/// Why there is nobody to try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoute {
    /// The domain does not exist.
    #[error("domain {0} does not exist")]
    NoDomain(Domain),
    /// The domain takes no mail.
    #[error("domain {0} takes no mail (null MX)")]
    NullMx(Domain),
    /// The best host is ourselves, and we do not know the domain.
    #[error("mail for {0} loops back to us")]
    Loop(Domain),
    /// No host has an address.
    #[error("no mail host of {0} has an address")]
    NoAddress(Domain),
    /// Not known now.
    #[error("cannot look up {domain}: {reason}")]
    Temporary {
        /// The domain.
        domain: Domain,
        /// What the resolver said.
        reason: String,
    },
}

impl NoRoute {
    /// The refusal it means for the recipients.
    #[must_use]
    pub fn to_rejection(&self) -> Rejection {
        let text = self.to_string();
        match self {
            Self::NoDomain(_) => Rejection::permanent(Status::NO_DOMAIN, &text),
            Self::NullMx(_) => {
                Rejection::with(merpati_types::RejectCode::C556, Status::NULL_MX, &text)
            }
            Self::Loop(_) => Rejection::permanent(Status::LOOP, &text),
            Self::NoAddress(_) => Rejection::permanent(Status::NO_ROUTE, &text),
            // The resolver's words stay in the log.
            Self::Temporary { domain, .. } => {
                let text = format!("cannot look up {domain} now");
                Rejection::transient(Status::DIRECTORY, &text)
            }
        }
    }
}

/// The hosts to try for `domain`, best first; `seed` decides the order within a preference.
///
/// Ourselves and every host that is not better are left out: a better one would have taken the
/// mail already, and handing it to a worse one would send it back here.
///
/// # Errors
/// [`NoRoute`], when there is nobody to try.
pub fn mx_candidates(
    domain: &Domain,
    answer: MxAnswer,
    own: &OwnNames,
    seed: u64,
) -> Result<Vec<Candidate>, NoRoute> {
    let mut records = match answer {
        MxAnswer::Records(records) => records,
        MxAnswer::Null => return Err(NoRoute::NullMx(domain.clone())),
        MxAnswer::NoName => return Err(NoRoute::NoDomain(domain.clone())),
        MxAnswer::Temporary(reason) => {
            return Err(NoRoute::Temporary { domain: domain.clone(), reason });
        }
        MxAnswer::NoRecords if own.0.contains(domain) => {
            return Err(NoRoute::Loop(domain.clone()));
        }
        MxAnswer::NoRecords => {
            return Ok(vec![Candidate { host: domain.clone(), preference: None }]);
        }
    };
    let ours = records.iter().filter(|mx| own.0.contains(&mx.host)).map(|mx| mx.preference).min();
    if let Some(ours) = ours {
        records.retain(|mx| mx.preference < ours);
    }
    if records.is_empty() {
        return Err(NoRoute::Loop(domain.clone()));
    }
    records.sort_by_cached_key(|mx| (mx.preference, shuffle(&mx.host, seed)));
    let mut seen = BTreeSet::new();
    records.retain(|mx| seen.insert(mx.host.clone()));
    records.truncate(HOST_LIMIT);
    let candidate = |mx: Mx| Candidate { host: mx.host, preference: Some(mx.preference) };
    Ok(records.into_iter().map(candidate).collect())
}

/// A place in the order that differs from seed to seed (FNV-1a, finished as SplitMix64 does).
fn shuffle(host: &Domain, seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let hash = host
        .as_ascii()
        .bytes()
        .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn records(pairs: &[(u16, &str)]) -> MxAnswer {
        let mx = |&(preference, host): &(u16, &str)| Mx { preference, host: domain(host) };
        MxAnswer::Records(pairs.iter().map(mx).collect())
    }

    fn check(answer: MxAnswer, expected: Result<&str, &str>) {
        let own = OwnNames::new([domain("relay.test")]);
        let found = mx_candidates(&domain("receiver.test"), answer, &own, 7);
        let found = found
            .map(|hosts| hosts.iter().map(|c| c.host.to_string()).collect::<Vec<_>>().join(" "));
        let found = found.map_err(|error| error.to_rejection().to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn answers_become_hosts_or_reasons() {
        check(records(&[(20, "b.test"), (10, "a.test")]), Ok("a.test b.test"));
        check(records(&[(20, "a.test"), (10, "A.test")]), Ok("A.test"));
        check(MxAnswer::NoRecords, Ok("receiver.test"));
        check(MxAnswer::NoName, Err("550 5.1.2 domain receiver.test does not exist"));
        check(MxAnswer::Null, Err("556 5.1.10 domain receiver.test takes no mail (null MX)"));
        check(
            MxAnswer::Temporary("SERVFAIL".to_owned()),
            Err("451 4.4.3 cannot look up receiver.test now"),
        );
        let looped = Err("550 5.4.6 mail for receiver.test loops back to us");
        check(records(&[(10, "relay.test"), (20, "b.test")]), looped);
        check(records(&[(10, "a.test"), (20, "relay.test"), (20, "b.test")]), Ok("a.test"));
    }

    #[test]
    fn equal_preferences_take_turns_and_many_hosts_are_bounded() {
        let own = OwnNames::default();
        let answer = records(&[(10, "a.test"), (10, "b.test"), (10, "c.test")]);
        let firsts: BTreeSet<_> = (0..60)
            .map(|seed| {
                let hosts = mx_candidates(&domain("d.test"), answer.clone(), &own, seed).unwrap();
                assert_eq!(hosts.len(), 3);
                hosts[0].host.clone()
            })
            .collect();
        assert_eq!(firsts.len(), 3);
        let many = (0..500).map(|n| Mx { preference: n, host: domain(&format!("h{n}.test")) });
        let answer = MxAnswer::Records(many.collect());
        let hosts = mx_candidates(&domain("d.test"), answer, &own, 1).unwrap();
        assert_eq!(hosts.len(), HOST_LIMIT);
    }
}
