//! Which sources leave which sites alone for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use merpati_types::Timestamp;

/// The most rests that are remembered.
const REMEMBERED: usize = 10_000;

/// Sources that rest at sites: a site that blocks one of our addresses is left alone by it, and
/// only by it. Who recognises the block says so here; transports look here before they choose.
///
/// A site goes by the name `TRANSPORT:SITE` under which its limits are known, a source by its name
/// in configuration. Rests are in memory only: after a restart a source is tried again, and its
/// block recognised again.
#[derive(Debug, Default)]
pub struct SourceRests {
    /// By site, then by source: until when.
    sites: Mutex<Sites>,
}

type Sites = HashMap<Arc<str>, HashMap<Arc<str>, Timestamp>>;

/// A source that rests at a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceRest {
    /// The site.
    pub site: Arc<str>,
    /// The source.
    pub source: Arc<str>,
    /// Until when.
    pub until: Timestamp,
}

impl SourceRests {
    /// Has a source leave a site alone until then. What rests longer already keeps its time. Of
    /// more than ten thousand rests the one that ends first is forgotten.
    pub fn rest(&self, site: &str, source: &str, until: Timestamp) {
        let mut sites = self.lock();
        if let Some(known) = sites.get_mut(site).and_then(|sources| sources.get_mut(source)) {
            *known = until.max(*known);
            return;
        }
        if sites.values().map(HashMap::len).sum::<usize>() >= REMEMBERED {
            forget_first(&mut sites);
        }
        sites.entry(site.into()).or_default().insert(source.into(), until);
    }

    /// Whether a source leaves a site alone at this time.
    #[must_use]
    pub fn is_resting(&self, site: &str, source: &str, now: Timestamp) -> bool {
        self.until(site, source, now).is_some()
    }

    /// Until when a source leaves a site alone, if it does.
    #[must_use]
    pub fn until(&self, site: &str, source: &str, now: Timestamp) -> Option<Timestamp> {
        let mut sites = self.lock();
        let sources = sites.get_mut(site)?;
        let until = sources.get(source).copied()?;
        if now < until {
            return Some(until);
        }
        sources.remove(source);
        if sources.is_empty() {
            sites.remove(site);
        }
        None
    }

    /// When the first of these sources may go to a site again; `None` if one may now, or if there
    /// are none.
    #[must_use]
    pub fn next<'a>(
        &self,
        site: &str,
        sources: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut first = None;
        for source in sources {
            let until = self.until(site, source, now)?;
            first = Some(first.map_or(until, |first: Timestamp| first.min(until)));
        }
        first
    }

    /// Ends a rest before its time; answers whether there was one.
    pub fn lift(&self, site: &str, source: &str) -> bool {
        let mut sites = self.lock();
        let Some(sources) = sites.get_mut(site) else { return false };
        let was = sources.remove(source).is_some();
        if sources.is_empty() {
            sites.remove(site);
        }
        was
    }

    /// All who rest at this time, by site and source.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<SourceRest> {
        let mut sites = self.lock();
        sites.retain(|_, sources| {
            sources.retain(|_, until| now < *until);
            !sources.is_empty()
        });
        let mut list = Vec::new();
        for (site, sources) in &*sites {
            list.extend(sources.iter().map(|(source, until)| SourceRest {
                site: Arc::clone(site),
                source: Arc::clone(source),
                until: *until,
            }));
        }
        list.sort();
        list
    }

    fn lock(&self) -> MutexGuard<'_, Sites> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_first(sites: &mut Sites) {
    let ends = |(site, sources): (&Arc<str>, &HashMap<Arc<str>, Timestamp>)| {
        let (source, until) = sources.iter().min_by_key(|(_, until)| **until)?;
        Some((*until, Arc::clone(site), Arc::clone(source)))
    };
    let Some((_, site, source)) = sites.iter().filter_map(ends).min() else { return };
    if let Some(sources) = sites.get_mut(&site) {
        sources.remove(&source);
        if sources.is_empty() {
            sites.remove(&site);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    #[test]
    fn a_source_rests_at_one_site_until_its_time_is_over() {
        let rests = SourceRests::default();
        rests.rest("mx:a.test", "one", at(10));
        let check = |site: &str, source: &str, now: i64, expected: Option<i64>| {
            assert_eq!(rests.until(site, source, at(now)), expected.map(at), "{site} {source}");
            assert_eq!(rests.is_resting(site, source, at(now)), expected.is_some());
        };
        check("mx:a.test", "one", 0, Some(10));
        check("mx:a.test", "two", 0, None);
        check("mx:b.test", "one", 0, None);
        // A shorter rest takes nothing away, a longer one counts.
        rests.rest("mx:a.test", "one", at(5));
        check("mx:a.test", "one", 9, Some(10));
        rests.rest("mx:a.test", "one", at(20));
        check("mx:a.test", "one", 19, Some(20));
        check("mx:a.test", "one", 20, None);
        assert!(rests.lock().is_empty());
        assert!(!rests.lift("mx:a.test", "one"));
        rests.rest("mx:a.test", "one", at(30));
        assert!(rests.lift("mx:a.test", "one"));
        check("mx:a.test", "one", 20, None);
    }

    #[test]
    fn the_first_of_several_is_told_when_all_rest() {
        let rests = SourceRests::default();
        let next = |sources: &[&str], now| rests.next("s", sources.iter().copied(), at(now));
        rests.rest("s", "one", at(10));
        assert_eq!(next(&["one", "two"], 0), None);
        rests.rest("s", "two", at(7));
        assert_eq!(next(&["one", "two"], 0), Some(at(7)));
        assert_eq!(next(&["one"], 0), Some(at(10)));
        assert_eq!(next(&["one", "two"], 8), None);
        assert_eq!(next(&[], 0), None);
    }

    #[test]
    fn the_list_is_in_order_and_bounded() {
        let rests = SourceRests::default();
        let end = i64::try_from(REMEMBERED).unwrap();
        for place in 0..end + 2 {
            rests.rest(&format!("site {place:05}"), "one", at(place + 10));
        }
        let list = rests.list(at(0));
        assert_eq!(list.len(), REMEMBERED);
        assert_eq!(&*list[0].site, "site 00002", "those that end first are forgotten");
        let left = rests.list(at(end + 10));
        let left: Vec<_> = left.iter().map(|rest| (&*rest.site, rest.until)).collect();
        assert_eq!(left, [("site 10001", at(end + 11))]);
    }
}
