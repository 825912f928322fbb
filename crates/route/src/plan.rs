//! The plan for a destination: hosts with their addresses, in order, and why.

use std::fmt;
use std::net::IpAddr;

use merpati_types::Domain;

use crate::mx::{Candidate, NoRoute};
use crate::security::{Failure, Security};

/// The most addresses of one host that are tried.
pub const ADDRESS_LIMIT: usize = 8;

/// What the DNS said when asked for a host's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressAnswer {
    /// These.
    Found(Vec<IpAddr>),
    /// There are none.
    None,
    /// It could not be found out now.
    Temporary(String),
}

/// One host of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its name; `None` for an address literal.
    pub host: Option<Domain>,
    /// Its MX preference; `None` where there is no MX. Hosts of one preference are as good as
    /// each other.
    pub preference: Option<u16>,
    /// Its addresses, in the order to try them; at least one.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// Why it is here, for `explain` and logs.
    pub why: String,
    /// Which TLS it needs, and why; `None` until that is decided (see [`Plan::secure`]).
    pub security: Option<Security>,
}

impl Hop {
    /// Its name, or its first address where it has none.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.host {
            Some(host) => host.as_ascii().to_owned(),
            None => self.addresses.first().map_or_else(String::new, IpAddr::to_string),
        }
    }

    fn skips(&self) -> Option<&Failure> {
        self.security.as_ref()?.skips()
    }
}

/// A host that is none of the hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub host: Domain,
    /// What the resolver said, if its addresses are not known now; it has none otherwise.
    pub unknown: Option<String>,
}

/// Where to go, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub hops: Vec<Hop>,
    /// Hosts without addresses.
    pub left_out: Vec<LeftOut>,
}

impl Plan {
    /// Puts hosts and their addresses together. A host without addresses is left out; if none
    /// is left, a host whose addresses are not known now makes the failure temporary.
    ///
    /// # Errors
    /// [`NoRoute::NoAddress`] or [`NoRoute::Temporary`].
    pub fn of(
        domain: &Domain,
        hosts: impl IntoIterator<Item = (Candidate, AddressAnswer, String)>,
        port: u16,
    ) -> Result<Self, NoRoute> {
        let (mut hops, mut left_out) = (Vec::new(), Vec::new());
        for (Candidate { host, preference }, answer, why) in hosts {
            let unknown = match answer {
                AddressAnswer::Found(addresses) if !addresses.is_empty() => {
                    let (host, addresses) = (Some(host), addresses_in_order(addresses));
                    hops.push(Hop { host, preference, addresses, port, why, security: None });
                    continue;
                }
                AddressAnswer::Found(_) | AddressAnswer::None => None,
                AddressAnswer::Temporary(reason) => Some(reason),
            };
            left_out.push(LeftOut { host, unknown });
        }
        if !hops.is_empty() {
            return Ok(Self { hops, left_out });
        }
        Err(match left_out.into_iter().rev().find_map(|host| host.unknown) {
            Some(reason) => NoRoute::Temporary { domain: domain.clone(), reason },
            None => NoRoute::NoAddress(domain.clone()),
        })
    }

    /// To an address literal.
    #[must_use]
    pub fn literal(address: IpAddr, port: u16) -> Self {
        let why = "address literal".to_owned();
        let (addresses, security) = (vec![address], None);
        let hop = Hop { host: None, preference: None, addresses, port, why, security };
        Self { hops: vec![hop], left_out: Vec::new() }
    }

    /// Says for each hop which TLS it needs. One that is to be skipped stays, so that the plan
    /// shows why.
    #[must_use]
    pub fn secure(mut self, mut decide: impl FnMut(&Hop) -> Security) -> Self {
        for hop in &mut self.hops {
            hop.security = Some(decide(hop));
        }
        self
    }

