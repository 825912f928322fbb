//! What a demo is made of: directories, ports, keys, users, a zone, three configuration files.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use merpati_types::Secret;

use super::pki::{Authority, owner_only};
use super::servers::Servers;

/// The user that servers become when the demo is run by root.
const NOBODY: u32 = 65_534;

/// Everything a demo consists of, on disk.
pub struct Layout {
    /// The directory that holds everything.
    pub dir: PathBuf,
    /// The authority's certificate, PEM.
    pub ca: PathBuf,
    /// The DNS server.
    pub dns: SocketAddr,
    /// Submission by STARTTLS.
    pub starttls: SocketAddr,
    /// Submission over TLS.
    pub tls: SocketAddr,
    /// The relay.
    pub relay: SocketAddr,
    /// The MX.
    pub mx: SocketAddr,
    /// Every user's password.
    pub password: String,
    /// Bob's Maildir.
    pub maildir: PathBuf,
    /// The line in each configuration that names the user to become; empty if not root.
    user: &'static str,
}

/// A user who sends.
pub const ALICE: &str = "alice@sender.test";
/// A user who receives.
pub const BOB: &str = "bob@receiver.test";
/// More mailboxes and users, so that tests have somebody to write to and from.
const OTHERS: [&str; 2] = ["carol@sender.test", "ünï@sender.test"];

impl Layout {
    /// Makes everything in `dir`, which is empty.
    ///
    /// # Errors
    /// What the system said.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let authority = Authority::create(dir)?;
        let ports = free_ports()?;
        let layout = Self {
            dir: dir.to_owned(),
            ca: authority.certificate.clone(),
            dns: ports[0],
            starttls: ports[1],
            tls: ports[2],
            relay: ports[3],
            mx: ports[4],
            password: password()?,
            maildir: dir.join("mail/receiver.test/bob/Maildir"),
            user: if serves_as_nobody()? { "user = \"nobody\"\n" } else { "" },
        };
        fs::write(dir.join("zone.txt"), layout.zone())?;
        for (role, name) in [
            ("submission", "mail.sender.test"),
            ("relay", "relay.sender.test"),
            ("mx", "mx.receiver.test"),
        ] {
            let home = dir.join(role);
            fs::create_dir_all(home.join("state"))?;
            authority.issue(&home, name)?;
        }
        fs::create_dir_all(dir.join("mail"))?;
        layout.write_users()?;
        layout.write_recipients()?;
        fs::write(dir.join("submission/submission.toml"), layout.submission())?;
        fs::write(dir.join("relay/relay.toml"), layout.relay())?;
        fs::write(dir.join("mx/mx.toml"), layout.mx())?;
        Ok(layout)
    }

    /// Where receiver.test and sender.test take mail.
    #[must_use]
    pub fn zone(&self) -> String {
        "receiver.test MX 10 mx.receiver.test\n\
         mx.receiver.test A 127.0.0.1\n\
         sender.test MX 10 mx.receiver.test\n\
         mail.sender.test A 127.0.0.1\n\
         relay.sender.test A 127.0.0.1\n\
         nomail.test MX 0 .\n\
         broken.test SERVFAIL\n"
            .to_owned()
    }

    /// The configuration file of a role: `submission`, `relay` or `mx`.
    #[must_use]
    pub fn config(&self, role: &str) -> PathBuf {
        self.dir.join(role).join(format!("{role}.toml"))
    }

    /// The admin socket of a role.
    #[must_use]
    pub fn admin(&self, role: &str) -> PathBuf {
        self.dir.join(role).join("state/admin.sock")
    }

    /// The log of a role.
    #[must_use]
    pub fn log(&self, role: &str) -> PathBuf {
        self.dir.join(role).join("log.txt")
    }

    /// The message that the demo sends, CRLF line ends.
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "From: Alice <{ALICE}>\r\nTo: Bob <{BOB}>\r\nSubject: A pigeon\r\n\
             Date: Mon, 23 Nov 2026 08:00:00 +0000\r\nMessage-ID: <pigeon@sender.test>\r\n\r\n\
             Coo.\r\n.\r\n..\r\nIt has crossed three servers.\r\n"
        )
    }

    /// Hands the servers' directories to the user that they become.
    ///
    /// # Errors
    /// What the system said.
    pub fn give_away(&self) -> io::Result<()> {
        if self.user.is_empty() {
            return Ok(());
        }
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755))?;
        for part in ["submission", "relay", "mx", "mail"] {
            chown_all(&self.dir.join(part))?;
        }
        Ok(())
    }

    /// The line that other programs rely on.
    #[must_use]
    pub fn json(&self, servers: &Servers) -> String {
        let server = |role: &str, mut ports: serde_json::Value| {
            ports["pid"] = servers.pid(role).into();
            ports["config"] = self.config(role).to_string_lossy().into();
            ports["admin"] = self.admin(role).to_string_lossy().into();
            ports
        };
        let address = |address: SocketAddr| address.to_string();
        let user = |login: &str| serde_json::json!({ "login": login, "password": self.password });
        let users: Vec<_> = [ALICE].iter().chain(&OTHERS).map(|login| user(login)).collect();
        serde_json::json!({
            "dir": self.dir,
            "ca": self.ca,
            "dns": address(self.dns),
            "submission": server("submission", serde_json::json!({
                "starttls": address(self.starttls), "tls": address(self.tls) })),
            "relay": server("relay", serde_json::json!({ "smtp": address(self.relay) })),
            "mx": server("mx", serde_json::json!({ "smtp": address(self.mx) })),
            "users": users,
            "mailboxes": self.mailboxes(),
        })
        .to_string()
    }

    /// The Maildir of an address.
    #[must_use]
    pub fn mailbox(&self, address: &str) -> PathBuf {
        let (local, domain) = address.split_once('@').unwrap_or((address, ""));
        self.dir.join("mail").join(domain).join(directory(local)).join("Maildir")
    }

    fn mailboxes(&self) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for address in recipients() {
            let path = self.mailbox(&address);
            all.insert(address.clone(), path.to_string_lossy().into());
        }
        all.into()
    }

    fn write_users(&self) -> io::Result<()> {
        let mut lines = String::new();
        for login in [ALICE].iter().chain(&OTHERS) {
            let hash = merpati_auth::hash_password(&Secret::new(self.password.clone()))
                .map_err(io::Error::other)?;
            lines += &format!("{login}:{hash}\n");
        }
        let file = self.dir.join("submission/users");
        fs::write(&file, lines)?;
        owner_only(&file)
    }

    fn write_recipients(&self) -> io::Result<()> {
        fs::write(self.dir.join("mx/recipients"), recipients().join("\n") + "\n")
    }

    fn common(&self, role: &str, hostname: &str) -> String {
        let home = self.dir.join(role);
        format!(
            "hostname = \"{hostname}\"\nstate_dir = \"{home}/state\"\n{user}\n\
             [[tls.certificate]]\ncert = \"{home}/{hostname}.pem\"\nkey = \"{home}/{hostname}.key\"\n\n\
             [limits]\nconnections_per_address = 1000\n\n\
             [dns]\nservers = [\"{dns}\"]\ndnssec = \"off\"\n\n",
            home = home.display(),
            user = self.user,
            dns = self.dns,
        )
    }

    fn submission(&self) -> String {
        self.common("submission", "mail.sender.test")
            + &format!(
                "[[listen]]\naddress = \"{}\"\nname = \"submission\"\ntls = \"starttls-required\"\n\n\
                 [[listen]]\naddress = \"{}\"\nname = \"submissions\"\ntls = \"implicit\"\n\n\
                 [auth]\nuse = \"file\"\nfile = \"users\"\n\n\
                 # Everything goes to the relay.\n\
                 [[transport]]\nmatch = \"*\"\n\
                 smtp = {{ host = \"relay.sender.test\", port = {}, tls = \"verify\", ca = \"{}\" }}\n",
                self.starttls,
                self.tls,
                self.relay.port(),
                self.ca.display(),
            )
    }

    fn relay(&self) -> String {
        self.common("relay", "relay.sender.test")
            + &format!(
                "[[listen]]\naddress = \"{}\"\n\n\
                 [[policy]]\nuse = \"trusted\"\nnetworks = [\"127.0.0.0/8\"]\n\n\
                 # Mail exchangers listen on the demo's port instead of 25.\n\
                 [deliver]\nport = {}\nignore = []\n",
                self.relay,
                self.mx.port(),
            )
    }

    fn mx(&self) -> String {
        self.common("mx", "mx.receiver.test")
            + &format!(
                "[[listen]]\naddress = \"{}\"\n\n\
                 [[policy]]\nuse = \"recipients\"\ndomains = [\"receiver.test\", \"sender.test\"]\n\
                 file = \"recipients\"\n\n\
                 [[transport]]\nmatch = [\"receiver.test\", \"sender.test\"]\n\
                 maildir = {{ path = \"{}/mail/{{domain}}/{{user}}/Maildir\" }}\n",
                self.mx,
                self.dir.display(),
            )
    }
}

