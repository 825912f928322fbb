//! Where a parcel's mail goes: what the DNS says, as a plan.

use std::sync::Arc;

use merpati_plugin::ResolveError;
use merpati_plugin::spool::Parcel;
use merpati_route::{
    AddressAnswer, Candidate, Mx, MxAnswer, NoRoute, Plan, addresses_in_order, mx_candidates,
};
use merpati_types::{Domain, Host};

use super::pool::Key;
use super::stream::Endpoint;
use super::{Inner, Target};

/// The most addresses that are tried for one message.
const ADDRESSES: usize = 16;
/// The most hosts that a site is named after.
const NAMED: usize = 4;

impl Inner {
    /// What to try, in rounds: those of one round are as good as each other.
    pub(super) async fn rounds(&self, parcel: &Parcel) -> Result<Vec<Vec<Key>>, NoRoute> {
        let plan = match &self.config.target {
            Target::Unix(path) => {
                let endpoint = Endpoint::Unix(path.clone());
                return Ok(vec![vec![Key { endpoint, host: "localhost".to_owned() }]]);
            }
            Target::Host(Host::Literal(address)) => Plan::literal(*address, self.config.port),
            Target::Host(Host::Domain(domain)) => {
                let why = "configured".to_owned();
                let answer = self.addresses(domain).await;
                let host = Candidate { host: domain.clone(), preference: None };
                Plan::of(domain, [(host, answer, why)], self.config.port)?
            }
            Target::Mx => self.plan_mx(parcel).await?,
        };
        tracing::debug!(id = %parcel.id, %plan, "route");
        let mut left = ADDRESSES;
        let round = |round: Vec<merpati_route::Address<'_>>| {
            let keys: Vec<_> = round.iter().take(left).map(|at| key(at)).collect();
            left -= keys.len();
            keys
        };
        Ok(plan.rounds().into_iter().map(round).collect())
    }

    /// The site that serves a parcel's domain: domains with the same exchangers share limits.
    pub(super) async fn site(&self, parcel: &Parcel) -> Arc<str> {
        let next_hop = parcel.next_hop.as_str();
        match &self.config.target {
            Target::Mx => {}
            // A host that takes all mail is one site, whatever the domain.
            Target::Host(host) => return host.to_string().into(),
            Target::Unix(path) => return path.to_string_lossy().into(),
        }
        let Ok(Host::Domain(domain)) = Host::parse(next_hop) else { return next_hop.into() };
        match self.mx(&domain).await {
            MxAnswer::Records(records) => site_of(records),
            // It is its own host, or there is nobody: that concerns this domain alone.
            _ => next_hop.into(),
        }
    }

    async fn plan_mx(&self, parcel: &Parcel) -> Result<Plan, NoRoute> {
        let domain = match Host::parse(parcel.next_hop.as_str()) {
            Ok(Host::Domain(domain)) => domain,
            Ok(Host::Literal(address)) => return Ok(Plan::literal(address, self.config.port)),
            Err(_) => {
                // Next hops are made from hosts; what cannot be read back was damaged.
                let domain = Domain::parse("invalid").expect("it is a domain");
                return Err(NoRoute::NoDomain(domain));
            }
        };
        // A constant for one message, so that its attempts go through the hosts in one order.
        let seed = parcel.id.message.as_u64();
        let candidates = mx_candidates(&domain, self.mx(&domain).await, &self.own, seed)?;
        let mut hosts = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let why = match candidate.preference {
                Some(preference) => format!("MX {preference} of {domain}"),
                None => format!("{domain} has no MX"),
            };
            let answer = self.addresses(&candidate.host).await;
            hosts.push((candidate, answer, why));
        }
        Plan::of(&domain, hosts, self.config.port)
    }

    async fn mx(&self, domain: &Domain) -> MxAnswer {
        let _permit = self.lookups.acquire().await;
        match self.resolver.mx(domain).await {
            Ok(answer) => MxAnswer::Records(
                answer
                    .records
                    .into_iter()
                    .map(|mx| Mx { preference: mx.preference, host: mx.exchange })
                    .collect(),
            ),
            Err(ResolveError::NullMx) => MxAnswer::Null,
            Err(ResolveError::NoData(_)) => MxAnswer::NoRecords,
            Err(ResolveError::NxDomain(_)) => MxAnswer::NoName,
            Err(error) => MxAnswer::Temporary(error.to_string()),
        }
    }

    async fn addresses(&self, host: &Domain) -> AddressAnswer {
        let _permit = self.lookups.acquire().await;
        match self.resolver.addresses(host).await {
            Ok(answer) => AddressAnswer::Found(addresses_in_order(answer.records)),
            Err(ResolveError::NoData(_) | ResolveError::NxDomain(_)) => AddressAnswer::None,
            Err(error) => AddressAnswer::Temporary(error.to_string()),
        }
    }
}

fn key(at: &merpati_route::Address<'_>) -> Key {
    let host = at.hop.host.as_ref().map(|host| host.as_ascii().to_owned());
    Key {
        endpoint: Endpoint::Tcp((at.address, at.hop.port).into()),
        host: host.unwrap_or_else(|| at.address.to_string()),
    }
}

/// The name of those who serve a domain together: the best hosts, in the order of their names.
fn site_of(mut records: Vec<Mx>) -> Arc<str> {
    let best = records.iter().map(|mx| mx.preference).min();
    records.retain(|mx| Some(mx.preference) == best);
    let mut names: Vec<_> =
        records.iter().map(|mx| mx.host.as_ascii().to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMED);
    names.join("+").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_with_the_same_best_hosts_are_one_site() {
        let check = |records: &[(u16, &str)], expected: &str| {
            let mx = |&(preference, host): &(u16, &str)| Mx {
                preference,
                host: Domain::parse(host).unwrap(),
            };
            assert_eq!(&*site_of(records.iter().map(mx).collect()), expected);
        };
        check(&[(10, "mx.test")], "mx.test");
        check(
            &[(20, "backup.d1.test"), (10, "B.mx.test"), (10, "a.mx.test")],
            "a.mx.test+b.mx.test",
        );
        check(&[(5, "e.t"), (5, "d.t"), (5, "c.t"), (5, "b.t"), (5, "a.t")], "a.t+b.t+c.t+d.t");
    }
}