    /// Whether every host was considered. Otherwise one that was left out may still take the
    /// message, and that the others lack the right TLS is not final.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left_out.iter().all(|host| host.unknown.is_none())
    }

    /// Rounds of addresses: those of a round are as good as each other and may be raced, a later
    /// round is for when the earlier ones have failed.
    ///
    /// Within a round hosts take turns, so that a host with many dead addresses does not stand
    /// before the others. Hosts that are to be skipped are in none: where all are,
    /// [`Self::skipped`] says why.
    #[must_use]
    pub fn rounds(&self) -> Vec<Vec<Address<'_>>> {
        let hops: Vec<&Hop> = self.hops.iter().filter(|hop| hop.skips().is_none()).collect();
        hops.chunk_by(|one, other| one.preference == other.preference).map(in_turns).collect()
    }

    /// Why hosts are to be skipped for want of the right TLS.
    pub fn skipped(&self) -> impl Iterator<Item = &Failure> {
        self.hops.iter().filter_map(Hop::skips)
    }
}

/// One address of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Whose it is.
    pub hop: &'a Hop,
    /// The address.
    pub address: IpAddr,
}

fn in_turns<'a>(hops: &[&'a Hop]) -> Vec<Address<'a>> {
    let most = hops.iter().map(|hop| hop.addresses.len()).max().unwrap_or(0);
    let turn = |turn: usize| {
        let at = move |hop: &&'a Hop| Some(Address { hop, address: *hop.addresses.get(turn)? });
        hops.iter().filter_map(at)
    };
    (0..most).flat_map(turn).collect()
}

/// One line a host, those that were left out last.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, hop) in self.hops.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match &hop.host {
                Some(host) => write!(f, "{host}")?,
                None => f.write_str("-")?,
            }
            for address in &hop.addresses {
                write!(f, " [{address}]:{}", hop.port)?;
            }
            write!(f, " ({})", hop.why)?;
            if let Some(security) = &hop.security {
                write!(f, ", TLS: {security}")?;
            }
        }
        self.left_out.iter().try_for_each(|LeftOut { host, unknown }| match unknown {
            Some(reason) => write!(f, "\n{host} left out: {reason}"),
            None => write!(f, "\n{host} left out: no address"),
        })
    }
}

/// IPv6 and IPv4 in turn, IPv6 first (RFC 8305 §4), at most [`ADDRESS_LIMIT`].
#[must_use]
pub fn addresses_in_order(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(v6.next());
        ordered.extend(v4.next());
        if ordered.len() == before || ordered.len() >= ADDRESS_LIMIT {
            break;
        }
    }
    ordered.truncate(ADDRESS_LIMIT);
    ordered
}

#[cfg(test)]
mod tests {
    use merpati_types::Host;

