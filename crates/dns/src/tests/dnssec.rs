//! Validation, against a server whose zone is signed.

use std::sync::Arc;

use merpati_testkit::dns::{ZoneKey, describe};

use super::*;
use crate::DnssecState;

const SIGNED: &str = r#"
receiver.test        MX    10 mx.receiver.test
mx.receiver.test     A     192.0.2.1
mx.receiver.test     AAAA  2001:db8::1
_25._tcp.mx.receiver.test TLSA 3 1 1 00ff10
_25._tcp.mx.receiver.test TLSA 200 201 202 aa
alias.test           CNAME receiver.test
two.test             CNAME alias.test
_25._tcp.www.test    CNAME _25._tcp.mx.receiver.test
dangling.test        CNAME nowhere.test
away.test            CNAME mx.unsigned.test
lost.test            CNAME nothing.unsigned.test
loop.test            CNAME loop.test
unsigned.test        INSECURE
unsigned.test        MX    10 mx.unsigned.test
mx.unsigned.test     A     192.0.2.2
_25._tcp.mx.unsigned.test TLSA 3 1 1 00
home.unsigned.test   CNAME mx.receiver.test
empty.unsigned.test  CNAME receiver.test
forged.test          MX    10 mx.receiver.test
forged.test          FORGED
old.test             MX    10 mx.receiver.test
old.test             EXPIRED
badalias.test        CNAME receiver.test
badalias.test        FORGED CNAME
tobad.test           CNAME forged.test
halfbad.test         A     192.0.2.3
halfbad.test         AAAA  2001:db8::3
halfbad.test         FORGED AAAA
denied.test          MX    10 mx.receiver.test
denied.test          MISDENIED unsigned.test
baddenial.test       FORGED NSEC
nulled.test          MX    0 .
broken.test          SERVFAIL
"#;

struct Signed {
    fixture: Fixture,
    key: Arc<ZoneKey>,
    _anchor: tempfile::NamedTempFile,
}

impl Signed {
    async fn new() -> Self {
        let key = Arc::new(ZoneKey::new());
        let zone = SIGNED.parse::<Zone>().unwrap().signed(&key);
        Self::with(zone, key).await
    }

    async fn with(zone: Zone, key: Arc<ZoneKey>) -> Self {
        let anchor = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(anchor.path(), key.trust_anchor()).unwrap();
        let server = DnsServer::start(zone).await.unwrap();
        let config = DnsConfig {
            servers: vec![server.address()],
            attempts: 1,
            trust_anchor: Some(anchor.path().to_owned()),
            ..DnsConfig::default()
        };
        let resolver = HickoryResolver::new(&config).unwrap();
        Self { fixture: Fixture { server, resolver }, key, _anchor: anchor }
    }
}

