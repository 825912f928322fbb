//! Our resolver against zones that Knot signs: what is there, what is proven not to be, what lies
//! in an unsigned zone, and what a wrong signature of the parent makes bogus.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use merpati_dns::{DnsConfig, DnssecState, HickoryResolver};
use merpati_plugin::Resolver as _;
use merpati_testkit::dns::describe;
use merpati_types::Domain;

use crate::process::Process;
use crate::room::free_address;

const SOA: &str = "$TTL 60\n@ SOA ns. admin. 1 3600 600 86400 60\n@ NS ns.\n";

/// What is in each of the signed zones, and OTHER is the other one.
const ZONE: &str = "\
@ MX 10 mx
mx A 192.0.2.1
mx AAAA 2001:db8::1
_25._tcp.mx TLSA 3 1 1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
_25._tcp.www CNAME _25._tcp.mx
_25._tcp.other CNAME _25._tcp.mx.OTHER.
*.wild TLSA 3 1 1 00
host.wild A 192.0.2.2
*.wildalias CNAME _25._tcp.mx
dangling CNAME nowhere
dangling2 CNAME nowhere.OTHER.
noother CNAME mx.OTHER.
away CNAME mx.unsigned.test.
lost CNAME nowhere.unsigned.test.
deep.er.empty A 192.0.2.3
";
const UNSIGNED: &str = "\
@ MX 10 mx
mx A 192.0.2.4
_25._tcp.mx TLSA 3 1 1 00
home CNAME mx.nsec.test.
";

struct Knot {
    _process: Process,
    address: SocketAddr,
    home: tempfile::TempDir,
}

impl Knot {
    fn start() -> Self {
        let home = tempfile::Builder::new().prefix("merpati-knot-").tempdir().unwrap();
        let path = home.path();
        let address = free_address();
        let config = path.join("knot.conf");
        fs::write(&config, configuration(path, address)).unwrap();
        for directory in ["keys", "run"] {
            fs::create_dir(path.join(directory)).unwrap();
        }
        let mut root = format!("{SOA}ns. A 127.0.0.1\n");
        for (zone, other) in [("nsec.test", "nsec3.test"), ("nsec3.test", "nsec.test")] {
            root += &format!("{zone}. NS ns.\n{}", delegation(&config, zone));
            write_zone(path, zone, &ZONE.replace("OTHER", other));
        }
        write_zone(path, "unsigned.test", UNSIGNED);
        root += "unsigned.test. NS ns.\n";
        // Its parent vouches for another key than the one it is signed with.
        write_zone(path, "bogus.test", "@ MX 10 mx\n");
        let ours = delegation(&config, "bogus.test");
        let other = delegation(&config, "nsec.test").replace("nsec.test.", "bogus.test.");
        assert_ne!(ours, other);
        root += &format!("bogus.test. NS ns.\n{other}");
        keymgr(&config, ".", &["generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"]);
        let anchor = keymgr(&config, ".", &["dnskey"]).replacen(" DNSKEY ", " IN DNSKEY ", 1);
        fs::write(path.join("anchor"), anchor).unwrap();
        fs::write(path.join("root.zone"), root).unwrap();
        let mut command = Command::new("/usr/sbin/knotd");
        command.arg("-c").arg(&config);
        let process = Process::start("knotd", command, "server started");
        Self { _process: process, address, home }
    }

    fn resolver(&self) -> HickoryResolver {
        let config = DnsConfig {
            servers: vec![self.address],
            trust_anchor: Some(self.home.path().join("anchor")),
            ..DnsConfig::default()
        };
        HickoryResolver::new(&config).unwrap()
    }
}

fn configuration(path: &Path, address: SocketAddr) -> String {
    let policy = |id: &str, nsec3: &str| {
        format!(
            "  - id: {id}\n    manual: on\n    single-type-signing: on\n    \
             algorithm: ecdsap256sha256\n    nsec3: {nsec3}\n"
        )
    };
    let zone = |domain: &str, file: &str, policy: &str| {
        format!("  - domain: {domain}\n    file: {file}.zone\n{policy}")
    };
    let signed = |policy: &str| format!("    dnssec-signing: on\n    dnssec-policy: {policy}\n");
    let path = path.display();
    [
        format!("server:\n  rundir: {path}/run\n  listen: {}@{}\n", address.ip(), address.port()),
        format!("database:\n  storage: {path}/keys\n"),
        "log:\n  - target: stdout\n    any: info\n".to_owned(),
        format!("policy:\n{}{}", policy("nsec", "off"), policy("nsec3", "on")),
        format!("template:\n  - id: default\n    storage: {path}\n    zonefile-sync: -1\n"),
        "    journal-content: none\nzone:\n".to_owned(),
        zone(".", "root", &signed("nsec")),
        zone("nsec.test", "nsec.test", &signed("nsec")),
        zone("nsec3.test", "nsec3.test", &signed("nsec3")),
        zone("bogus.test", "bogus.test", &signed("nsec")),
        zone("unsigned.test", "unsigned.test", ""),
    ]
    .concat()
}

