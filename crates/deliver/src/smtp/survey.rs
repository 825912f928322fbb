//! What there is to know of a destination before anybody connects: hosts, addresses, and what
//! asks for TLS. Looked up once an attempt; decided on as often as the question changes.

use std::collections::HashMap;
use std::net::IpAddr;

use merpati_plugin::spool::{NextHop, Parcel};
use merpati_plugin::{Answer, Dnssec, ResolveError, TlsaRecord};
use merpati_route::mta_sts::{Memory, Sts};
use merpati_route::security::{Asked, Destination, MailHost, Override, Route, Security};
use merpati_route::tlsa::{self, Dane, Tlsa, TlsaAnswer};
use merpati_route::{
    AddressAnswer, Candidate, DnsState, Followed, Hop, LeftOut, Mx, MxAnswer, NoRoute, Plan,
    addresses_in_order, mx_candidates,
};
use merpati_types::{Domain, Host, Timestamp};

use super::barred::Bar;
use super::{Inner, RelayHost, Target};

/// A destination as it was found.
pub(super) struct Survey {
    /// Whose policies count.
    pub(super) domain: Host,
    expanded: Option<Domain>,
    pub(super) route: Route,
    pub(super) sts: Memory,
    pub(super) wanted: Option<Override>,
    plan: Plan,
    hosts: Hosts,
    /// What is configured for hosts that are configured themselves, by their names.
    relays: HashMap<String, Option<Override>>,
}

/// What is known of hosts, by name and port.
type Hosts = HashMap<(Domain, u16), Known>;

/// What is known of a host besides its addresses.
pub(super) struct Known {
    pub(super) addresses: DnsState,
    pub(super) dane: Dane,
    base: Option<Domain>,
}

impl Survey {
    /// The plan, with what each host needs to get a message that asks for this.
    pub(super) fn secured(&self, asked: Asked, now: Timestamp) -> Plan {
        self.plan.clone().secure(|hop| {
            let known = self.known(hop);
            let host = match &hop.host {
                Some(domain) => Host::Domain(domain.clone()),
                None => Host::Literal(hop.addresses[0]),
            };
            let (domain, wanted) = match self.relays.get(&hop.name()) {
                Some(wanted) => (&host, wanted),
                None => (&self.domain, &self.wanted),
            };
            let destination = Destination {
                domain,
                expanded: self.expanded.as_ref(),
                route: self.route,
                sts: self.sts(now),
                wanted: wanted.as_ref(),
                asked,
            };
            let host = MailHost {
                host: &host,
                addresses: known.map_or(DnsState::Insecure, |known| known.addresses),
                dane: known.map_or(&Dane::NotSecure, |known| &known.dane),
                base: known.and_then(|known| known.base.as_ref()),
            };
            Security::decide(&destination, &host)
        })
    }

    /// What is known of a host of the plan.
    pub(super) fn known(&self, hop: &Hop) -> Option<&Known> {
        self.hosts.get(&(hop.host.clone()?, hop.port))
    }

    /// What MTA-STS says.
    pub(super) fn sts(&self, now: Timestamp) -> Sts<'_> {
        self.sts.state(now)
    }

    /// Whether the sender may ask for less than policies do.
    pub(super) fn is_open_to_less(&self) -> bool {
        self.wanted.is_none() && self.relays.values().all(Option::is_none)
    }
}

impl Inner {
    /// Looks up where mail to `next_hop` goes; `seed` decides the order of equal hosts.
    pub(super) async fn survey(&self, next_hop: &NextHop, seed: u64) -> Result<Survey, Unroutable> {
        match &self.config.target {
            Target::Hosts(hosts) => self.survey_hosts(hosts).await,
            Target::MxOf(domain) => self.survey_mx(domain.clone(), seed).await,
            // A socket is on this machine; who asks has no plan for it.
            Target::Unix(_) => Err(NoRoute::NoDomain(invalid()).into()),
            Target::Mx => match Host::parse(next_hop.as_str()) {
                Ok(Host::Domain(domain)) => self.survey_mx(domain, seed).await,
                Ok(host) => self.survey_hosts(&[RelayHost { host, port: None }]).await,
                // Next hops are made from hosts; what cannot be read back was damaged.
                Err(_) => Err(NoRoute::NoDomain(invalid()).into()),
            },
        }
    }

