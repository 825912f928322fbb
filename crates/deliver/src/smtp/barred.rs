//! Addresses that mail never goes to, whatever records say: our own, and those of no other host.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

/// How long it is remembered which addresses are this machine's.
const MEMORY: Duration = Duration::from_secs(60);
/// The most that are remembered.
const REMEMBERED: usize = 10_000;

/// Addresses that mail exchangers do not have. Anybody may publish records that name them, and our
/// mail would come back to us, or go to a service of this machine that trusts us.
#[derive(Clone, Debug, Default)]
pub struct Barred {
    /// Networks that no mail goes to.
    pub networks: Vec<IpNet>,
    /// Where we listen ourselves; an unspecified address stands for all of this machine.
    pub listening: Vec<SocketAddr>,
}

/// Why mail does not go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// We would talk to ourselves.
    Own,
    /// It is in a network that no mail goes to.
    Network,
}

/// Tells which addresses are barred.
#[derive(Default)]
pub(super) struct Bars {
    barred: Barred,
    local: Mutex<HashMap<IpAddr, (bool, Instant)>>,
}

impl Bars {
    pub(super) fn new(barred: Barred) -> Self {
        Self { barred, local: Mutex::default() }
    }

    /// Why mail does not go there, if it does not.
    pub(super) fn find(&self, at: SocketAddr) -> Option<Bar> {
        let address = at.ip().to_canonical();
        let here = |listening: &SocketAddr| {
            let any = listening.ip().is_unspecified();
            listening.port() == at.port()
                && (listening.ip() == address || any && self.is_local(address))
        };
        if self.barred.listening.iter().any(here) {
            return Some(Bar::Own);
        }
        let within = |network: &IpNet| network.contains(&address);
        self.barred.networks.iter().any(within).then_some(Bar::Network)
    }

    /// Whether an address is this machine's: only those can be bound.
    fn is_local(&self, address: IpAddr) -> bool {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        let mut known = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((local, since)) = known.get(&address)
            && since.elapsed() < MEMORY
        {
            return *local;
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let local = UdpSocket::bind((address, 0)).is_ok();
        known.insert(address, (local, Instant::now()));
        local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_and_those_of_no_other_host_are_barred() {
        let barred = Barred {
            networks: ["192.0.2.0/24", "::1/128"].map(|net| net.parse().unwrap()).to_vec(),
            listening: ["127.0.0.9:25", "0.0.0.0:2525"].map(|at| at.parse().unwrap()).to_vec(),
        };
        let bars = Bars::new(barred);
        let check = |at: &str, expected| assert_eq!(bars.find(at.parse().unwrap()), expected);
        check("127.0.0.9:25", Some(Bar::Own));
        check("[::ffff:127.0.0.9]:25", Some(Bar::Own));
        check("127.0.0.8:25", None);
        check("127.0.0.9:26", None);
        // What every address of this machine listens on.
        check("127.0.0.8:2525", Some(Bar::Own));
        check("198.51.100.1:2525", None);
        check("192.0.2.7:25", Some(Bar::Network));
        check("[::1]:25", Some(Bar::Network));
        check("[::2]:25", None);
    }
}