/// Everybody who has a mailbox.
fn recipients() -> Vec<String> {
    let mut all = vec![BOB.to_owned(), "postmaster@receiver.test".to_owned()];
    all.push("üser@receiver.test".to_owned());
    all.extend([ALICE.to_owned(), "postmaster@sender.test".to_owned()]);
    all.extend(OTHERS.map(str::to_owned));
    all.extend((1..=100).map(|number| format!("user{number}@receiver.test")));
    all
}

/// A local part as the Maildir transport writes it in a path.
fn directory(local: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+=.".contains(&byte);
    let one =
        |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    local.bytes().map(one).collect()
}

/// Ports that are free for TCP and UDP now. Configuration files name concrete ports, so they are
/// chosen before the servers bind them.
fn free_ports() -> io::Result<Vec<SocketAddr>> {
    let mut held = Vec::new();
    while held.len() < 5 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = tcp.local_addr()?;
        if let Ok(udp) = UdpSocket::bind(address) {
            held.push((address, tcp, udp));
        }
    }
    Ok(held.iter().map(|(address, ..)| *address).collect())
}

fn password() -> io::Result<String> {
    let mut random = [0; 12];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether the servers become `nobody`: they do when the road is built by root, as whom they do
/// not serve.
///
/// # Errors
/// What the system said.
pub fn serves_as_nobody() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

fn chown_all(path: &Path) -> io::Result<()> {
    chown(path, Some(NOBODY), None)?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            chown_all(&entry?.path())?;
        }
    }
    Ok(())
}