    /// Hosts in the order in which they are configured: each stands in for those before it.
    async fn survey_hosts(&self, relays: &[RelayHost]) -> Result<Survey, Unroutable> {
        let mut plan = Plan { hops: Vec::new(), left_out: Vec::new() };
        let (mut hosts, mut configured) = (HashMap::new(), HashMap::new());
        let mut failure: Option<Unroutable> = None;
        for (place, relay) in (0..).zip(relays) {
            let mut part = match self.survey_relay(relay).await {
                Ok((part, known)) => {
                    hosts.extend(known);
                    part
                }
                Err(unroutable) => {
                    tracing::warn!(host = %relay, why = %unroutable.why, "host is left out");
                    if let Some(host) = relay.host.domain().cloned() {
                        let unknown = Some(unroutable.why.to_string());
                        plan.left_out.push(LeftOut { host, unknown });
                    }
                    failure = failure.or(Some(unroutable));
                    continue;
                }
            };
            for hop in &mut part.hops {
                hop.preference = Some(place);
                configured.insert(hop.name(), self.wanted(&relay.host));
            }
            plan.hops.extend(part.hops);
        }
        let domain = relays.first().map(|relay| relay.host.clone());
        let domain = domain.unwrap_or_else(|| Host::Domain(invalid()));
        match failure {
            Some(failure) if plan.hops.is_empty() => Err(failure.for_now()),
            _ => Ok(Survey {
                wanted: self.wanted(&domain),
                domain,
                expanded: None,
                route: Route::Direct,
                sts: Memory::default(),
                plan,
                hosts,
                relays: configured,
            }),
        }
    }

    async fn survey_relay(&self, relay: &RelayHost) -> Result<(Plan, Hosts), Unroutable> {
        let port = relay.port.unwrap_or(self.config.port);
        match &relay.host {
            Host::Literal(address) => Ok((Plan::literal(*address, port), HashMap::new())),
            Host::Domain(domain) => {
                let candidate = Candidate { host: domain.clone(), preference: None };
                let candidates = vec![(candidate, "configured".to_owned())];
                self.survey_addresses(domain, candidates, port).await
            }
        }
    }

    async fn survey_mx(&self, domain: Domain, seed: u64) -> Result<Survey, Unroutable> {
        let (answer, state, expanded) = self.mx(&domain).await?;
        let has_mx = matches!(answer, MxAnswer::Records(_));
        let candidates = mx_candidates(&domain, answer, &self.own, seed)?;
        let why = |candidate: Candidate| {
            let why = match candidate.preference {
                Some(preference) => format!("MX {preference} of {domain}"),
                None => format!("{domain} has no MX"),
            };
            (candidate, why)
        };
        let candidates = candidates.into_iter().map(why).collect();
        let (plan, hosts) = self.survey_addresses(&domain, candidates, self.config.port).await?;
        let sts = match &self.config.sts {
            Some(policies) => policies.policy(&domain).await,
            None => Memory::default(),
        };
        let domain = Host::Domain(domain);
        let wanted = self.wanted(&domain);
        let route = if has_mx { Route::Mx(state) } else { Route::Direct };
        let relays = HashMap::new();
        Ok(Survey { domain, expanded, route, sts, wanted, plan, hosts, relays })
    }

