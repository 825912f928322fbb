//! Which TLS a host needs to get a message, and what becomes of it if the host has not got it:
//! our transport, real servers, a signed zone.

mod expected;
mod made;
mod sink;
mod world;

use std::fmt::Write as _;

use futures_util::StreamExt as _;
use futures_util::stream;
use merpati_deliver::smtp::Pin;
use merpati_route::security::Override;
use merpati_route::{Pattern, Table};

use expected::{Case, Keys, Sts, Wish};
use made::Shown;
use world::{Policies, Servers, World, address, policy, records};

/// How many messages are on their way at once.
const AT_ONCE: usize = 16;

/// Every combination, each with a domain and a host of its own.
fn cases() -> Vec<(usize, Case)> {
    let mut cases = Vec::new();
    for keys in Keys::ALL {
        for sts in Sts::ALL {
            for shown in Shown::ALL {
                for wish in Wish::ALL {
                    cases.push((cases.len(), Case { keys, sts, shown, wish }));
                }
            }
        }
    }
    cases
}

/// The records of a case.
fn zone(servers: &Servers, cases: &[(usize, Case)]) -> String {
    let mut zone = String::new();
    for (number, case) in cases {
        let (domain, host) = (format!("d{number}.test"), format!("h{number}.hosts.test"));
        let offered = case.wish != Wish::RequireTls { offered: false };
        records(&mut zone, &domain, &host, address(case.shown, offered));
        let name = format!("_{}._tcp.{host}", servers.port);
        let right = servers.workshop.end_entity(case.shown);
        let line = match case.keys {
            Keys::EndEntity => format!("{name} TLSA {right}"),
            Keys::TrustAnchor => format!("{name} TLSA {}", servers.workshop.trust_anchor()),
            Keys::Unusable => format!("{name} TLSA {}", right.replacen('3', "1", 1)),
            Keys::BogusMx => format!("{domain} FORGED MX"),
            Keys::BogusAddress => format!("{host} FORGED A"),
            Keys::BogusTlsa => format!("{name} TLSA {right}\n{name} FORGED TLSA"),
            Keys::None => String::new(),
            Keys::Unsigned => format!("{domain} INSECURE"),
        };
        let _ = writeln!(zone, "{line}");
    }
    zone
}

#[tokio::test]
async fn every_combination_ends_as_the_rfcs_say() {
    let servers = Servers::start().await;
    let cases = cases();
    let mut policies = Policies::default();
    for (number, case) in &cases {
        let memory = policy(case.sts, "*.hosts.test");
        policies.0.insert(format!("d{number}.test"), memory);
    }
    let world = World::new(&servers, &zone(&servers, &cases), policies, |_| {}).await;
    let wrong: Vec<String> = stream::iter(&cases)
        .map(|case| check(&servers, &world, case))
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {} cases end otherwise:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    println!("{} combinations end as the RFCs say", cases.len());
}

async fn check(servers: &Servers, world: &World, (number, case): &(usize, Case)) -> Option<String> {
    let domain = format!("d{number}.test");
    let recipient = format!("x@{domain}");
    let requires = case.wish != Wish::Nothing;
    let told = world.send(&recipient, "", requires).await;
    let came = servers.came(&recipient);
    let outcome = match &came[..] {
        [] => told.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "),
        [one] if one.requiretls != requires => "REQUIRETLS is lost".to_owned(),
        [one] if told == "delivered" && one.encrypted => "tls".to_owned(),
        [_] if told == "delivered" => "clear".to_owned(),
        _ => format!("{} copies, and {told}", came.len()),
    };
    let expected = expected::outcome(*case);
    if outcome != expected {
        return Some(format!("{case:?}: {outcome}, not {expected} ({told})"));
    }
    if !requires {
        let (faults, expected) = (world.results.of(&domain), expected::faults(*case));
        if faults != expected {
            return Some(format!("{case:?}: reports {faults:?}, not {expected:?}"));
        }
    }
    None
}

/// What became of a message, as it was told and as it came.
async fn fate(servers: &Servers, world: &World, to: &str, header: &str, requires: bool) -> String {
    let before = servers.came(to).len();
    let told = world.send(to, header, requires).await;
    let came = servers.came(to);
    match (told.as_str(), &came[before..]) {
        ("delivered", [one]) => {
            let channel = if one.encrypted { "tls" } else { "clear" };
            format!("{channel}{}", if one.resumed { " resumed" } else { "" })
        }
        (_, []) => told.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "),
        _ => format!("{} copies, and {told}", came.len()),
    }
}

const NO_TLS: &str = "TLS-Required: No\r\n";

