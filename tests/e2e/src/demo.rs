//! The three servers of `cargo xtask demo --hold`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Origin};
use crate::smtp::Smtp;
use crate::until;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The roles, in the order a message passes them.
pub const ROLES: [&str; 3] = ["submission", "relay", "mx"];

/// A demo that runs until this is dropped.
pub struct Demo {
    child: Child,
    servers: BTreeMap<&'static str, Server>,
    mailboxes: BTreeMap<String, PathBuf>,
    /// The certificate authority, PEM.
    pub ca: PathBuf,
    /// Where everything of the demo is.
    pub dir: PathBuf,
    /// Of every user.
    pub password: String,
    _home: TempDir,
}

struct Server {
    origin: Origin,
    config: PathBuf,
    admin: PathBuf,
    pid: u32,
    /// What answers once it runs.
    ports: Vec<SocketAddr>,
    /// Ours if we have started it again.
    child: Option<Child>,
}

impl Demo {
    /// Builds and starts one in a temporary directory; with optimisation if `$MERPATI_RELEASE`
    /// is 1.
    ///
    /// # Errors
    /// It does not come up; it has said why on standard error.
    pub fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        // The servers become nobody where root starts them.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command
            .args(["run", "--quiet", "--package", "xtask", "--", "demo", "--hold", "--json"])
            .arg("--dir")
            .arg(home.path().join("demo"))
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            // Build scripts that watch these would run again.
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        if std::env::var_os("MERPATI_RELEASE").is_some_and(|value| value == "1") {
            command.arg("--release");
        }
        // An interrupt at the terminal ends the tests first, and with them the demo.
        command.process_group(0);
        let mut child = command.spawn().context("cannot start the demo")?;
        let mut line = String::new();
        let output = child.stdout.take().context("the demo has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        if line.is_empty() {
            child.wait()?;
            bail!("the demo did not come up");
        }
        let json: Value = serde_json::from_str(&line).context("the demo's line of JSON")?;
        Self::read(child, home, &json)
    }

    fn read(child: Child, home: TempDir, json: &Value) -> Result<Self> {
        let mut servers = BTreeMap::new();
        for role in ROLES {
            let told = &json[role];
            let pid = told["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            let pid = pid.context("a server's pid")?;
            let ports = ["tls", "starttls", "smtp"].iter().filter_map(|key| told[key].as_str());
            let ports = ports.map(str::parse).collect::<Result<_, _>>()?;
            let config = text(&told["config"])?.into();
            let admin = text(&told["admin"])?.into();
            let origin = process::origin(pid)?;
            servers.insert(role, Server { origin, config, admin, pid, ports, child: None });
        }
        let mut mailboxes = BTreeMap::new();
        for (address, path) in json["mailboxes"].as_object().context("the mailboxes")? {
            mailboxes.insert(address.clone(), text(path)?.into());
        }
        Ok(Self {
            child,
            servers,
            mailboxes,
            ca: text(&json["ca"])?.into(),
            dir: text(&json["dir"])?.into(),
            password: text(&json["users"][0]["password"])?,
            _home: home,
        })
    }

    /// Where a server listens; submission with TLS from the first byte.
    #[must_use]
    pub fn address(&self, role: &str) -> SocketAddr {
        self.servers[role].ports[0]
    }

    /// The process a server is.
    #[must_use]
    pub fn pid(&self, role: &str) -> u32 {
        self.servers[role].pid
    }

    /// A server's configuration file.
    #[must_use]
    pub fn config(&self, role: &str) -> &Path {
        &self.servers[role].config
    }

    /// A server's admin socket.
    #[must_use]
    pub fn admin(&self, role: &str) -> &Path {
        &self.servers[role].admin
    }

    /// Somebody's Maildir.
    ///
    /// # Panics
    /// Nobody of that address has one.
    #[must_use]
    pub fn maildir(&self, address: &str) -> &Path {
        &self.mailboxes[address]
    }

    /// A session with submission as a user.
    ///
    /// # Errors
    /// What went wrong.
    pub fn submit_as(&self, login: &str) -> io::Result<Smtp> {
        let mut client = Smtp::tls(self.address("submission"), "mail.sender.test", &self.ca)?;
        client.log_in(login, &self.password)?;
        Ok(client)
    }

    /// Ends a server at once, as `kill -9` does, and starts it again by its own argv.
    ///
    /// # Errors
    /// It does not come back.
    pub fn kill(&mut self, role: &str) -> Result<()> {
        self.end(role, Signal::KILL)?;
        self.start_again(role)
    }

    /// Changes a server's configuration file and restarts the server.
    ///
    /// # Errors
    /// It does not come back.
    pub fn reconfigure(&mut self, role: &str, change: impl Fn(String) -> String) -> Result<()> {
        let config = self.config(role).to_owned();
        let text = fs::read_to_string(&config)?;
        let changed = change(text.clone());
        ensure!(changed != text, "the configuration of {role} does not change");
        fs::write(&config, changed)?;
        self.end(role, Signal::TERM)?;
        self.start_again(role)
    }

    /// Has queues try again after a second what failed for a while.
    ///
    /// # Errors
    /// A server does not come back.
    pub fn retry_soon(&mut self) -> Result<()> {
        let soon = "retry_first = \"1s\"\nretry_most = \"1s\"\n";
        self.reconfigure("submission", |text| format!("{text}\n[deliver]\n{soon}"))?;
        self.reconfigure("relay", |text| text.replace("[deliver]\n", &format!("[deliver]\n{soon}")))
    }

    /// Sends a server a signal and waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(&mut self, role: &str, signal: Signal) -> Result<()> {
        let server = self.servers.get_mut(role).context("no such role")?;
        process::send(server.pid, signal)?;
        if let Some(mut child) = server.child.take() {
            child.wait()?;
        }
        process::wait_for_end(server.pid)
    }

    /// Starts a server that has ended, by its own argv.
    ///
    /// # Errors
    /// It does not come back.
    pub fn start_again(&mut self, role: &str) -> Result<()> {
        let log = File::options().append(true).open(self.log(role))?;
        let server = self.servers.get_mut(role).context("no such role")?;
        let mut child = Command::new(&server.origin.argv[0])
            .args(&server.origin.argv[1..])
            .current_dir(&server.origin.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        server.pid = child.id();
        for port in &server.ports {
            let up = until::within(START_LIMIT, || match child.try_wait() {
                Ok(None) => TcpStream::connect(port).is_ok().then_some(true),
                _ => Some(false),
            });
            ensure!(up == Some(true), "{role} does not come back; its log is {}", self.tail(role));
        }
        let server = self.servers.get_mut(role).context("no such role")?;
        server.child = Some(child);
        Ok(())
    }

    /// A server's log file.
    #[must_use]
    pub fn log(&self, role: &str) -> PathBuf {
        self.dir.join(role).join("log.txt")
    }

    /// The end of a server's log.
    #[must_use]
    pub fn tail(&self, role: &str) -> String {
        let log = fs::read_to_string(self.log(role)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for server in self.servers.values_mut() {
            if let Some(child) = &mut server.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let _ = process::send(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The workspace's root.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("the demo's JSON lacks something")?.to_owned())
}
