//! Transports for hosts that only a table names, made when they are first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use merpati_plugin::Deliverer;

use super::action::Relay;
use crate::smtp::Target;
use crate::transports::Surroundings;

/// The most that are kept. Whoever writes the tables has so many hosts at most, or pays with
/// connections that are not kept.
const KEPT: usize = 1_000;

/// Makes transports out of their names, and keeps them.
pub struct Relays {
    around: Surroundings,
    made: Mutex<HashMap<String, Arc<dyn Deliverer>>>,
}

impl Relays {
    /// None yet.
    #[must_use]
    pub fn new(around: Surroundings) -> Self {
        Self { around, made: Mutex::default() }
    }

    /// The transport that `smtp:…` names.
    pub(super) fn get(&self, name: &str) -> Option<Arc<dyn Deliverer>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = made.get(name) {
            return Some(Arc::clone(transport));
        }
        let target = match name.strip_prefix("smtp:")?.parse().ok()? {
            Relay::Host(host) => Target::Hosts(vec![host]),
            Relay::Mx(domain) => Target::MxOf(domain),
        };
        let transport = match crate::config::to(name, target, &self.around) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(name, %error, "cannot make a transport");
                return None;
            }
        };
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(name.to_owned(), Arc::clone(&transport));
        Some(transport)
    }
}