    async fn survey_addresses(
        &self,
        domain: &Domain,
        candidates: Vec<(Candidate, String)>,
        port: u16,
    ) -> Result<(Plan, Hosts), Unroutable> {
        let mut found = Vec::with_capacity(candidates.len());
        let mut hosts = HashMap::new();
        let mut bogus = false;
        let mut ours = None;
        for (candidate, why) in candidates {
            let mut answer = self.addresses(&candidate.host).await;
            // What is configured is meant, wherever it leads.
            if let (Target::Mx, Ok(answer)) = (&self.config.target, &mut answer)
                && self.bar(&candidate, port, answer)
            {
                // As with a host of our name: those after it would send the mail back to us.
                ours = Some(candidate.preference);
                break;
            }
            bogus |= matches!(answer, Err(ResolveError::Bogus(_)));
            let answer = match answer {
                Ok(answer) => {
                    let known = self.known(&candidate.host, port, &answer).await;
                    hosts.insert((candidate.host.clone(), port), known);
                    AddressAnswer::Found(addresses_in_order(answer.records))
                }
                Err(ResolveError::NoData(_) | ResolveError::NxDomain(_)) => AddressAnswer::None,
                Err(error) => AddressAnswer::Temporary(error.to_string()),
            };
            found.push((candidate, answer, why));
        }
        if let Some(preference) = ours {
            found.retain(|(candidate, ..)| candidate.preference < preference);
            if found.is_empty() {
                return Err(NoRoute::Loop(domain.clone()).into());
            }
        }
        match Plan::of(domain, found, port) {
            Ok(plan) => Ok((plan, hosts)),
            Err(why) => Err(Unroutable { why, bogus }),
        }
    }

    /// Leaves out addresses that no mail exchanger has; answers whether one is our own.
    fn bar(&self, candidate: &Candidate, port: u16, answer: &mut Answer<IpAddr>) -> bool {
        let mut own = false;
        answer.records.retain(|&address| {
            let bar = self.bars.find((address, port).into());
            own |= bar == Some(Bar::Own);
            if let Some(bar) = bar {
                let host = candidate.host.as_ascii();
                tracing::info!(host, %address, ?bar, "no mail goes to this address");
            }
            bar.is_none()
        });
        own
    }

    /// What DANE says of a host with these addresses.
    async fn known(&self, host: &Domain, port: u16, answer: &Answer<IpAddr>) -> Known {
        let addresses = state(answer.dnssec);
        // RFC 7672 §2.2.2: an unsigned end of a signed alias says nothing against the alias.
        let signed = addresses == DnsState::Secure
            || answer.alias.as_ref().is_some_and(|alias| alias.first == Dnssec::Secure);
        if !signed {
            return Known { addresses, dane: Dane::NotSecure, base: None };
        }
        let followed = Followed { name: answer.canonical(host).clone(), state: addresses };
        let mut dane = Dane::NoRecords;
        for base in tlsa::bases(host, &followed) {
            let Some(name) = tlsa::record_name(&base, port) else { continue };
            dane = self.tlsa(&name).await.into();
            if !matches!(dane, Dane::NoRecords | Dane::NotSecure) {
                return Known { addresses, dane, base: Some(base) };
            }
        }
        Known { addresses, dane, base: None }
    }

    async fn tlsa(&self, name: &Domain) -> TlsaAnswer {
        let _permit = self.lookups.acquire().await;
        match self.resolver.tlsa(name).await {
            Ok(answer) if answer.dnssec == Dnssec::Secure => {
                let read = |record: &TlsaRecord| {
                    Tlsa::new(record.usage, record.selector, record.matching, &record.data)
                };
                TlsaAnswer::Secure(answer.records.iter().map(read).collect())
            }
            Ok(_) => TlsaAnswer::Insecure,
            Err(ResolveError::NoData(_) | ResolveError::NxDomain(_)) => TlsaAnswer::None,
            // RFC 7672 §2.1.2: who can forge an answer can also make one fail.
            Err(error) => TlsaAnswer::Bogus(error.to_string()),
        }
    }

