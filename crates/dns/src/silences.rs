//! Denials that are remembered: hickory keeps none while it validates.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{LowerName, Name, RecordType};
use merpati_plugin::ResolveError;

type Question = (LowerName, RecordType);

/// What is known not to exist, and until when.
pub(crate) struct Silences {
    known: Mutex<HashMap<Question, (Instant, ResolveError)>>,
    most: usize,
    longest: Duration,
}

impl Silences {
    /// At most `most` of them, each for `longest` at most.
    pub(crate) fn new(most: usize, longest: Duration) -> Self {
        Self { known: Mutex::default(), most, longest }
    }

    pub(crate) fn find(&self, name: &Name, kind: RecordType, now: Instant) -> Option<ResolveError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, error) = known.get(&(name.into(), kind))?;
        (now < *until).then(|| error.clone())
    }

    pub(crate) fn keep(
        &self,
        name: &Name,
        kind: RecordType,
        error: &ResolveError,
        ttl: Duration,
        now: Instant,
    ) {
        let ttl = ttl.min(self.longest);
        if ttl.is_zero() || self.most == 0 {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.most {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= self.most {
            known.clear();
        }
        known.insert((name.into(), kind), (now + ttl, error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use merpati_plugin::Dnssec;

    use super::*;

    #[test]
    fn silences_end_and_are_bounded() {
        let silences = Silences::new(2, Duration::from_secs(300));
        let now = Instant::now();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let error = ResolveError::NoData(Dnssec::Secure);
        let known = |text: &str, after: u64| {
            silences.find(&name(text), RecordType::MX, now + Duration::from_secs(after)).is_some()
        };
        silences.keep(&name("a."), RecordType::MX, &error, Duration::from_secs(10), now);
        silences.keep(&name("b."), RecordType::MX, &error, Duration::from_secs(1_000), now);
        assert!(known("A.", 9) && !known("a.", 10));
        assert!(known("b.", 299) && !known("b.", 300));
        assert_eq!(silences.find(&name("a."), RecordType::A, now), None);
        let later = now + Duration::from_secs(20);
        silences.keep(&name("c."), RecordType::MX, &error, Duration::from_secs(60), later);
        assert!(known("b.", 21) && known("c.", 21) && !known("a.", 0));
        silences.keep(&name("d."), RecordType::MX, &error, Duration::from_secs(60), later);
        assert!(!known("b.", 21) && known("d.", 21));
    }
}
