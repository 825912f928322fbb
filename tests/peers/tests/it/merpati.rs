//! Our servers, as real processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use merpati_testkit::road::build_servers;

use crate::process::Process;
use crate::room::{NOBODY, Room, free_address};

/// A running server.
pub(crate) struct Merpati {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    home: PathBuf,
}

impl Merpati {
    /// A relay that trusts loopback, delivers to `mx_port`, retries every second, and keeps mail
    /// to `sender.test` itself. `more` is added to its configuration.
    pub(crate) fn relay(room: &Room, mx_port: u16, more: &str) -> Self {
        Self::relay_with(room, mx_port, "", more)
    }

    /// The same, with more in `[deliver]` too.
    pub(crate) fn relay_with(room: &Room, mx_port: u16, deliver: &str, more: &str) -> Self {
        let config = format!(
            "[[policy]]\nuse = \"trusted\"\nnetworks = [\"127.0.0.0/8\"]\n\n\
             [deliver]\nport = {mx_port}\nignore = []\nretry_first = \"1s\"\nretry_most = \"1s\"\n\
             {deliver}\n[[transport]]\nmatch = \"sender.test\"\n\
             maildir = {{ path = \"{}/relay/mail/{{user}}\" }}\n\n{more}",
            room.path().display(),
        );
        Self::start(room, "relay", &config)
    }

    /// An MX for `receiver.test` and `sender.test`, whose recipients are those of the mails that
    /// cross. `transports` says where it puts them.
    pub(crate) fn mx(room: &Room, transports: &str) -> Self {
        let mut recipients = String::new();
        for local in ["bob", "carol", "dave", "postmaster", "üser"] {
            recipients += &format!("{local}@receiver.test\n");
        }
        for number in 1..=100 {
            recipients += &format!("user{number}@receiver.test\n");
        }
        recipients += "alice@sender.test\npostmaster@sender.test\n";
        let file = room.path().join("recipients");
        std::fs::write(&file, recipients).unwrap();
        let config = format!(
            "[[policy]]\nuse = \"recipients\"\ndomains = [\"receiver.test\", \"sender.test\"]\n\
             file = \"{}\"\n\n\
             [deliver]\nretry_first = \"1s\"\nretry_most = \"1s\"\n\n\
             {transports}",
            file.display(),
        );
        Self::start(room, "mx", &config)
    }

    /// Where its files are.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The Maildir of a local part, where the transport is `{home}/mail/{user}`.
    pub(crate) fn mailbox(&self, local: &str) -> PathBuf {
        let plain = |octet: u8| octet.is_ascii_alphanumeric();
        let name: String = local
            .bytes()
            .map(|octet| match octet {
                octet if plain(octet) => char::from(octet).to_string(),
                octet => format!("%{octet:02X}"),
            })
            .collect();
        self.home.join("mail").join(name)
    }

    fn start(room: &Room, role: &str, config: &str) -> Self {
        let home = room.directory(role, NOBODY);
        for part in ["state", "mail"] {
            room.directory(&format!("{role}/{part}"), NOBODY);
        }
        let host = format!("{role}.merpati.test");
        room.certificate(&home, &host, NOBODY);
        let address = free_address();
        let anchor = room.anchor().map(|anchor| format!("trust_anchor = {anchor:?}\n"));
        let config = format!(
            "hostname = \"{host}\"\nstate_dir = \"{home}/state\"\nuser = \"nobody\"\n\n\
             [log]\nlevel = \"debug\"\n\n\
             [[tls.certificate]]\ncert = \"{home}/chain.pem\"\nkey = \"{home}/key.pem\"\n\n\
             [dns]\nservers = [\"{dns}\"]\n{anchor}\n\
             [[listen]]\naddress = \"{address}\"\n\n{config}",
            home = home.display(),
            dns = room.dns(),
            anchor = anchor.unwrap_or_default(),
        );
        let file = home.join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(build_servers().unwrap().join(format!("merpati-{role}")));
        command.arg("--config").arg(&file);
        let process = Process::start(role, command, " serving ");
        Self { process, address, home }
    }
}
