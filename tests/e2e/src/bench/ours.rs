//! A relay of ours, with mail to `held.test` held and everything else going to a sink.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::Plan;
use super::tool::free_port;
use crate::smtp::{By, Mail, Smtp};
use crate::{process, until};

/// The user that the server becomes where root starts it.
const NOBODY: u32 = 65_534;
/// Its name.
pub(super) const NAME: &str = "relay.bench.test";
const START_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    child: Child,
    binaries: PathBuf,
    home: TempDir,
}

impl Relay {
    /// Starts one with nothing in its queue.
    pub(super) fn start(plan: &Plan, sink: SocketAddr) -> Result<Self> {
        Self::start_with(plan, sink, |_| Ok(()))
    }

    /// Starts one that sends everything by MX, to hosts at `port`.
    pub(super) fn by_mx(plan: &Plan, dns: SocketAddr, port: u16) -> Result<Self> {
        let end = format!(
            "[deliver]\nport = {port}\nignore = []\ntls = \"none\"\n\n[dns]\nservers = [\"{dns}\"]\n"
        );
        Self::start_as(plan, &end, |_| Ok(()))
    }

    /// Starts one with what `fill` puts into the directory of its spool.
    pub(super) fn start_with(
        plan: &Plan,
        sink: SocketAddr,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        // As many to one site as the other has.
        let end = format!(
            "[[transport]]\nmatch = \"*\"\n\
             smtp = {{ host = \"[{}]\", port = {}, tls = \"none\" }}\n\n\
             [deliver]\nconcurrency_per_site = 50\n\n[dns]\nservers = [\"127.0.0.1:9\"]\n",
            sink.ip(),
            sink.port(),
        );
        Self::start_as(plan, &end, fill)
    }

    /// Starts one whose configuration ends so.
    fn start_as(plan: &Plan, end: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let home = tempfile::tempdir_in(&plan.base)?;
        let spool = home.path().join("state/spool");
        fs::create_dir_all(&spool)?;
        fill(&spool)?;
        let address = free_port()?;
        fs::write(home.path().join("relay.toml"), config(home.path(), address, end)?)?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
        if is_root() {
            give_away(home.path())?;
        }
        let child = spawn(&plan.binaries, home.path())?;
        let mut relay = Self { address, child, binaries: plan.binaries.clone(), home };
        relay.wait_until_up()?;
        Ok(relay)
    }

    /// Ends it as `kill -9` does, starts it again, and says how long it took until it had taken
    /// a message.
    pub(super) fn kill_and_restart(&mut self) -> Result<Duration> {
        process::send(self.pid(), Signal::KILL)?;
        self.child.wait()?;
        let begun = Instant::now();
        self.child = spawn(&self.binaries, self.home.path())?;
        let content = b"Subject: back\r\n\r\nAgain.\r\n";
        let mail = Mail {
            from: "a@sender.test",
            to: &["b@held.test"],
            parameters: "",
            content,
            by: By::Data,
        };
        let takes = || Smtp::plain(self.address).and_then(|mut client| client.send(&mail)).is_ok();
        ensure!(until::holds(START_LIMIT, takes), "the relay takes nothing after a restart");
        Ok(begun.elapsed())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it shows to those who start TLS; nobody else has signed it.
    pub(super) fn certificate(&self) -> PathBuf {
        self.home.path().join("cert.pem")
    }

    /// Memory resident now, in KiB.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        process::kib(self.pid(), "VmRSS:")
    }

    /// `merpati queue …`; gives the last line of JSON it writes.
    pub(super) fn queue(&self, args: &[&str]) -> Result<Value> {
        let output = Command::new(self.binaries.join("merpati"))
            .arg("--admin")
            .arg(self.home.path().join("state/admin.sock"))
            .args(["queue", "--json"])
            .args(args)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "merpati queue {args:?}: {said}");
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(text.lines().last().unwrap_or_default()).context("its JSON")
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let (address, child) = (self.address, &mut self.child);
        let up = until::within(START_LIMIT, || match child.try_wait() {
            Ok(None) => TcpStream::connect(address).is_ok().then_some(true),
            _ => Some(false),
        });
        let log = || fs::read_to_string(self.home.path().join("log.txt")).unwrap_or_default();
        ensure!(up == Some(true), "the relay does not start: {}", log());
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(binaries: &Path, home: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(home.join("log.txt"))?;
    Command::new(binaries.join("merpati-relay"))
        .arg("--config")
        .arg(home.join("relay.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("merpati-relay")
}

/// As it comes, but for limits on connections, and what `end` says.
fn config(home: &Path, address: SocketAddr, end: &str) -> Result<String> {
    let certified = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let (certificate, key) = (home.join("cert.pem"), home.join("key.pem"));
    fs::write(&certificate, certified.cert.pem())?;
    fs::write(&key, certified.signing_key.serialize_pem())?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(format!(
        "hostname = \"{NAME}\"\nstate_dir = \"{home}/state\"\n{user}\n\
         [[tls.certificate]]\ncert = \"{certificate}\"\nkey = \"{key}\"\n\n\
         [[listen]]\naddress = \"{address}\"\n\n\
         [limits]\nconnections = 20000\nconnections_per_address = 20000\n\
         transactions = 1000000\nidle = \"1h\"\n\n\
         [[policy]]\nuse = \"trusted\"\nnetworks = [\"127.0.0.0/8\"]\n\n\
         [[policy]]\nuse = \"hold\"\ndomains = [\"held.test\"]\n\n\
         {end}",
        home = home.display(),
        user = if is_root() { "user = \"nobody\"\n" } else { "" },
        certificate = certificate.display(),
        key = key.display(),
    ))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn give_away(path: &Path) -> Result<()> {
    chown(path, Some(NOBODY), None)?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}
