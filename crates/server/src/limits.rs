//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bounds on open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all, over every listener. Default 10,000.
    pub total: usize,
    /// From one IPv4 address or one IPv6 /64 network: a host can use all of its /64. Default 50.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 10_000, per_address: 50 }
    }
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// The total is reached.
    Total,
    /// This address has its share.
    Address,
}

/// Counts open connections.
#[derive(Debug)]
pub struct Gate {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Gate {
    /// A gate with nobody inside.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    /// Admits a connection from `address`; it counts until the ticket is dropped.
    ///
    /// # Errors
    /// [`Crowded`], when a limit is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Crowded> {
        let key = network(address);
        let mut open = self.open();
        if open.total >= self.limits.total {
            return Err(Crowded::Total);
        }
        let count = open.by_address.entry(key).or_default();
        if *count >= self.limits.per_address {
            return Err(Crowded::Address);
        }
        *count += 1;
        open.total += 1;
        Ok(Ticket { gate: Arc::clone(self), key })
    }

    /// How many connections are open.
    #[must_use]
    pub fn total(&self) -> usize {
        self.open().total
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // The counts are whole after every statement, so a panic elsewhere leaves them right.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be connected.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    key: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.key);
            }
        }
    }
}

/// What counts as one peer.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_all_and_by_network_and_forgets() {
        let gate = Gate::new(ConnectionLimits { total: 3, per_address: 2 });
        let admit = |address: &str| gate.admit(address.parse().unwrap());
        let first = admit("2001:db8::1").unwrap();
        let _second = admit("2001:db8::2").unwrap();
        assert_eq!(admit("2001:db8::3").unwrap_err(), Crowded::Address);
        let _third = admit("192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.2").unwrap_err(), Crowded::Total);
        drop(first);
        let _again = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(gate.total(), 3);
    }
}