impl Signed {
    async fn check(&self, cases: &[(&str, &str, &str)]) {
        let resolver = &self.fixture.resolver;
        let mut wrong = Vec::new();
        // The second time from memory.
        for (kind, name, expected) in cases.iter().chain(cases) {
            let asked = domain(name);
            let found = match *kind {
                "mx" => describe(resolver.mx(&asked).await, |mx| mx.exchange.to_string()),
                "a" => describe(resolver.addresses(&asked).await, |address| address.to_string()),
                "tlsa" => describe(resolver.tlsa(&asked).await, |tlsa| {
                    let (usage, selector) = (tlsa.usage, tlsa.selector);
                    format!("{usage} {selector} {} {:02x?}", tlsa.matching, tlsa.data)
                }),
                _ => unreachable!(),
            };
            if found != *expected {
                wrong.push(format!("{kind} {name}: {found}, expected {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn what_is_signed_is_told_from_what_is_not_and_from_what_is_forged() {
    let signed = Signed::new().await;
    let tlsa = "200 201 202 [aa], 3 1 1 [00, ff, 10]";
    let both = "192.0.2.1, 2001:db8::1";
    signed
        .check(&[
            ("mx", "receiver.test", "secure: mx.receiver.test"),
            ("a", "mx.receiver.test", &format!("secure: {both}")),
            ("tlsa", "_25._tcp.mx.receiver.test", &format!("secure: {tlsa}")),
            ("mx", "alias.test", "secure: mx.receiver.test at receiver.test (secure)"),
            ("mx", "two.test", "secure: mx.receiver.test at receiver.test (secure)"),
            (
                "tlsa",
                "_25._tcp.www.test",
                &format!("secure: {tlsa} at _25._tcp.mx.receiver.test (secure)"),
            ),
            ("mx", "nulled.test", "the domain takes no mail (null MX)"),
            ("mx", "unsigned.test", "insecure: mx.unsigned.test"),
            ("tlsa", "_25._tcp.mx.unsigned.test", "insecure: 3 1 1 [00]"),
            ("a", "away.test", "insecure: 192.0.2.2 at mx.unsigned.test (secure)"),
            (
                "a",
                "home.unsigned.test",
                &format!("insecure: {both} at mx.receiver.test (insecure)"),
            ),
            ("mx", "forged.test", "bogus"),
            ("mx", "old.test", "bogus"),
            ("mx", "badalias.test", "bogus"),
            ("mx", "tobad.test", "bogus"),
            // One family failing does not hide the other.
            ("a", "halfbad.test", "secure: 192.0.2.3"),
            ("mx", "broken.test", "temporary"),
            ("mx", "loop.test", "temporary"),
        ])
        .await;
}

#[tokio::test]
async fn a_denial_counts_as_far_as_it_is_proven() {
    let signed = Signed::new().await;
    signed
        .check(&[
            ("mx", "mx.receiver.test", "secure: none"),
            ("tlsa", "_25._tcp.receiver.test", "secure: no name"),
            ("mx", "nowhere.test", "secure: no name"),
            ("mx", "test", "secure: none"),
            ("mx", "dangling.test", "secure: no name"),
            ("tlsa", "two.test", "secure: none"),
            ("mx", "mx.unsigned.test", "insecure: none"),
            ("mx", "no.unsigned.test", "insecure: no name"),
            ("mx", "away.test", "insecure: none"),
            ("mx", "lost.test", "insecure: no name"),
            ("tlsa", "empty.unsigned.test", "insecure: none"),
            ("mx", "baddenial.test", "bogus"),
            // A zone that proves nothing cannot deny what another one has.
            ("mx", "denied.test", "bogus"),
        ])
        .await;
}

#[tokio::test]
async fn servers_that_strip_signatures_turn_validation_off() {
    let signed = Signed::new().await;
    let Signed { fixture, key, .. } = &signed;
    assert_eq!(fixture.resolver.probe_dnssec().await, DnssecState::Validating);

    let stripped = Signed::with(SIGNED.parse().unwrap(), Arc::clone(key)).await;
    stripped.check(&[("mx", "receiver.test", "insecure: mx.receiver.test")]).await;
    let DnssecState::Stripped(why) = stripped.fixture.resolver.dnssec_state() else {
        panic!("{:?}", stripped.fixture.resolver.dnssec_state())
    };
    assert!(why.starts_with("the keys of . come without"), "{why}");
    // They no longer do.
    stripped.fixture.server.set_zone(SIGNED.parse::<Zone>().unwrap().signed(key));
    assert_eq!(stripped.fixture.resolver.probe_dnssec().await, DnssecState::Validating);
    stripped.check(&[("mx", "receiver.test", "secure: mx.receiver.test")]).await;
}

#[tokio::test]
async fn what_came_through_once_is_not_given_up() {
    let Signed { fixture, key, _anchor } = Signed::new().await;
    fixture.resolver.watch_dnssec().await;
    assert_eq!(fixture.resolver.dnssec_state(), DnssecState::Validating);
    fixture.server.set_zone(SIGNED.parse().unwrap());
    let signed = Signed { fixture, key, _anchor };
    signed.check(&[("mx", "receiver.test", "bogus")]).await;
    assert_eq!(signed.fixture.resolver.dnssec_state(), DnssecState::Validating);
}

#[tokio::test]
async fn keys_that_are_not_trusted_are_no_reason_to_trust_less() {
    let zone = SIGNED.parse::<Zone>().unwrap().signed(&Arc::new(ZoneKey::new()));
    let signed = Signed::with(zone, Arc::new(ZoneKey::new())).await;
    signed.check(&[("mx", "receiver.test", "bogus"), ("mx", "nowhere.test", "bogus")]).await;
    let state = signed.fixture.resolver.dnssec_state();
    assert!(matches!(state, DnssecState::Untrusted(_)), "{state:?}");
}

#[tokio::test]
async fn silence_is_no_reason_to_trust_less() {
    let key = Arc::new(ZoneKey::new());
    let mute = Signed::with(Zone::parse(". SILENCE").unwrap(), Arc::clone(&key)).await;
    let Signed { mut fixture, _anchor: anchor, .. } = mute;
    let config = DnsConfig {
        servers: vec![fixture.server.address()],
        attempts: 1,
        timeout: Duration::from_millis(20),
        trust_anchor: Some(anchor.path().to_owned()),
        ..DnsConfig::default()
    };
    fixture.resolver = HickoryResolver::new(&config).unwrap();
    let state = fixture.resolver.probe_dnssec().await;
    assert!(matches!(state, DnssecState::Unknown(_)), "{state:?}");
    fixture.server.set_zone(SIGNED.parse::<Zone>().unwrap().signed(&key));
    let signed = Signed { fixture, key, _anchor: anchor };
    signed.check(&[("mx", "receiver.test", "secure: mx.receiver.test")]).await;
}

#[tokio::test]
async fn denials_are_kept_while_validating() {
    let Signed { fixture, .. } = Signed::new().await;
    let asked = || {
        let asked = fixture.server.asked();
        asked.into_iter().filter(|query| query.ends_with(" TXT")).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        let _ = fixture.resolver.txt(&domain("receiver.test")).await;
        let _ = fixture.resolver.txt(&domain("nowhere.test")).await;
    }
    assert_eq!(asked(), ["receiver.test. TXT", "nowhere.test. TXT"]);
}

#[tokio::test]
async fn a_wrong_trust_anchor_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", ". IN DS 1 13 2 00", "nonsense"] {
        std::fs::write(file.path(), text).unwrap();
        let config = DnsConfig {
            servers: vec!["127.0.0.1:53".parse().unwrap()],
            trust_anchor: Some(file.path().to_owned()),
            ..DnsConfig::default()
        };
        let error = HickoryResolver::new(&config).err().unwrap().to_string();
        assert!(error.starts_with("cannot use the trust anchor /"), "{error}");
    }
}
