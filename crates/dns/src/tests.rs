//! The resolver, against a server of fixtures.

mod dnssec;

use std::time::Duration;

use merpati_plugin::{Lookup, Resolver as _};
use merpati_testkit::dns::{DnsServer, Zone};
use merpati_types::Domain;

use crate::{DnsConfig, HickoryResolver, Validation};

const ZONE: &str = r#"
receiver.test     MX    20 mx2.receiver.test
receiver.test     MX    10 MX1.receiver.test
receiver.test     TXT   "v=spf1 a " "-all"
receiver.test     TXT   "other"
alias.test        CNAME chain.test
chain.test        CNAME receiver.test
dangling.test     CNAME nowhere.test
null.test         MX    0 .
mixed.test        MX    0 .
mixed.test        MX    5 mx1.receiver.test
numeric.test      MX    5 192.0.2.1
partly.test       MX    5 192.0.2.1
partly.test       MX    9 mx1.receiver.test
empty.test        NODATA
broken.test       SERVFAIL
mute.test         SILENCE
mx1.receiver.test A     192.0.2.1
mx1.receiver.test A     192.0.2.2
mx1.receiver.test AAAA  2001:db8::1
four.test         A     192.0.2.4
six.test          AAAA  2001:db8::6
half.test         A     192.0.2.5
half.test         SERVFAIL AAAA
otherhalf.test    AAAA  2001:db8::7
otherhalf.test    SERVFAIL A
slow.test         A     192.0.2.8
slow.test         SILENCE AAAA
neither.test      SERVFAIL AAAA
host.test         CNAME mx1.receiver.test
xn--bcher-kva.test MX   1 mx1.receiver.test
1.2.0.192.in-addr.arpa PTR mx1.receiver.test
2.2.0.192.in-addr.arpa PTR .
"#;

struct Fixture {
    server: DnsServer,
    resolver: HickoryResolver,
}

impl Fixture {
    async fn new() -> Self {
        let config = DnsConfig { attempts: 1, dnssec: Validation::Off, ..DnsConfig::default() };
        Self::with(ZONE, config).await
    }

