//! The plan for a destination: hosts with their addresses, in order, and why.

use std::fmt;
use std::net::IpAddr;

use merpati_types::Domain;

use crate::mx::{Candidate, NoRoute};

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
}

/// Where to go, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub hops: Vec<Hop>,
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
        let mut hops = Vec::new();
        let mut temporary = None;
        for (Candidate { host, preference }, answer, why) in hosts {
            match answer {
                AddressAnswer::Found(addresses) => {
                    let addresses = addresses_in_order(addresses);
                    if !addresses.is_empty() {
                        hops.push(Hop { host: Some(host), preference, addresses, port, why });
                    }
                }
                AddressAnswer::None => {}
                AddressAnswer::Temporary(reason) => temporary = Some(reason),
            }
        }
        match (hops.is_empty(), temporary) {
            (false, _) => Ok(Self { hops }),
            (true, Some(reason)) => Err(NoRoute::Temporary { domain: domain.clone(), reason }),
            (true, None) => Err(NoRoute::NoAddress(domain.clone())),
        }
    }

    /// To an address literal.
    #[must_use]
    pub fn literal(address: IpAddr, port: u16) -> Self {
        let why = "address literal".to_owned();
        Self {
            hops: vec![Hop { host: None, preference: None, addresses: vec![address], port, why }],
        }
    }

    /// Rounds of addresses: those of a round are as good as each other and may be raced, a later
    /// round is for when the earlier ones have failed.
    ///
    /// Within a round hosts take turns, so that a host with many dead addresses does not stand
    /// before the others.
    #[must_use]
    pub fn rounds(&self) -> Vec<Vec<Address<'_>>> {
        let equal = |one: &Hop, other: &Hop| one.preference == other.preference;
        self.hops.chunk_by(equal).map(in_turns).collect()
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

fn in_turns(hops: &[Hop]) -> Vec<Address<'_>> {
    let most = hops.iter().map(|hop| hop.addresses.len()).max().unwrap_or(0);
    let turn = |turn: usize| {
        let at = move |hop| Some(Address { hop, address: *hop.addresses.get(turn)? });
        hops.iter().filter_map(at)
    };
    (0..most).flat_map(turn).collect()
}

/// One line a host.
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
        }
        Ok(())
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
    use super::*;

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
            Plan::of(&domain, hosts, 25).map(|plan| plan.to_string())
        };
        let found = AddressAnswer::Found(addresses("192.0.2.1"));
        let temporary = AddressAnswer::Temporary("time-out".to_owned());
        let text = plan(vec![AddressAnswer::None, temporary.clone(), found]).unwrap();
        assert_eq!(text, "h2.test [192.0.2.1]:25 (MX 10)");
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
            };
            let plan = Plan { hops: hosts.iter().map(hop).collect() };
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
}
