//! Where mail would go, and on what terms; and, if asked, what is found there.

use std::sync::Arc;
use std::time::Duration;

use merpati_plugin::{ExplainHow, Finding};
use merpati_route::mta_sts::{Memory, Sts};
use merpati_route::security::{Asked, Override, Route};
use merpati_route::tlsa::Dane;
use merpati_route::{DnsState, Hop, Plan};
use merpati_session::client::Protocol;
use merpati_types::Timestamp;

use super::connection::{Connection, DialError};
use super::pool::{Key, Policy};
use super::source::{SentFrom, Source};
use super::stream::Endpoint;
use super::survey::{Known, Survey};
use super::{Inner, Target, time_of_day, tls};

/// How long a host may take to show what it offers.
const LOOK: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn explain(
        &self,
        parcel: &merpati_plugin::spool::Parcel,
        how: ExplainHow,
    ) -> Vec<Finding> {
        if let Target::Unix(path) = &self.config.target {
            return vec![Finding::new("socket", path.display().to_string())];
        }
        let seed = parcel.id.message.as_u64();
        let survey = match self.survey(&parcel.next_hop, seed).await {
            Ok(survey) => survey,
            Err(unroutable) => {
                let rejection = unroutable.why.to_rejection();
                let found = Finding::new("no route", unroutable.why.to_string());
                return vec![found.with([Finding::new("outcome", rejection.to_string())])];
            }
        };
        let asked = match parcel.info.message.envelope.requiretls {
            true => Asked::RequireTls,
            false => Asked::Nothing,
        };
        let now = time_of_day();
        let plan = survey.secured(asked, now);
        let mut found = vec![self.destination(&survey, now)];
        found.extend(self.sources(parcel).await);
        let addresses = || plan.hops.iter().flat_map(|hop| &hop.addresses).copied().collect();
        let source = self.source(parcel, addresses).await;
        for hop in &plan.hops {
            let mut host = self.host(hop, survey.known(hop));
            if how == ExplainHow::Dial {
                host = host.with([match &source {
                    Ok(source) => self.look(hop, source).await,
                    Err(error) => Finding::new("dial", "not tried").because(error.to_string()),
                }]);
            }
            found.push(host);
        }
        found.extend(left_out(&plan));
        found
    }

    fn destination(&self, survey: &Survey, now: Timestamp) -> Finding {
        let exchangers = match survey.route {
            Route::Direct if matches!(self.config.target, Target::Mx) => {
                Finding::new("mx", "none").because("the domain is its own host")
            }
            Route::Direct => Finding::new("mx", "not asked").because("the host is configured"),
            Route::Mx(state) => Finding::new("mx", signed(state)),
        };
        let mut below = vec![exchangers, mta_sts(&survey.sts, survey.sts(now))];
        if let Some(wanted) = &survey.wanted {
            below.push(Finding::new("tls configured", name_of(wanted)));
        }
        Finding::new("destination", survey.domain.to_string()).with(below)
    }

    fn host(&self, hop: &Hop, known: Option<&Known>) -> Finding {
        let address = |address: &std::net::IpAddr| {
            let found = Finding::new("address", format!("[{address}]:{}", hop.port));
            match self.memory.is_bad(*address) {
                true => found.because("did not answer lately: goes behind the others"),
                false => found,
            }
        };
        let mut below: Vec<_> = hop.addresses.iter().map(address).collect();
        if let Some(known) = known {
            below.push(Finding::new("addresses", signed(known.addresses)));
            below.push(dane(&known.dane));
        }
        if let Some(security) = &hop.security {
            let needs = Finding::new("tls", security.need.as_str());
            let needs = needs.because(format!("{}: {}", security.source.as_str(), security.why));
            below.push(needs.with([Finding::new("decision", security.to_string())]));
        }
        Finding::new("host", hop.name()).because(hop.why.clone()).with(below)
    }

    /// Where mail is sent from, where that is configured.
    async fn sources(&self, parcel: &merpati_plugin::spool::Parcel) -> Option<Finding> {
        let chosen = parcel.info.message.attributes.source_pool.as_deref();
        if self.config.protocol == Protocol::Lmtp {
            return None;
        }
        let site = self.resting_site(parcel).await;
        self.config.sources.explain(chosen, &site, time_of_day())
    }

    /// Connects to a host, as a message would, and leaves again.
    async fn look(&self, hop: &Hop, source: &Arc<Source>) -> Finding {
        let Some(security) = hop.security.clone() else {
            return Finding::new("dial", "not tried");
        };
        if security.skips().is_some() {
            return Finding::new("dial", "not tried").because("the host gets nothing");
        }
        let Some(address) = hop.addresses.iter().find(|address| source.reaches(**address)) else {
            let why = "the source has no address of a family that the host has";
            return Finding::new("dial", "not tried").because(why);
        };
        let key = Key {
            endpoint: Endpoint::Tcp((*address, hop.port).into()),
            host: hop.name(),
            policy: Policy(Arc::new(security)),
            user: None,
            source: SentFrom(Arc::clone(source)),
        };
        let found = Finding::new("dial", key.endpoint.to_string());
        match tokio::time::timeout(LOOK, self.connect(&key)).await {
            Ok(Ok(connection)) => {
                let below = seen(&connection, &key);
                tokio::spawn(connection.quit());
                found.because("it would get the message").with(below)
            }
            Ok(Err(error)) => found.because(error.to_string()),
            Err(_) => found.because("it takes too long to say what it offers"),
        }
    }

    async fn connect(&self, key: &Key) -> Result<Connection, DialError> {
        let stream = self.connect_from(key).await?;
        Connection::open(self.way(key, Some(&key.policy.0)), stream).await
    }
}