#[tokio::test]
async fn senders_may_ask_for_less() {
    let servers = Servers::start().await;
    let mut zone = String::new();
    let other = servers.workshop.end_entity(Shown::Good);
    let tlsa = format!("_{}._tcp", servers.port);
    for (domain, shown) in
        [("dane", Shown::SelfSigned), ("bare", Shown::NoTls), ("sts", Shown::Expired)]
    {
        let host = format!("{domain}.hosts.test");
        records(&mut zone, &format!("{domain}.test"), &host, address(shown, false));
        if domain != "sts" {
            let _ = writeln!(zone, "{tlsa}.{host} TLSA {other}");
        }
    }
    let mut policies = Policies::default();
    policies.0.insert("sts.test".to_owned(), policy(Sts::Enforce, "*.hosts.test"));
    let world = World::new(&servers, &zone, policies, |_| {}).await;
    let twice = NO_TLS.repeat(2);
    for (to, header, requires, expected) in [
        ("1@dane.test", "", false, "waits 4.7.5"),
        ("2@dane.test", NO_TLS, false, "tls"),
        ("3@bare.test", "", false, "waits 4.7.4"),
        ("4@bare.test", "tls-required:\r\n no \r\n", false, "clear"),
        ("5@sts.test", "", false, "waits 4.7.5"),
        ("6@sts.test", NO_TLS, false, "tls"),
        // Neither another value nor two of them count, nor does it beside REQUIRETLS.
        ("7@sts.test", "TLS-Required: Yes\r\n", false, "waits 4.7.5"),
        ("8@sts.test", &twice, false, "waits 4.7.5"),
        ("9@sts.test", NO_TLS, true, "bounces 5.7.10"),
    ] {
        assert_eq!(fate(&servers, &world, to, header, requires).await, expected, "{to}");
    }
}

#[tokio::test]
async fn operators_may_say_otherwise() {
    let servers = Servers::start().await;
    let pin = |shown| {
        let record = servers.workshop.end_entity(shown);
        let pin: Pin = record.rsplit(' ').next().unwrap().parse().unwrap();
        Override::Pinned(vec![pin.0])
    };
    let rows = [
        ("none", Override::None, Shown::Good, "clear"),
        ("may", Override::May, Shown::SelfSigned, "tls"),
        ("maynot", Override::May, Shown::NoTls, "clear"),
        ("encrypt", Override::Encrypt, Shown::SelfSigned, "tls"),
        ("encryptnot", Override::Encrypt, Shown::NoTls, "waits 4.7.4"),
        ("dane", Override::Dane, Shown::SelfSigned, "tls"),
        ("danenot", Override::Dane, Shown::Good, "waits 4.7.0"),
        ("verify", Override::Verify, Shown::Good, "tls"),
        ("verifynot", Override::Verify, Shown::WrongName, "waits 4.7.5"),
        ("pinned", pin(Shown::Expired), Shown::Expired, "tls"),
        ("pinnednot", pin(Shown::Expired), Shown::Good, "waits 4.7.5"),
    ];
    let (mut zone, mut policies) = (String::new(), Policies::default());
    for (domain, _, shown, _) in &rows {
        let host = format!("{domain}.hosts.test");
        records(&mut zone, &format!("{domain}.test"), &host, address(*shown, false));
        // What the domain says of itself would have it otherwise.
        policies.0.insert(format!("{domain}.test"), policy(Sts::Enforce, "other.test"));
        if *domain == "dane" {
            let record = servers.workshop.end_entity(*shown);
            let _ = writeln!(zone, "_{}._tcp.{host} TLSA {record}", servers.port);
        }
    }
    let table = rows.iter().map(|(domain, wanted, ..)| {
        (format!("{domain}.test").parse::<Pattern>().unwrap(), wanted.clone())
    });
    let table = Table::new(table.collect());
    let world = World::new(&servers, &zone, policies, |tls| tls.destinations = table).await;
    for (domain, _, _, expected) in &rows {
        let fate = fate(&servers, &world, &format!("x@{domain}.test"), "", false).await;
        assert_eq!(fate, *expected, "{domain}");
    }
}