    use super::*;
    use crate::dnssec::DnsState;
    use crate::mta_sts::{Policy, Sts};
    use crate::security::{Asked, Destination, MailHost, Route};
    use crate::tlsa::Dane;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let check = |given: &str, expected: &str| {
            assert_eq!(addresses_in_order(addresses(given)), addresses(expected), "{given}");
        };
        check("", "");
        check("192.0.2.1 192.0.2.2 ::1", "::1 192.0.2.1 192.0.2.2");
        check("::1 ::2 ::3 192.0.2.1", "::1 192.0.2.1 ::2 ::3");
        let many = (0..20).map(|n| format!("192.0.2.{n} ")).collect::<String>();
        assert_eq!(addresses_in_order(addresses(&many)).len(), ADDRESS_LIMIT);
    }

    #[test]
    fn hosts_without_addresses_are_left_out() {
        let domain = Domain::parse("d.test").unwrap();
        let plan = |answers: Vec<AddressAnswer>| {
            let hosts = answers.into_iter().enumerate().map(|(number, answer)| {
                let host = Domain::parse(&format!("h{number}.test")).unwrap();
                (Candidate { host, preference: Some(10) }, answer, "MX 10".to_owned())
            });
            Plan::of(&domain, hosts, 25)
        };
        let found = AddressAnswer::Found(addresses("192.0.2.1"));
        let temporary = AddressAnswer::Temporary("time-out".to_owned());
        let whole = plan(vec![AddressAnswer::None, found.clone()]).unwrap();
        let text = "h1.test [192.0.2.1]:25 (MX 10)\nh0.test left out: no address";
        assert_eq!((whole.to_string().as_str(), whole.is_whole()), (text, true));
        let part = plan(vec![temporary.clone(), found]).unwrap();
        let text = "h1.test [192.0.2.1]:25 (MX 10)\nh0.test left out: time-out";
        assert_eq!((part.to_string().as_str(), part.is_whole()), (text, false));
        let empty = plan(vec![AddressAnswer::Found(Vec::new())]).unwrap_err();
        assert_eq!(empty, NoRoute::NoAddress(domain.clone()));
        let none = plan(vec![AddressAnswer::None]).unwrap_err();
        assert_eq!(none, NoRoute::NoAddress(domain.clone()));
        let later = plan(vec![AddressAnswer::None, temporary]).unwrap_err();
        assert!(matches!(later, NoRoute::Temporary { .. }));
    }

    #[test]
    fn hosts_of_a_round_take_turns() {
        let check = |hosts: &[(u16, &str)], expected: &str| {
            let hop = |&(preference, text): &(u16, &str)| Hop {
                host: None,
                preference: Some(preference),
                addresses: addresses(text),
                port: 25,
                why: String::new(),
                security: None,
            };
            let plan = Plan { hops: hosts.iter().map(hop).collect(), left_out: Vec::new() };
            let round = |round: Vec<Address<'_>>| {
                let addresses = round.iter().map(|at| at.address.to_string());
                addresses.collect::<Vec<_>>().join(" ")
            };
            let rounds: Vec<_> = plan.rounds().into_iter().map(round).collect();
            assert_eq!(rounds.join(" | "), expected);
        };
        check(&[(10, "192.0.2.1")], "192.0.2.1");
        check(&[(10, "::1 ::2 ::3"), (10, "192.0.2.1 ::4")], "::1 192.0.2.1 ::2 ::4 ::3");
        check(&[(10, "::1"), (20, "::2 ::3"), (20, "::4")], "::1 | ::2 ::4 ::3");
    }

    #[test]
    fn a_plan_says_which_tls_its_hosts_need() {
        let domain = Host::parse("d.test").unwrap();
        let policy = b"version: STSv1\nmode: enforce\nmx: mx1.d.test\nmax_age: 86400\n";
        let policy = Policy::parse(policy).unwrap();
        let answer = AddressAnswer::Found(addresses("192.0.2.1"));
        let hosts = ["mx1.d.test", "mx2.d.test"].map(|host| {
            let host = Domain::parse(host).unwrap();
            (Candidate { host, preference: Some(10) }, answer.clone(), "MX 10".to_owned())
        });
        let plan = Plan::of(domain.domain().unwrap(), hosts, 25).unwrap();
        let plan = plan.secure(|hop| {
            let destination = Destination {
                domain: &domain,
                expanded: None,
                route: Route::Mx(DnsState::Insecure),
                sts: Sts::Policy(&policy),
                wanted: None,
                asked: Asked::Nothing,
            };
            let host = Host::Domain(hop.host.clone().unwrap());
            let (addresses, dane) = (DnsState::Insecure, Dane::NotSecure);
            let host = MailHost { host: &host, addresses, dane: &dane, base: None };
            Security::decide(&destination, &host)
        });
        let text = "mx1.d.test [192.0.2.1]:25 (MX 10), TLS: verify mx1.d.test \
                    (MTA-STS: its policy is enforced, and allows the host)\n\
                    mx2.d.test [192.0.2.1]:25 (MX 10), TLS: skip for now \
                    (MTA-STS: the MTA-STS policy of d.test does not allow mx2.d.test)";
        assert_eq!(plan.to_string(), text);
        let hosts = |round: &Vec<Address<'_>>| round.iter().map(|at| at.hop.host.clone()).collect();
        let rounds: Vec<Vec<_>> = plan.rounds().iter().map(hosts).collect();
        assert_eq!(rounds, [[Some(Domain::parse("mx1.d.test").unwrap())]]);
        let skipped: Vec<_> = plan.skipped().map(|failure| failure.text.as_str()).collect();
        assert_eq!(skipped, ["the MTA-STS policy of d.test does not allow mx2.d.test"]);
    }
}
