//! A Postfix of our own that relays to a sink, for comparison.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::until;

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running Postfix; it is stopped when this is dropped.
pub struct Postfix {
    /// Where it takes mail.
    pub address: SocketAddr,
    /// Its master process.
    pub pid: u32,
    home: TempDir,
}

impl Postfix {
    /// Starts one that sends everything to `sink`; `None` where there is no Postfix, or not the
    /// right to start it.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(sink: SocketAddr) -> Result<Option<Self>> {
        Self::start_in(&std::env::temp_dir(), sink)
    }

    /// The same, with its queue below `base`. Mail to `held.test` it holds.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_in(base: &Path, sink: SocketAddr) -> Result<Option<Self>> {
        let root = rustix::process::geteuid().is_root();
        if !root || !Path::new("/usr/sbin/postfix").exists() {
            return Ok(None);
        }
        let home = tempfile::tempdir_in(base)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        write(home.path(), port, sink)?;
        let run = |word: &str| postfix(home.path(), word);
        ensure!(run("start")?, "postfix does not start");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pid_file = home.path().join("queue/pid/master.pid");
        let up = || std::net::TcpStream::connect(address).is_ok();
        ensure!(until::holds(START_LIMIT, up), "postfix does not listen");
        let pid = fs::read_to_string(pid_file)?.trim().parse().context("master.pid")?;
        Ok(Some(Self { address, pid, home }))
    }

    /// Lets go all that it holds.
    ///
    /// # Errors
    /// Its tools fail.
    pub fn release_all(&self) -> Result<()> {
        let etc = self.home.path().join("etc");
        let run = |tool: &str, args: &[&str]| {
            let mut command = Command::new(Path::new("/usr/sbin").join(tool));
            command.arg("-c").arg(&etc).args(args).stdout(Stdio::null()).stderr(Stdio::null());
            command.status()
        };
        ensure!(run("postsuper", &["-H", "ALL"])?.success(), "postsuper -H fails");
        ensure!(run("postqueue", &["-f"])?.success(), "postqueue -f fails");
        Ok(())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = postfix(self.home.path(), "stop");
    }
}

fn postfix(home: &Path, word: &str) -> Result<bool> {
    let mut command = Command::new("/usr/sbin/postfix");
    command.arg("-c").arg(home.join("etc")).arg(word).stdout(Stdio::null());
    Ok(command.status()?.success())
}

/// Its configuration: many processes, no look-ups, a log that goes to a file.
fn write(home: &Path, port: u16, sink: SocketAddr) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
    for directory in ["etc", "queue", "data"] {
        fs::create_dir(home.join(directory))?;
    }
    let id = Command::new("id").args(["-u", "postfix"]).output()?;
    let postfix = String::from_utf8(id.stdout)?.trim().parse().context("the user postfix")?;
    chown(home.join("data"), Some(postfix), None)?;
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {home}/queue\ndata_directory = {home}/data\n\
         myhostname = postfix.test\nmydestination =\ninet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nrelayhost = [{ip}]:{sink_port}\n\
         smtp_host_lookup = native\ndefault_process_limit = 200\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n\
         default_destination_concurrency_limit = 50\ninitial_destination_concurrency = 50\n\
         smtpd_tls_security_level = none\nsmtp_tls_security_level = none\n\
         maillog_file = {home}/queue/mail.log\nmaillog_file_prefixes = {home}\n\
         alias_maps =\nalias_database =\n\
         smtp_destination_rate_delay = 0\nin_flow_delay = 0\n\
         qmgr_message_active_limit = 100000\nenable_long_queue_ids = yes\n\
         smtpd_recipient_restrictions =\n \
         check_recipient_access inline:{{ {{ held.test = HOLD }} }}\n \
         permit_mynetworks\n reject\n",
        home = home.display(),
        ip = sink.ip(),
        sink_port = sink.port(),
    );
    fs::write(home.join("etc/main.cf"), main)?;
    let service =
        |name: &str, kind: &str, private: &str, wakeup: &str, most: &str, command: &str| {
            format!("{name} {kind} {private} - n {wakeup} {most} {command}\n")
        };
    let mut master = service(&format!("127.0.0.1:{port}"), "inet", "n", "-", "-", "smtpd");
    master += &service("pickup", "unix", "n", "60", "1", "pickup");
    master += &service("cleanup", "unix", "n", "-", "0", "cleanup");
    master += &service("qmgr", "unix", "n", "300", "1", "qmgr");
    master += &service("rewrite", "unix", "-", "-", "-", "trivial-rewrite");
    master += &service("smtp", "unix", "-", "-", "-", "smtp");
    for name in ["bounce", "defer", "trace"] {
        master += &service(name, "unix", "-", "-", "0", "bounce");
    }
    master += &service("proxymap", "unix", "-", "-", "-", "proxymap");
    master += &service("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr");
    master += &service("error", "unix", "-", "-", "-", "error");
    master += &service("anvil", "unix", "-", "-", "1", "anvil");
    master += &service("scache", "unix", "-", "-", "1", "scache");
    master += &service("flush", "unix", "n", "1000?", "0", "flush");
    master += &service("postlog", "unix-dgram", "n", "-", "1", "postlogd");
    fs::write(home.join("etc/master.cf"), master)?;
    Ok(())
}