fn write_zone(path: &Path, zone: &str, records: &str) {
    fs::write(path.join(format!("{zone}.zone")), format!("{SOA}{records}")).unwrap();
}

/// The DS record of a zone, whose key is made the first time.
fn delegation(config: &Path, zone: &str) -> String {
    if keymgr(config, zone, &["dnskey"]).is_empty() {
        keymgr(config, zone, &["generate", "algorithm=ecdsap256sha256", "ksk=yes", "zsk=yes"]);
    }
    let records = keymgr(config, zone, &["ds"]);
    records.lines().next().unwrap().to_owned() + "\n"
}

fn keymgr(config: &Path, zone: &str, args: &[&str]) -> String {
    let mut command = Command::new("/usr/sbin/keymgr");
    command.arg("-c").arg(config).arg(zone).args(args);
    let output = command.output().expect("knot is installed");
    assert!(output.status.success() || args == ["dnskey"], "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn check(resolver: &HickoryResolver, cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (kind, name, expected) in cases {
        let asked = Domain::parse(name).unwrap();
        let found = match *kind {
            "mx" => describe(resolver.mx(&asked).await, |mx| mx.exchange.to_string()),
            "a" => describe(resolver.addresses(&asked).await, |address| address.to_string()),
            _ => describe(resolver.tlsa(&asked).await, |tlsa| {
                format!("{} {} {} of {}", tlsa.usage, tlsa.selector, tlsa.matching, tlsa.data.len())
            }),
        };
        if found != *expected {
            wrong.push(format!("{kind} {name}: {found}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn knot_is_understood() {
    let knot = Knot::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let resolver = knot.resolver();
        assert_eq!(resolver.probe_dnssec().await, DnssecState::Validating);
        for (zone, other) in [("nsec.test", "nsec3.test"), ("nsec3.test", "nsec.test")] {
            let cases = [
                ("mx", "ZONE", "secure: mx.ZONE"),
                ("a", "mx.ZONE", "secure: 192.0.2.1, 2001:db8::1"),
                ("tlsa", "_25._tcp.mx.ZONE", "secure: 3 1 1 of 32"),
                ("tlsa", "_25._tcp.www.ZONE", "secure: 3 1 1 of 32 at _25._tcp.mx.ZONE (secure)"),
                (
                    "tlsa",
                    "_25._tcp.other.ZONE",
                    "secure: 3 1 1 of 32 at _25._tcp.mx.OTHER (secure)",
                ),
                ("tlsa", "_25._tcp.x.wild.ZONE", "secure: 3 1 1 of 1"),
                ("tlsa", "x.wild.ZONE", "secure: 3 1 1 of 1"),
                ("tlsa", "x.wildalias.ZONE", "secure: 3 1 1 of 32 at _25._tcp.mx.ZONE (secure)"),
                ("a", "away.ZONE", "insecure: 192.0.2.4 at mx.unsigned.test (secure)"),
                // There are no such records.
                ("tlsa", "mx.ZONE", "secure: none"),
                ("tlsa", "host.wild.ZONE", "secure: none"),
                ("mx", "x.wild.ZONE", "secure: none"),
                ("mx", "empty.ZONE", "secure: none"),
                ("mx", "noother.ZONE", "secure: none"),
                ("mx", "away.ZONE", "insecure: none"),
                // There are no such names.
                ("tlsa", "_25._tcp.nowhere.ZONE", "secure: no name"),
                ("tlsa", "_25._tcp.host.wild.ZONE", "secure: no name"),
                ("a", "nowhere.er.empty.ZONE", "secure: no name"),
                ("mx", "dangling.ZONE", "secure: no name"),
                ("mx", "dangling2.ZONE", "secure: no name"),
                ("mx", "lost.ZONE", "insecure: no name"),
            ];
            let full = |text: &str| text.replace("ZONE", zone).replace("OTHER", other);
            let cases = cases.map(|(kind, name, expected)| (kind, full(name), full(expected)));
            let cases: Vec<_> =
                cases.iter().map(|(k, n, e)| (*k, n.as_str(), e.as_str())).collect();
            check(&resolver, &cases).await;
        }
        check(
            &resolver,
            &[
                ("mx", "unsigned.test", "insecure: mx.unsigned.test"),
                ("tlsa", "_25._tcp.mx.unsigned.test", "insecure: 3 1 1 of 1"),
                ("tlsa", "_25._tcp.no.unsigned.test", "insecure: no name"),
                ("tlsa", "mx.unsigned.test", "insecure: none"),
                (
                    "a",
                    "home.unsigned.test",
                    "insecure: 192.0.2.1, 2001:db8::1 at mx.nsec.test (insecure)",
                ),
                ("mx", "nowhere", "secure: no name"),
                ("mx", "bogus.test", "bogus"),
                ("tlsa", "_25._tcp.mx.bogus.test", "bogus"),
            ],
        )
        .await;
    });
}