    async fn with(zone: &str, mut config: DnsConfig) -> Self {
        let server = DnsServer::start(zone.parse().unwrap()).await.unwrap();
        config.servers = vec![server.address()];
        Self { server, resolver: HickoryResolver::new(&config).unwrap() }
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// The records, sorted, or why there are none.
fn show<T>(lookup: Lookup<T>, show: impl Fn(T) -> String) -> String {
    match lookup {
        Ok(answer) => {
            let mut records: Vec<_> = answer.records.into_iter().map(show).collect();
            records.sort();
            records.join(", ")
        }
        Err(merpati_plugin::ResolveError::Temporary(_)) => "temporary".to_owned(),
        Err(merpati_plugin::ResolveError::NxDomain(_)) => "NxDomain".to_owned(),
        Err(merpati_plugin::ResolveError::NoData(_)) => "NoData".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn exchangers() {
    let fixture = Fixture::new().await;
    let both = "10 mx1.receiver.test, 20 mx2.receiver.test";
    for (name, expected) in [
        ("receiver.test", both),
        ("RECEIVER.test", both),
        ("alias.test", both),
        ("bücher.test", "1 mx1.receiver.test"),
        ("dangling.test", "NxDomain"),
        ("null.test", "NullMx"),
        ("mixed.test", "5 mx1.receiver.test"),
        ("numeric.test", "temporary"),
        ("partly.test", "9 mx1.receiver.test"),
        ("empty.test", "NoData"),
        ("four.test", "NoData"),
        ("nowhere.test", "NxDomain"),
        ("broken.test", "temporary"),
    ] {
        let answer = fixture.resolver.mx(&domain(name)).await;
        let answer = show(answer, |mx| format!("{} {}", mx.preference, mx.exchange.as_ascii()));
        assert_eq!(answer, expected, "{name}");
    }
}

#[tokio::test]
async fn addresses() {
    let fixture = Fixture::new().await;
    for (name, expected) in [
        ("mx1.receiver.test", "192.0.2.1, 192.0.2.2, 2001:db8::1"),
        ("host.test", "192.0.2.1, 192.0.2.2, 2001:db8::1"),
        ("four.test", "192.0.2.4"),
        ("six.test", "2001:db8::6"),
        ("half.test", "192.0.2.5"),
        ("otherhalf.test", "2001:db8::7"),
        ("neither.test", "temporary"),
        ("receiver.test", "NoData"),
        ("nowhere.test", "NxDomain"),
        ("broken.test", "temporary"),
    ] {
        let answer = fixture.resolver.addresses(&domain(name)).await;
        assert_eq!(show(answer, |address| address.to_string()), expected, "{name}");
    }
}

#[tokio::test]
async fn one_family_is_not_held_up_by_the_other() {
    let patient = Duration::from_secs(3_600);
    let config = DnsConfig { timeout: patient, limit: patient, ..DnsConfig::default() };
    let mut fixture = Fixture::with(ZONE, config).await;
    fixture.resolver.family_wait = Duration::from_millis(1);
    let answer = fixture.resolver.addresses(&domain("slow.test")).await;
    assert_eq!(show(answer, |address| address.to_string()), "192.0.2.8");
}

#[tokio::test]
async fn silence_ends_with_the_attempts_or_at_the_limit() {
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(3_600));
    for (timeout, limit) in [(short, long), (long, short)] {
        let config = DnsConfig { timeout, limit, attempts: 1, ..DnsConfig::default() };
        let fixture = Fixture::with(ZONE, config).await;
        let answer = fixture.resolver.mx(&domain("mute.test")).await;
        assert_eq!(show(answer, |_| String::new()), "temporary");
    }
}

#[tokio::test]
async fn a_silent_server_is_asked_as_often_as_told() {
    for attempts in [1, 3] {
        let timeout = Duration::from_millis(30);
        let config =
            DnsConfig { timeout, attempts, dnssec: Validation::Off, ..DnsConfig::default() };
        let fixture = Fixture::with(ZONE, config).await;
        let _ = fixture.resolver.mx(&domain("mute.test")).await;
        // On a busy machine the time may be up before the server has read the last query.
        tokio::task::yield_now().await;
        assert_eq!(fixture.server.asked().len(), attempts);
    }
}

#[tokio::test]
async fn names_and_texts() {
    let fixture = Fixture::new().await;
    for (address, expected) in
        [("192.0.2.1", "mx1.receiver.test"), ("192.0.2.2", "NoData"), ("2001:db8::1", "NxDomain")]
    {
        let answer = fixture.resolver.names(address.parse().unwrap()).await;
        assert_eq!(show(answer, |name| name.to_string()), expected, "{address}");
    }
    let text = |text: Vec<u8>| String::from_utf8(text).unwrap();
    let answer = fixture.resolver.txt(&domain("alias.test")).await;
    assert_eq!(show(answer, text), "other, v=spf1 a -all");
    assert_eq!(show(fixture.resolver.txt(&domain("four.test")).await, text), "NoData");
}

#[tokio::test]
async fn answers_and_their_absence_are_kept() {
    let fixture = Fixture::new().await;
    for name in ["receiver.test", "nowhere.test", "empty.test"] {
        for _ in 0..3 {
            let _ = fixture.resolver.mx(&domain(name)).await;
        }
    }
    let asked = fixture.server.asked();
    assert_eq!(asked, ["receiver.test. MX", "nowhere.test. MX", "empty.test. MX"]);
}

#[tokio::test]
async fn failures_are_not_kept() {
    let fixture = Fixture::new().await;
    let name = domain("broken.test");
    let text = |text: Vec<u8>| String::from_utf8(text).unwrap();
    assert_eq!(show(fixture.resolver.txt(&name).await, text), "temporary");
    fixture.server.set_zone(Zone::parse("broken.test TXT \"mended\"").unwrap());
    assert_eq!(show(fixture.resolver.txt(&name).await, text), "mended");
}

#[tokio::test]
async fn long_answers_come_over_tcp() {
    let zone: String = (0..200).map(|n| format!("many.test A 192.0.2.{n}\n")).collect();
    let fixture = Fixture::with(&zone, DnsConfig::default()).await;
    let answer = fixture.resolver.addresses(&domain("many.test")).await.unwrap();
    assert_eq!(answer.records.len(), 200);
}