#[tokio::test]
async fn names_lead_to_hosts_as_far_as_they_are_signed() {
    let servers = Servers::start().await;
    let tlsa = format!("_{}._tcp", servers.port);
    let own = servers.workshop.end_entity(Shown::SelfSigned);
    let foreign = servers.workshop.end_entity(Shown::Good);
    let at = address(Shown::SelfSigned, false);
    let good = address(Shown::Good, false);
    let dead = "127.0.2.1";
    let zone = format!(
        "alias.test MX 10 alias.hosts.test\n\
         alias.hosts.test CNAME real.hosts.test\n\
         real.hosts.test A {at}\n\
         {tlsa}.real.hosts.test TLSA {own}\n\
         {tlsa}.alias.hosts.test TLSA {foreign}\n\
         away.test MX 10 away.hosts.test\n\
         away.hosts.test CNAME host.elsewhere.test\n\
         elsewhere.test INSECURE\n\
         host.elsewhere.test A {at}\n\
         {tlsa}.away.hosts.test TLSA {foreign}\n\
         two.test MX 10 bogus.hosts.test\n\
         two.test MX 20 good.hosts.test\n\
         bogus.hosts.test A {good}\n\
         {tlsa}.bogus.hosts.test TLSA {foreign}\n\
         {tlsa}.bogus.hosts.test FORGED TLSA\n\
         good.hosts.test A {good}\n\
         {tlsa}.good.hosts.test TLSA {foreign}\n\
         next.test MX 10 wrong.hosts.test\n\
         next.test MX 20 good.hosts.test\n\
         wrong.hosts.test A {at}\n\
         {tlsa}.wrong.hosts.test TLSA {foreign}\n\
         late.test MX 10 dead.hosts.test\n\
         late.test MX 20 good.hosts.test\n\
         dead.hosts.test A {dead}\n\
         own.test A {at}\n\
         {tlsa}.own.test TLSA {own}\n\
         sts.test MX 10 good.hosts.test\n\
         sts.test MX 5 strange.hosts.test\n\
         strange.hosts.test A {at}\n"
    );
    let mut policies = Policies::default();
    policies.0.insert("sts.test".to_owned(), policy(Sts::Enforce, "good.hosts.test"));
    let world = World::new(&servers, &zone, policies, |_| {}).await;
    for (to, requires, expected) in [
        // The records of where the alias leads count, not those of the alias …
        ("1@alias.test", false, "tls"),
        // … unless nobody signs where it leads (RFC 7672 §2.2.2).
        ("2@away.test", false, "waits 4.7.5"),
        // A host that cannot be trusted now is passed over.
        ("3@two.test", false, "tls"),
        ("4@next.test", false, "tls"),
        ("5@sts.test", false, "tls"),
        // The domain is its own host.
        ("6@own.test", false, "tls"),
        // One bounces it; the other may yet take it.
        ("7@late.test", true, "waits 4.4.1"),
        ("8@next.test", true, "bounces 5.7.30"),
    ] {
        assert_eq!(fate(&servers, &world, to, "", requires).await, expected, "{to}");
    }
    assert_eq!(world.results.of("sts.test"), ["sts validation-failure"]);
}

/// Connections are shared, and sessions resumed, only where the same is asked of the host.
#[tokio::test]
async fn policies_do_not_share_sessions() {
    let servers = Servers::start().await;
    let mut zone = "plain.test MX 10 good.hosts.test\n".to_owned();
    records(&mut zone, "sts.test", "good.hosts.test", address(Shown::Good, true));
    let mut policies = Policies::default();
    policies.0.insert("sts.test".to_owned(), policy(Sts::Enforce, "*.hosts.test"));
    let world = World::new(&servers, &zone, policies, |_| {}).await;
    for (to, header, requires, expected) in [
        ("1@plain.test", "", false, "tls"),
        // The same connection: nothing is resumed.
        ("2@plain.test", "", false, "tls"),
        // More is asked of the host, so that the earlier session proves nothing.
        ("3@sts.test", "", false, "tls"),
        // The same is asked of it by name, over another connection.
        ("4@sts.test", "", true, "tls resumed"),
        ("5@plain.test", "", false, "tls"),
    ] {
        assert_eq!(fate(&servers, &world, to, header, requires).await, expected, "{to}");
    }
}

/// Or reports would be about the sending of reports, for ever.
#[tokio::test]
async fn sessions_for_reports_are_not_told() {
    let servers = Servers::start().await;
    let mut zone = String::new();
    for (domain, host) in [("sts.test", "a.hosts.test"), ("bogus.test", "b.hosts.test")] {
        records(&mut zone, domain, host, address(Shown::SelfSigned, true));
    }
    zone += "bogus.test FORGED MX\n";
    let mut policies = Policies::default();
    policies.0.insert("sts.test".to_owned(), policy(Sts::Enforce, "*.hosts.test"));
    let world = World::new(&servers, &zone, policies, |_| {}).await;
    for (domain, fault) in
        [("sts.test", "sts certificate-not-trusted"), ("bogus.test", "tlsa dnssec-invalid")]
    {
        world.send(&format!("reports@{domain}"), "", false).await;
        assert_eq!(world.results.of(domain), Vec::<String>::new());
        world.send(&format!("x@{domain}"), "", false).await;
        assert_eq!(world.results.of(domain), [fault]);
    }
}
