//! Mail that a real relay forwards for others: it passes SPF where it goes, and what comes back
//! finds its sender.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use mail_auth::hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{MessageAuthenticator, SpfResult};
use merpati_dsn::{Keyring, Srs, SrsOptions};
use merpati_e2e::demo::Demo;
use merpati_e2e::mail::message;
use merpati_e2e::sink::{Keeps, Sink, SinkSettings};
use merpati_e2e::smtp::{By, Mail, Reply, Smtp};
use merpati_e2e::until;
use merpati_ops::api::{ExplainRequest, FindingView};
use merpati_ops::client::Client;
use merpati_testkit::dns::{DnsServer, Zone};
use merpati_types::{Domain, Mailbox, Secret, Timestamp};

const LIMIT: Duration = Duration::from_secs(30);
const ALICE: &str = "alice@outside.test";
const BOB: &str = "bob@away.test";
const KEY: &str = "a secret of the forwarder";
/// Our servers, and not those of outside.test, are on loopback.
const ZONE: &str = "\
fwd.test TXT \"v=spf1 ip4:127.0.0.0/8 -all\"
outside.test TXT \"v=spf1 ip4:192.0.2.0/24 -all\"
";

/// What a server on loopback finds out about a sender.
fn spf(sender: &str) -> SpfResult {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dns = DnsServer::start(Zone::parse(ZONE).unwrap()).await.unwrap();
        let mut server = NameServerConfig::udp_and_tcp(dns.address().ip());
        for connection in &mut server.connections {
            connection.port = dns.address().port();
        }
        let servers = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let verifier = MessageAuthenticator::new(servers, ResolverOpts::default()).unwrap();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let asked = SpfParameters::verify_mail_from(ip, "relay.sender.test", "far.test", sender);
        verifier.verify_spf(asked).await.result()
    })
}

fn sink() -> Sink {
    let settings = SinkSettings { keeps: Keeps::Everything, ..SinkSettings::default() };
    Sink::start(settings).unwrap()
}

/// What a sink got in its `n`th message at the latest.
fn heard(sink: &Sink, n: usize) -> String {
    until::within(LIMIT, || (sink.messages() >= n).then_some(())).expect("it is delivered");
    let all = sink.kept().concat();
    String::from_utf8(all).unwrap()
}

/// The address in the last line that begins so.
fn address<'t>(text: &'t str, verb: &str) -> &'t str {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(verb)).expect("it was said");
    line.split('>').next().unwrap()
}

