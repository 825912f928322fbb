//! relay → HAProxy and MicroSocks → mx.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::mail::{Mail, maildir};
use crate::merpati::Merpati;
use crate::process::Process;
use crate::room::{NOBODY, Room, free_address};
use crate::sender::Sender;

/// What is unpacked and not installed, since installing it would start it.
fn unpacked(path: &str) -> PathBuf {
    let root = std::env::var_os("MERPATI_PEERS_ROOT")
        .expect("`cargo xtask test --peers` says where packages were unpacked");
    PathBuf::from(root).join(path)
}

/// Starts a proxy that says nothing, and waits until somebody listens.
fn listening(name: &str, command: Command, address: SocketAddr) -> Process {
    let process = Process::spawn(name, command);
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "{name} does not listen");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    process
}

/// As its manual has it for connections from where the header says.
fn haproxy(room: &Room) -> (Process, SocketAddr) {
    let address = free_address();
    let config = room.path().join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen out\n  bind {address} accept-proxy\n  source 0.0.0.0 usesrc clientip\n  \
         server host 0.0.0.0\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(unpacked("haproxy/usr/sbin/haproxy"));
    command.arg("-db").arg("-f").arg(config);
    (listening("haproxy", command, address), address)
}

fn microsocks(from: &str) -> (Process, SocketAddr) {
    let address = free_address();
    let mut command = Command::new(unpacked("microsocks/usr/bin/microsocks"));
    command.args(["-i", "127.0.0.1", "-p", &address.port().to_string(), "-b", from]);
    command.args(["-u", "us", "-P", "open sesame"]);
    (listening("microsocks", command, address), address)
}

#[test]
fn mail_goes_out_from_where_the_proxies_send() {
    let room = Room::new();
    let mail_at = format!("{}/mx/mail/{{user}}", room.path().display());
    let transport = format!("[[transport]]\nmatch = \"*\"\nmaildir = {{ path = \"{mail_at}\" }}\n");
    let mx = Merpati::mx(&room, &transport);
    let (_haproxy, haproxy) = haproxy(&room);
    let (_microsocks, microsocks) = microsocks("127.0.0.8");
    let password = room.path().join("password");
    std::fs::write(&password, "open sesame\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&password, Some(NOBODY), None).unwrap();
    let sources = format!(
        "[[source]]\nname = \"haproxy\"\naddresses = [\"127.0.0.7\"]\nhello = \"out7.merpati.test\"\n\
         via = {{ haproxy = \"{haproxy}\" }}\n\n\
         [[source]]\nname = \"socks\"\nhello = \"out8.merpati.test\"\n\
         via = {{ socks5 = \"{microsocks}\", user = \"us\", password = {{ file = \"{}\" }} }}\n\n\
         [[route]]\nrecipient = \"bob@*\"\nsource_pool = \"haproxy\"\n\n\
         [[route]]\nsource_pool = \"socks\"\n",
        password.display(),
    );
    let relay = Merpati::relay(&room, mx.address.port(), &sources);
    let to = ["bob", "carol"].map(|local| format!("{local}@receiver.test")).to_vec();
    let mail = Mail { to, ..Mail::new("proxies", b"Coo.\r\n") };
    Sender::connect(relay.address).send(&mail);
    relay.process.log.wait("source=\"haproxy\"");
    relay.process.log.wait("source=\"socks\"");
    mail.assert_arrived(|local| mx.mailbox(local));
    for (local, number) in [("bob", 7), ("carol", 8)] {
        let stored = maildir(&mx.mailbox(local));
        let text = String::from_utf8_lossy(&stored[0]);
        let (_, trace) = text.split_once("Received: from ").unwrap();
        let (trace, _) = trace.split_once(" by mx.merpati.test").unwrap_or((trace, ""));
        let first: String = trace.lines().take(2).collect();
        assert!(first.starts_with(&format!("out{number}.merpati.test")), "{text}");
        assert!(first.contains(&format!("[127.0.0.{number}]")), "{text}");
    }
}