    /// The exchangers, how far they can be trusted, and what the domain is a signed alias for.
    async fn mx(
        &self,
        domain: &Domain,
    ) -> Result<(MxAnswer, DnsState, Option<Domain>), Unroutable> {
        let _permit = self.lookups.acquire().await;
        let answer = match self.resolver.mx(domain).await {
            Ok(answer) => {
                let dnssec = state(answer.dnssec);
                let alias = answer.alias.filter(|_| dnssec == DnsState::Secure);
                let record = |mx: merpati_plugin::MxRecord| Mx {
                    preference: mx.preference,
                    host: mx.exchange,
                };
                let records = answer.records.into_iter().map(record).collect();
                let expanded = alias.map(|alias| alias.canonical);
                return Ok((MxAnswer::Records(records), dnssec, expanded));
            }
            Err(ResolveError::NullMx) => MxAnswer::Null,
            Err(ResolveError::NoData(_)) => MxAnswer::NoRecords,
            Err(ResolveError::NxDomain(_)) => MxAnswer::NoName,
            Err(error) => {
                let bogus = matches!(error, ResolveError::Bogus(_));
                let reason = error.to_string();
                let why = NoRoute::Temporary { domain: domain.clone(), reason };
                return Err(Unroutable { why, bogus });
            }
        };
        Ok((answer, DnsState::Insecure, None))
    }

    async fn addresses(&self, host: &Domain) -> merpati_plugin::Lookup<IpAddr> {
        let _permit = self.lookups.acquire().await;
        self.resolver.addresses(host).await
    }

    /// What is configured for a destination.
    fn wanted(&self, domain: &Host) -> Option<Override> {
        let tls = &self.config.tls;
        let row = tls.destinations.find(domain).map(|(_, wanted)| wanted);
        row.or(tls.wanted.as_ref()).cloned()
    }

    /// The site that serves a parcel's domain: domains with the same exchangers share limits.
    pub(super) async fn site(&self, parcel: &Parcel) -> std::sync::Arc<str> {
        let next_hop = parcel.next_hop.as_str();
        match &self.config.target {
            Target::Mx => {}
            // Hosts that take all mail are one site, whatever the domain.
            Target::Hosts(hosts) => {
                let names: Vec<_> = hosts.iter().map(ToString::to_string).collect();
                return names.join("+").into();
            }
            Target::MxOf(domain) => return domain.as_ascii().into(),
            Target::Unix(path) => return path.to_string_lossy().into(),
        }
        let Ok(Host::Domain(domain)) = Host::parse(next_hop) else { return next_hop.into() };
        match self.mx(&domain).await {
            Ok((MxAnswer::Records(records), ..)) => super::plan::site_of(records),
            // It is its own host, or there is nobody: that concerns this domain alone.
            _ => next_hop.into(),
        }
    }
}

/// Why there is nobody to try.
#[derive(Debug)]
pub(super) struct Unroutable {
    pub(super) why: NoRoute,
    /// Whether signatures in the DNS that do not hold are to blame.
    pub(super) bogus: bool,
}

impl Unroutable {
    /// The same of a host that we have configured: whether it exists is no fault of the
    /// recipient's, and may be mended.
    fn for_now(self) -> Self {
        let Self { why, bogus } = self;
        let why = match why {
            NoRoute::NoAddress(domain) | NoRoute::NoDomain(domain) => {
                let reason = format!("{domain} has no address");
                NoRoute::Temporary { domain, reason }
            }
            other => other,
        };
        Self { why, bogus }
    }
}

impl From<NoRoute> for Unroutable {
    fn from(why: NoRoute) -> Self {
        Self { why, bogus: false }
    }
}

fn state(dnssec: Dnssec) -> DnsState {
    match dnssec {
        Dnssec::Secure => DnsState::Secure,
        Dnssec::Insecure => DnsState::Insecure,
    }
}

fn invalid() -> Domain {
    Domain::parse("invalid").expect("it is a domain")
}