fn write_key(path: &Path) {
    fs::write(path, format!("{KEY}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(path.parent().unwrap().join("state")).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// A relay for 10.0.0.0/8, which is `sender.test`; mail to `away.test` goes far, all else outside.
/// In `more` KEY is the key's file, and DIR a directory.
fn relay(demo: &mut Demo, far: SocketAddr, outside: SocketAddr, more: &str) {
    let directory = demo.dir.join("relay");
    let key = directory.join("senders.key");
    write_key(&key);
    let transport = |domain: &str, to: SocketAddr| {
        let (host, port) = (to.ip(), to.port());
        format!(
            "[[transport]]\nmatch = \"{domain}\"\n\
             smtp = {{ host = \"[{host}]\", port = {port}, tls = \"none\" }}\n"
        )
    };
    let transports = transport("away.test", far) + &transport("*", outside);
    let key = format!("keys = {{ file = \"{}\" }}", key.display());
    let more = more.replace("KEY", &key).replace("DIR", directory.to_str().unwrap());
    demo.reconfigure("relay", |text| {
        let text = text.replace("networks = [\"127.0.0.0/8\"]", "networks = [\"10.0.0.0/8\"]");
        let text = text.replacen("[[listen]]\n", "[[listen]]\nproxy_from = [\"127.0.0.1\"]\n", 1);
        format!("{text}\n{more}\n{transports}")
    })
    .unwrap();
}

/// Sends a message from inside.
fn send(demo: &Demo, id: &str, from: &str, to: &[&str]) {
    let content = message(id, from, b"Coo.\r\n");
    let mail = Mail { from, to, parameters: "", content: &content, by: By::Data };
    Smtp::proxied(demo.address("relay"), "10.0.0.1").unwrap().send(&mail).unwrap();
}

/// Begins a bounce from outside; answers what is said to its recipient, and the session.
fn bounce(demo: &Demo, to: &str) -> (Reply, Smtp) {
    let mut client = Smtp::proxied(demo.address("relay"), "203.0.113.9").unwrap();
    client.say("MAIL FROM:<>").unwrap().expect(250).unwrap();
    (client.say(&format!("RCPT TO:<{to}>")).unwrap(), client)
}

/// Sends a report to an address that is taken.
fn report(demo: &Demo, to: &str, about: &str, reply: &str) {
    let (said, mut client) = bounce(demo, to);
    said.expect(250).unwrap();
    client.say("DATA").unwrap().expect(354).unwrap();
    let report = format!(
        "From: MAILER-DAEMON@away.test\r\nSubject: returned\r\n\
         Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; far.test\r\n\r\n\
         Final-Recipient: rfc822; {about}\r\nAction: failed\r\nStatus: 5.0.0\r\n\
         Diagnostic-Code: smtp; {reply}\r\n--b--\r\n."
    );
    client.say(&report).unwrap().expect(250).unwrap();
}

/// The line of the relay's log about a report.
fn heard_of(demo: &Demo) -> String {
    let line = until::within(LIMIT, || {
        let log = fs::read_to_string(demo.log("relay")).unwrap();
        log.lines().find(|line| line.contains("\"heard\"")).map(str::to_owned)
    });
    line.expect("the report is read")
}

#[test]
fn forwarded_mail_passes_spf_and_its_bounces_come_back() {
    let mut demo = Demo::start().unwrap();
    let (far, outside) = (sink(), sink());
    let more = "[[policy]]\nuse = \"returned\"\nsrs = { domain = \"fwd.test\", KEY }\n\
                [[outbound]]\nuse = \"srs\"\ndomain = \"fwd.test\"\nKEY\n\
                domains = [\"sender.test\"]\n";
    relay(&mut demo, far.address, outside.address, more);

    send(&demo, "forwarded", ALICE, &[BOB]);
    let said = heard(&far, 1);
    assert_eq!(address(&said, "RCPT TO:<"), BOB);
    let sender = address(&said, "MAIL FROM:<");
    assert!(sender.starts_with("SRS0=") && sender.ends_with("=outside.test=alice@fwd.test"));
    assert_eq!(spf(sender), SpfResult::Pass);
    assert_eq!(spf(ALICE), SpfResult::Fail, "it needs the rewriting");
    let asked = ExplainRequest {
        address: BOB.to_owned(),
        sender: Some(ALICE.to_owned()),
        ..ExplainRequest::default()
    };
    let client = Client::new(&demo.dir.join("relay/state/admin.sock"));
    let plan: FindingView = client.post("/v1/explain/rcpt", &asked).unwrap();
    let told = plan.below.iter().find(|finding| finding.key == "sent as").expect("it is told");
    assert_eq!(told.value, format!("<{sender}>"));
    // Our own mail goes as it is.
    send(&demo, "ours", "carol@sender.test", &[BOB]);
    assert_eq!(address(&heard(&far, 2), "MAIL FROM:<"), "carol@sender.test");

    // The far end, whom nobody trusts, has second thoughts.
    report(&demo, sender, BOB, "552 5.2.2 mailbox full");
    let said = heard(&outside, 1);
    assert_eq!(address(&said, "RCPT TO:<"), ALICE);
    assert_eq!(address(&said, "MAIL FROM:<"), "", "it is a bounce");
    assert!(said.contains("Subject: returned\r\n"), "{said}");
    let log = heard_of(&demo);
    for part in ["about=bob@away.test", "mailbox-full", "signed=true"] {
        assert!(log.contains(part), "{part} is not in {log}");
    }

    let keys = Keyring::new(Secret::new(KEY.as_bytes().to_vec()));
    let srs = Srs::new(keys, Domain::parse("fwd.test").unwrap(), SrsOptions::default());
    let long_ago = Timestamp::from_millis(1_790_000_000_000 - 400 * 86_400_000);
    let expired = srs.forward(&Mailbox::parse(ALICE).unwrap(), long_ago).unwrap().to_string();
    for (to, expected) in [
        (expired.as_str(), "550 5.1.1 this return address has expired"),
        (&sender.replace("alice@", "eve@"), "550 5.1.1 this is no return address of ours"),
        ("SRS0=x=y@fwd.test", "550 5.1.1 this is no return address of ours"),
        (ALICE, "550 5.7.1 relay access denied"),
    ] {
        let said = bounce(&demo, to).0.to_string();
        assert!(said.starts_with(expected), "{to}: {said}");
    }
    assert_eq!(outside.messages(), 1);
}

#[test]
fn a_list_learns_who_is_gone_by_the_address_that_bounces() {
    let mut demo = Demo::start().unwrap();
    let (far, outside) = (sink(), sink());
    let members = demo.dir.join("relay/recipients");
    fs::write(&members, "list@sender.test\npostmaster@sender.test\n").unwrap();
    let more = "[[policy]]\nuse = \"returned\"\nverp = { senders = [\"list@sender.test\"] }\n\
                batv = { domains = [\"sender.test\"], KEY, unsigned = \"refuse\" }\n\
                [[policy]]\nuse = \"recipients\"\ndomains = [\"sender.test\"]\n\
                file = \"DIR/recipients\"\n\
                [suppression]\nbounces = 1\n\
                [[outbound]]\nuse = \"suppress\"\n\
                [[outbound]]\nuse = \"verp\"\nsenders = [\"list@sender.test\"]\n\
                [[outbound]]\nuse = \"batv\"\ndomains = [\"sender.test\"]\nKEY\n";
    relay(&mut demo, far.address, outside.address, more);

    let list = "list@sender.test";
    send(&demo, "issue-1", list, &["a@away.test", "b@away.test"]);
    let said = heard(&far, 2);
    let senders: Vec<_> =
        said.lines().filter_map(|line| line.strip_prefix("MAIL FROM:<")).collect();
    let senders: Vec<_> = senders.iter().map(|line| line.split('>').next().unwrap()).collect();
    let [a, b] = senders[..] else { panic!("a transaction for each: {said}") };
    for (sender, to) in [(a, "a"), (b, "b")] {
        assert!(sender.starts_with("prvs=0"), "{sender}");
        assert!(sender.ends_with(&format!("=list+{to}=away.test@sender.test")), "{sender}");
    }

    // It is about b, whatever it says.
    report(&demo, b, "gone@away.test", "550 5.1.1 no such user");
    assert_eq!(address(&heard(&outside, 1), "RCPT TO:<"), list);
    let log = heard_of(&demo);
    for part in ["about=b@away.test", "unknown-user", "signed=true", "suppressed=true"] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    for (to, expected) in [
        (list, "550 5.7.1 reports are not taken here"),
        ("list+a=away.test@sender.test", "550 5.7.1 reports are not taken here"),
        (&a.replace("list+a", "list+b"), "550 5.1.1 this is no return address of ours"),
    ] {
        let said = bounce(&demo, to).0.to_string();
        assert!(said.starts_with(expected), "{to}: {said}");
    }

    // The next issue does not go to b any more, of which the list is told.
    send(&demo, "issue-2", list, &["a@away.test", "b@away.test"]);
    let told = heard(&outside, 2);
    assert!(told.contains("this address is suppressed here: 550 5.1.1 no such user"), "{told}");
    assert_eq!(address(&heard(&far, 3), "RCPT TO:<"), "a@away.test");
    assert_eq!(far.messages(), 3);
}
