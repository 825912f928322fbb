//! Where a parcel's mail goes: a plan, as rounds of addresses.

use std::net::IpAddr;
use std::sync::Arc;

use merpati_plugin::Job;
use merpati_route::security::{Asked, Failure, Need, Security, Source, last_word};
use merpati_route::{Address, Mx, Plan};
use merpati_session::client::Protocol;
use merpati_types::{Severity, Status};

use super::credentials::User;
use super::pool::{Key, Policy};
use super::source::{SentFrom, Source as Sender};
use super::stream::Endpoint;
use super::survey::{Survey, Unroutable};
use super::{Inner, Target, time_of_day};
use crate::header::header_section;

/// The most addresses that are tried for one message.
const ADDRESSES: usize = 16;
/// The most hosts that a site is named after.
const NAMED: usize = 4;

/// What to try for one message.
pub(super) struct Rounds {
    /// Those of one round are as good as each other.
    pub(super) rounds: Vec<Vec<Key>>,
    /// Hosts that get nothing, and why.
    pub(super) skipped: Vec<(String, Arc<Security>)>,
    /// What follows if nobody else takes it: the best that can be hoped for of those who are not
    /// tried.
    pub(super) otherwise: Option<Failure>,
    /// What it was made from; `None` for a socket.
    pub(super) survey: Option<Survey>,
}

impl Rounds {
    /// Has every host be told who we are.
    pub(super) fn send_as(&mut self, user: Option<&User>) {
        for key in self.rounds.iter_mut().flatten() {
            key.user = user.cloned();
        }
    }

    /// The addresses to try.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let address = |key: &Key| match key.endpoint {
            Endpoint::Tcp(address) => Some(address.ip()),
            Endpoint::Unix(_) => None,
        };
        self.rounds.iter().flatten().filter_map(address).collect()
    }

    /// Has every host be connected to from there, and those that cannot be not at all.
    pub(super) fn send_from(&mut self, source: &Arc<Sender>) {
        for round in &mut self.rounds {
            round.retain_mut(|key| {
                key.source = SentFrom(Arc::clone(source));
                match key.endpoint {
                    Endpoint::Tcp(address) => source.reaches(address.ip()),
                    Endpoint::Unix(_) => true,
                }
            });
        }
    }
}

impl Inner {
    pub(super) async fn rounds(&self, job: &Job) -> Result<Rounds, Unroutable> {
        let parcel = &job.parcel;
        if let Target::Unix(path) = &self.config.target {
            let endpoint = Endpoint::Unix(path.clone());
            let policy = Policy(Arc::new(on_this_machine()));
            let host = "localhost".to_owned();
            let key = Key { endpoint, host, policy, user: None, source: SentFrom::default() };
            let rounds = vec![vec![key]];
            return Ok(Rounds { rounds, skipped: Vec::new(), otherwise: None, survey: None });
        }
        // A constant for one message, so that its attempts go through the hosts in one order.
        let seed = parcel.id.message.as_u64();
        let survey = self.survey(&parcel.next_hop, seed).await?;
        let plan = self.secured(&survey, job).await;
        tracing::debug!(id = %parcel.id, %plan, "route");
        let mut left = ADDRESSES;
        let round = |round: Vec<Address<'_>>| {
            let keys: Vec<_> = round.iter().take(left).map(key).collect();
            left -= keys.len();
            keys
        };
        let rounds = plan.rounds().into_iter().map(round).collect();
        let skipped = plan
            .hops
            .iter()
            .filter_map(|hop| Some((hop.name(), hop.security.clone()?)))
            .filter(|(_, security)| security.skips().is_some())
            .map(|(name, security)| (name, Arc::new(security)))
            .collect();
        let otherwise = otherwise(&plan);
        Ok(Rounds { rounds, skipped, otherwise, survey: Some(survey) })
    }

    /// The plan for a message: with what its sender asks for.
    async fn secured(&self, survey: &Survey, job: &Job) -> Plan {
        let now = time_of_day();
        // What LMTP brings is there, and goes no further.
        let requires = job.parcel.info.message.envelope.requiretls;
        if requires && self.config.protocol == Protocol::Smtp {
            return survey.secured(Asked::RequireTls, now);
        }
        let plan = survey.secured(Asked::Nothing, now);
        let asks_for_much = plan
            .hops
            .iter()
            .filter_map(|hop| hop.security.as_ref())
            .any(|of| !matches!(of.need, Need::Clear | Need::Opportunistic));
        // The header section is read only where it can make a difference.
        if requires || !asks_for_much || !survey.is_open_to_less() {
            return plan;
        }
        let Ok(Some(header)) = header_section(job.message.as_ref()).await else { return plan };
        match Asked::of(&job.parcel.info.message.envelope, &header) {
            Asked::NoTls => survey.secured(Asked::NoTls, now),
            _ => plan,
        }
    }
}

/// What nobody else's refusal may make final: a host that is left out may yet take the message.
fn otherwise(plan: &Plan) -> Option<Failure> {
    if plan.is_whole() {
        return last_word(plan.skipped()).cloned();
    }
    let unknown = plan.left_out.iter().find(|host| host.unknown.is_some())?;
    let text = format!("the addresses of {} are not known now", unknown.host);
    let (severity, status) = (Severity::Transient, Status::DIRECTORY);
    Some(Failure { severity, status, text })
}

fn on_this_machine() -> Security {
    Security {
        need: Need::Clear,
        source: Source::Configured,
        why: "a socket on this machine".to_owned(),
        asked: Asked::Nothing,
        trial: None,
        faults: Vec::new(),
    }
}

fn key(at: &Address<'_>) -> Key {
    let security = at.hop.security.clone().unwrap_or_else(on_this_machine);
    Key {
        endpoint: Endpoint::Tcp((at.address, at.hop.port).into()),
        host: at.hop.name(),
        policy: Policy(Arc::new(security)),
        user: None,
        source: SentFrom::default(),
    }
}

/// The name of those who serve a domain together: the best hosts, in the order of their names.
pub(super) fn site_of(mut records: Vec<Mx>) -> Arc<str> {
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
    use merpati_types::Domain;

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
