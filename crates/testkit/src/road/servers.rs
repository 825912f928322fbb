//! The three server processes.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::layout::Layout;

const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const ROLES: [&str; 3] = ["mx", "relay", "submission"];

/// The servers, started by us. Somebody else may end one and start it again: that one is theirs.
pub struct Servers(Vec<Server>);

struct Server {
    role: &'static str,
    pid: u32,
    /// Taken once the process has been waited for.
    child: Arc<Mutex<Option<Child>>>,
}

impl Servers {
    /// Starts the servers in `binaries`; their logs go to files.
    ///
    /// # Errors
    /// What the system said.
    pub fn start(layout: &Layout, binaries: &Path) -> io::Result<Self> {
        let mut servers = Self(Vec::new());
        for role in ROLES {
            let log = File::create(layout.log(role))?;
            let binary = binaries.join(format!("merpati-{role}"));
            let child = Command::new(&binary)
                .arg("--config")
                .arg(layout.config(role))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", binary.display()))
                })?;
            let pid = child.id();
            let child = Arc::new(Mutex::new(Some(child)));
            reap(&child);
            servers.0.push(Server { role, pid, child });
        }
        Ok(servers)
    }

    /// The process of a role.
    #[must_use]
    pub fn pid(&self, role: &str) -> u32 {
        self.0.iter().find(|server| server.role == role).map_or(0, |server| server.pid)
    }

    /// Waits until every port and admin socket answers.
    ///
    /// # Errors
    /// A server does not come up; its log was shown.
    pub fn wait_until_ready(&mut self, layout: &Layout) -> io::Result<()> {
        let ports = [
            ("mx", layout.mx),
            ("relay", layout.relay),
            ("submission", layout.starttls),
            ("submission", layout.tls),
        ];
        let began = Instant::now();
        for (role, port) in ports {
            let admin = layout.admin(role);
            // Ports are bound before anybody serves them.
            while TcpStream::connect(port).is_err() || UnixStream::connect(&admin).is_err() {
                if began.elapsed() > READY_LIMIT || !self.runs(role) {
                    self.show_logs(layout);
                    self.stop();
                    let text = format!("merpati-{role} does not answer on {port}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Shows the end of each server's log on standard error.
    pub fn show_logs(&self, layout: &Layout) {
        for server in &self.0 {
            let log = fs::read_to_string(layout.log(server.role)).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- the log of merpati-{}, latest first", server.role);
            for line in last {
                eprintln!("{line}");
            }
        }
    }

    fn runs(&self, role: &str) -> bool {
        self.0.iter().any(|server| server.role == role && lock(&server.child).is_some())
    }

    /// Asks every server that is still ours to stop, and sees to it that it does.
    pub fn stop(&mut self) {
        for server in &self.0 {
            if lock(&server.child).is_some() {
                let _ = Command::new("kill").arg(server.pid.to_string()).status();
            }
        }
        let began = Instant::now();
        for server in &self.0 {
            while lock(&server.child).is_some() && began.elapsed() < STOP_LIMIT {
                std::thread::sleep(Duration::from_millis(10));
            }
            if let Some(child) = lock(&server.child).as_mut() {
                let _ = child.kill();
            }
        }
    }
}

impl Drop for Servers {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Collects the exit status when the process ends, so that it leaves no zombie.
fn reap(child: &Arc<Mutex<Option<Child>>>) {
    let child = Arc::clone(child);
    std::thread::spawn(move || {
        loop {
            match lock(&child).as_mut().map(Child::try_wait) {
                Some(Ok(None)) => {}
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        lock(&child).take();
    });
}

fn lock(child: &Mutex<Option<Child>>) -> std::sync::MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
