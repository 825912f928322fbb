//! Runs scripts against a real server over TCP.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::certificate::Certificate;
use super::play::play;
use super::rules::Profile;
use super::wire::StreamPeer;
use super::{Case, Runner, ScriptError};

/// Whom a server becomes that root starts; everywhere the same number.
const NOBODY: u32 = 65_534;
/// How often a port that was free may be gone when the server binds it.
const PORT_ATTEMPTS: usize = 5;

/// Mailboxes of `receiver.test`, for the scripts to write to.
const RECIPIENTS: &str = "\
bob@receiver.test
carol@receiver.test
dave@receiver.test
bärbel@receiver.test
postmaster@receiver.test
";

/// `alice@sender.test` with the password `secret`, at the lowest cost there is.
const USERS: &str = "alice@sender.test:$argon2id$v=19$m=8,t=1,p=1$wkSlINVJPowoyrq5XgmVPg$\
                     fIvIKengzL5Sk6F6f2s8tMbSXoTpdgPfomZ+z9hL/kU\n";

/// A server process that is asked what scripts say. It is killed when this is dropped.
pub struct ServerRunner {
    child: Child,
    listeners: Vec<(Profile, SocketAddr)>,
    client: Arc<ClientConfig>,
    _directory: TempDir,
}

impl ServerRunner {
    /// The MX at `binary`: plays scripts of the profiles `mx` and `lmtp`.
    ///
    /// # Errors
    /// It cannot be configured or started.
    pub fn mx(binary: impl AsRef<Path>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let config = |directory: &Path, addresses: &[SocketAddr]| {
            format!(
                "[[listen]]\naddress = \"{}\"\n\n\
                 [[listen]]\naddress = \"{}\"\nprotocol = \"lmtp\"\n\n\
                 [[policy]]\nuse = \"recipients\"\ndomains = [\"receiver.test\"]\n\
                 file = \"recipients\"\nseparator = \"+\"\n\n\
                 [[transport]]\nmatch = [\"receiver.test\"]\n\
                 maildir = {{ path = \"{}/mail/{{domain}}/{{user}}\" }}\n",
                addresses[0],
                addresses[1],
                directory.display(),
            )
        };
        Self::start(binary.as_ref(), &[Profile::Mx, Profile::Lmtp], &config)
    }

    /// The relay at `binary`, which trusts us: plays scripts of the profile `relay`.
    ///
    /// # Errors
    /// It cannot be configured or started.
    pub fn relay(binary: impl AsRef<Path>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let config = |_: &Path, addresses: &[SocketAddr]| {
            format!(
                "[[listen]]\naddress = \"{}\"\n\n\
                 [[policy]]\nuse = \"trusted\"\nnetworks = [\"127.0.0.0/8\"]\n",
                addresses[0],
            )
        };
        Self::start(binary.as_ref(), &[Profile::Relay], &config)
    }

    /// The submission server at `binary`: plays scripts of the profile `submission`.
    ///
    /// # Errors
    /// It cannot be configured or started.
    pub fn submission(binary: impl AsRef<Path>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let config = |_: &Path, addresses: &[SocketAddr]| {
            format!(
                "[[listen]]\naddress = \"{}\"\ntls = \"starttls-required\"\n\n\
                 [auth]\nuse = \"file\"\nfile = \"users\"\n",
                addresses[0],
            )
        };
        Self::start(binary.as_ref(), &[Profile::Submission], &config)
    }

    fn start(
        binary: &Path,
        profiles: &[Profile],
        config: &dyn Fn(&Path, &[SocketAddr]) -> String,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        let certificate = Certificate::write(path)?;
        std::fs::create_dir(path.join("state"))?;
        std::fs::write(path.join("recipients"), RECIPIENTS)?;
        write_secret(&path.join("users"), USERS)?;
        let common = format!(
            "hostname = \"mail.test\"\nstate_dir = \"{}/state\"\n{}\n\
             [[tls.certificate]]\ncert = \"chain.pem\"\nkey = \"key.pem\"\n\n",
            path.display(),
            if is_root() { "user = \"nobody\"\n" } else { "" },
        );
        if is_root() {
            give_away(path)?;
        }
        for _ in 0..PORT_ATTEMPTS {
            let addresses = free_ports(profiles.len())?;
            let file = path.join("config.toml");
            std::fs::write(&file, common.clone() + &config(path, &addresses))?;
            if let Some(child) = serve(binary, &file)? {
                let listeners = profiles.iter().copied().zip(addresses).collect();
                let client = Arc::clone(&certificate.client);
                return Ok(Self { child, listeners, client, _directory: directory });
            }
        }
        Err("the server does not start; its log is above".into())
    }

    /// Whether this server is the one a script speaks with.
    #[must_use]
    pub fn plays(&self, case: &Case) -> bool {
        case.runs_on(Runner::Server) && self.address(case.setup.profile()).is_some()
    }

    /// Runs `case`. Messages that are kept are not compared: they are in mailboxes, with fields
    /// added.
    ///
    /// # Errors
    /// [`ScriptError`], at the first step that went another way.
    pub async fn run(&self, case: &Case) -> Result<(), ScriptError> {
        let failed = |reason: String| case.fails(0, reason);
        let address = self
            .address(case.setup.profile())
            .ok_or_else(|| failed("the server does not have the profile".to_owned()))?;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| failed(format!("cannot connect to {address}: {error}")))?;
        // Each write is a segment of its own, as far as that can be had.
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let name = ServerName::try_from("mail.test").expect("the name is a constant");
        let client = Arc::clone(&self.client);
        let mut peer = StreamPeer::new(stream, client, name, usize::MAX, || None);
        play(case, &mut peer).await
    }

    fn address(&self, profile: Profile) -> Option<SocketAddr> {
        self.listeners.iter().find(|(known, _)| *known == profile).map(|(_, address)| *address)
    }
}

impl Drop for ServerRunner {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server; `None` if it ended before it served.
fn serve(binary: &Path, config: &Path) -> std::io::Result<Option<Child>> {
    let mut child = Command::new(binary)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let Some(log) = child.stderr.take() else { return Ok(Some(child)) };
    let mut log = BufReader::new(log);
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        if line.contains(" serving ") {
            // The server must not wait for somebody to read its log.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok(Some(child));
        }
    }
    eprint!("{line}");
    child.wait()?;
    Ok(None)
}

fn free_ports(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Hands all to the user that the server becomes.
fn give_away(path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(NOBODY), None)?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
