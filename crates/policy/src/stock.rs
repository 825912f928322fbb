//! What the stock policies take from outside.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use merpati_types::{Domain, Timestamp};

/// What the stock policies take from the process they run in.
#[derive(Clone)]
pub struct Environment {
    /// The name of this server.
    pub hostname: Domain,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Differs from process to process.
    pub seed: u64,
}

impl Environment {
    /// The system's clock, and a seed from the system's random numbers.
    #[must_use]
    pub fn new(hostname: Domain) -> Self {
        // Every `RandomState` of a process differs, and its first comes from the system.
        Self { hostname, now: system_time, seed: RandomState::new().hash_one(0_u8) }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
