//! Where mail would be sent from, and why.

use merpati_plugin::Finding;
use merpati_types::Timestamp;

use super::{NoSource, Source, SourcePool, Sources, Via};

impl Sources {
    /// What there is to tell of mail to a site, if this pool was chosen for it; nothing where
    /// nothing is configured.
    pub(crate) fn explain(
        &self,
        chosen: Option<&str>,
        site: &str,
        now: Timestamp,
    ) -> Option<Finding> {
        let pool = match self.pool(chosen) {
            Ok(Some(pool)) => pool,
            Ok(None) => {
                let source = self.unnamed_source();
                let addresses: Vec<_> = source.addresses.iter().map(ToString::to_string).collect();
                let found = Finding::new("source", addresses.join(", ")).because("[deliver]");
                return (!addresses.is_empty()).then_some(found);
            }
            Err(error) => {
                let name = chosen.unwrap_or_default();
                return Some(Finding::new("source pool", name).because(waits(&error)));
            }
        };
        let why = if chosen.is_some() { "chosen for the message" } else { "[deliver]" };
        let all: u32 = pool.members.iter().map(|(_, weight)| weight).sum();
        let member = |(source, weight): &(_, u32)| {
            let source: &std::sync::Arc<Source> = source;
            let name = source.name.as_deref().unwrap_or_default();
            let found = self.rested(name, site, now);
            let share = f64::from(*weight) * 100.0 / f64::from(all.max(1));
            let shown = Finding::new("source", name)
                .because(format!("weight {weight}: {share:.0} % of the messages"));
            shown.with(found).with(facts(source))
        };
        let SourcePool { name, members } = pool;
        Some(Finding::new("source pool", &**name).because(why).with(members.iter().map(member)))
    }

    fn rested(&self, name: &str, site: &str, now: Timestamp) -> Option<Finding> {
        let until = self.rests_until(site, name, now)?;
        let why = match self.rests().is_resting(super::ANYWHERE, name, now) {
            true => "it cannot send to anybody",
            false => "the site blocks it",
        };
        Some(Finding::new("rests", format!("until {until}")).because(why))
    }
}

fn waits(error: &NoSource) -> String {
    format!("mail waits: {error}")
}

fn facts(source: &Source) -> Vec<Finding> {
    let address = |address: &std::net::IpAddr| Finding::new("from", address.to_string());
    let mut facts: Vec<_> = source.addresses.iter().map(address).collect();
    facts.extend(source.hello.as_ref().map(|hello| Finding::new("hello", hello.as_ascii())));
    facts.extend(match &source.via {
        Via::Direct => None,
        Via::Socks5(proxy) => Some(Finding::new("via", format!("SOCKS5 {}", proxy.address))),
        Via::Haproxy(proxy) => Some(Finding::new("via", format!("HAProxy {proxy}"))),
    });
    facts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn shown(finding: &Finding, depth: usize, out: &mut String) {
        let Finding { key, value, why, below } = finding;
        out.push_str(&format!("{:depth$}{key} {value} ({why})\n", ""));
        below.iter().for_each(|finding| shown(finding, depth + 1, out));
    }

    #[test]
    fn the_whole_pool_is_shown() {
        let source = |name: &str, via| {
            let (name, hello) = (Some(name.into()), "out.test".parse().ok());
            Arc::new(Source { name, addresses: vec!["192.0.2.1".parse().unwrap()], hello, via })
        };
        let haproxy = Via::Haproxy("10.0.0.1:25".parse().unwrap());
        let members = vec![
            (source("a", Via::Direct), 1),
            (source("b", haproxy), 2),
            (source("c", Via::Direct), 0),
        ];
        let sources = Sources::default().with_pool(SourcePool { name: "p".into(), members });
        let now = Timestamp::from_millis(0);
        assert_eq!(sources.explain(None, "mx:x", now), None);
        sources.rests().rest("mx:x", "a", Timestamp::from_millis(60_000));
        sources.rests().rest(super::super::ANYWHERE, "b", Timestamp::from_millis(1_000));
        let mut said = String::new();
        shown(&sources.explain(Some("p"), "mx:x", now).unwrap(), 0, &mut said);
        shown(&sources.explain(Some("q"), "mx:x", now).unwrap(), 0, &mut said);
        let expected = "\
source pool p (chosen for the message)
 source a (weight 1: 33 % of the messages)
  rests until 1970-01-01T00:01:00.000Z (the site blocks it)
  from 192.0.2.1 ()
  hello out.test ()
 source b (weight 2: 67 % of the messages)
  rests until 1970-01-01T00:00:01.000Z (it cannot send to anybody)
  from 192.0.2.1 ()
  hello out.test ()
  via HAProxy 10.0.0.1:25 ()
 source c (weight 0: 0 % of the messages)
  from 192.0.2.1 ()
  hello out.test ()
source pool q (mail waits: there is no source pool `q`)
";
        assert_eq!(said, expected);
        let unnamed = Sources::unnamed(vec!["192.0.2.9".parse().unwrap()]);
        let found = unnamed.explain(None, "mx:x", now).unwrap();
        assert_eq!((found.key, &*found.value, &*found.why), ("source", "192.0.2.9", "[deliver]"));
    }
}