fn seen(connection: &Connection, key: &Key) -> Vec<Finding> {
    let mut below = Vec::new();
    match connection.tls().map(|tls| tls::facts(tls, &key.policy.0.need)) {
        None => below.push(Finding::new("channel", "in the clear")),
        Some(facts) => {
            let channel = Finding::new("channel", format!("{} {}", facts.version, facts.cipher));
            below.push(match facts.authenticated {
                true => channel.because("the host has proved to be who it should be"),
                false => channel.because("with whomever"),
            });
        }
    }
    let faults = connection.faults.iter();
    below.extend(
        faults.map(|fault| {
            Finding::new("fault", fault.result.as_str()).because(fault.policy.as_str())
        }),
    );
    below.extend(connection.offered().lines().into_iter().map(|line| Finding::new("offers", line)));
    below
}

fn signed(state: DnsState) -> &'static str {
    match state {
        DnsState::Secure => "signed",
        DnsState::Insecure => "not signed",
        DnsState::Bogus => "bogus",
    }
}

fn dane(dane: &Dane) -> Finding {
    match dane {
        Dane::NotSecure => Finding::new("dane", "none").because("addresses are not signed"),
        Dane::NoRecords => Finding::new("dane", "none").because("there are no TLSA records"),
        Dane::Unusable(why) => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            Finding::new("dane", "unusable").because(why.join("; "))
        }
        Dane::Usable(records) => Finding::new("dane", "usable")
            .with(records.iter().map(|record| Finding::new("tlsa", record.to_string()))),
        Dane::Bogus(why) => Finding::new("dane", "bogus").because(why.clone()),
    }
}

fn mta_sts(memory: &Memory, sts: Sts<'_>) -> Finding {
    let found = match sts {
        Sts::NoPolicy => Finding::new("mta-sts", "none"),
        Sts::Policy(policy) => {
            let hosts = policy.mx.iter().map(|mx| Finding::new("allows", mx.to_string()));
            Finding::new("mta-sts", policy.mode.as_str()).with(hosts)
        }
        Sts::Expired => Finding::new("mta-sts", "expired"),
        Sts::Unfetchable(why) => Finding::new("mta-sts", "unfetchable").because(why.to_string()),
    };
    let Some(cached) = memory.cached() else { return found };
    let until = Finding::new("until", cached.expires().to_string());
    found.with([Finding::new("id", cached.id.as_str()), until])
}

fn name_of(wanted: &Override) -> &'static str {
    match wanted {
        Override::None => "none",
        Override::May => "may",
        Override::Encrypt => "encrypt",
        Override::Dane => "dane",
        Override::Verify => "verify",
        Override::Pinned(_) => "pinned",
    }
}

fn left_out(plan: &Plan) -> impl Iterator<Item = Finding> {
    plan.left_out.iter().map(|host| {
        let why = host.unknown.clone().unwrap_or_else(|| "it has no address".to_owned());
        Finding::new("left out", host.host.as_ascii()).because(why)
    })
}
