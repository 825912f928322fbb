//! `posttls-finger`, by way of Unbound, judges the DANE of our mx.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::merpati::Merpati;
use crate::namespace;
use crate::process::Process;
use crate::room::{Room, end_entity};

/// Starts Unbound as the resolver of the system; it validates what the room's server signs.
fn unbound(room: &Room) -> Process {
    let config = room.path().join("unbound.conf");
    let text = format!(
        "server:\n  username: \"\"\n  chroot: \"\"\n  directory: \"{path}\"\n  pidfile: \"\"\n  \
         interface: 127.0.0.1\n  access-control: 127.0.0.0/8 allow\n  \
         do-not-query-localhost: no\n  do-ip6: no\n  do-daemonize: no\n  use-syslog: no\n  \
         logfile: \"\"\n  verbosity: 1\n  val-log-level: 2\n  \
         module-config: \"validator iterator\"\n  trust-anchor-file: \"{anchor}\"\n  \
         local-zone: \"test.\" nodefault\n\
         forward-zone:\n  name: \".\"\n  forward-addr: {ip}@{port}\n\
         remote-control:\n  control-enable: no\n",
        path = room.path().display(),
        anchor = room.anchor().unwrap().display(),
        ip = room.dns().ip(),
        port = room.dns().port(),
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("/usr/sbin/unbound");
    command.arg("-d").arg("-c").arg(config);
    Process::start("unbound", command, "start of service")
}

/// What it says of a destination.
fn fingers(config: &Path, destination: &str) -> String {
    let mut command = Command::new("/usr/sbin/posttls-finger");
    command.env("MAIL_CONFIG", config);
    command.args(["-c", "-l", "dane", "-t", "20", "-T", "20", "-L", "summary,certmatch"]);
    let output = command.arg(destination).output().expect("postfix is installed");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn posttls_finger_agrees_about_our_mx() {
    if !namespace::enter("from_fingers::posttls_finger_agrees_about_our_mx") {
        return;
    }
    let mut room = Room::new();
    let maildir = format!(
        "[[transport]]\nmatch = \"receiver.test\"\nmaildir = {{ path = \"{}/mx/mail/{{user}}\" }}\n",
        room.path().display()
    );
    let mx = Merpati::mx(&room, &maildir);
    let port = mx.address.port();
    let ours = end_entity(mx.home());
    let authority = room.trust_anchor();
    let strange = format!("3 1 1 {}", "5a".repeat(32));
    // Its certificate is for hosts below `merpati.test`.
    let rows = [
        ("ee", "ee.merpati.test", Some(&ours), "Verified TLS connection"),
        ("ta", "ta.merpati.test", Some(&authority), "Verified TLS connection"),
        ("eename", "mx.elsewhere.test", Some(&ours), "Verified TLS connection"),
        ("taname", "mx2.elsewhere.test", Some(&authority), "num=62:hostname mismatch"),
        ("strange", "strange.merpati.test", Some(&strange), "Untrusted TLS connection"),
        ("forged", "forged.merpati.test", Some(&ours), "TLSA lookup error"),
        ("nothing", "nothing.merpati.test", None, "Untrusted TLS connection"),
    ];
    let mut zone = String::new();
    for (domain, host, record, _) in &rows {
        zone += &format!("{domain}.test MX 10 {host}\n{host} A 127.0.0.1\n");
        if let Some(record) = record {
            zone += &format!("_{port}._tcp.{host} TLSA {record}\n");
        }
    }
    zone += &format!("_{port}._tcp.forged.merpati.test FORGED TLSA\n");
    room.sign(&zone);
    let _unbound = unbound(&room);
    let config = room.directory("fingers", 0);
    let main = "compatibility_level = 3.6\ninet_protocols = ipv4\nsmtp_dns_support_level = dnssec\n\
                smtp_tls_security_level = dane\nmyhostname = fingers.test\n";
    fs::write(config.join("main.cf"), main).unwrap();
    let wrong: Vec<_> = rows
        .iter()
        .filter_map(|(domain, _, _, expected)| {
            let told = fingers(&config, &format!("{domain}.test:{port}"));
            (!told.contains(expected)).then(|| format!("{domain}: no {expected} in\n{told}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
