//! The tool against the admin API of a real spool with a few thousand messages.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use merpati_ops::{Activity, Admin, AdminSettings, Phase, Readiness, Serving};
use merpati_plugin::Spool;
use merpati_spool::{DiskSpool, Options};
use merpati_testkit::spool_contract::{message, put};
use merpati_types::{ReversePath, Timestamp};
use tokio::runtime::Runtime;

use super::{merpati, text};

const MESSAGES: usize = 3_000;

/// A spool, its admin API, and the tool's way to it.
struct Server {
    runtime: Runtime,
    spool: Arc<DiskSpool>,
    serving: Option<Serving>,
    directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let options = Options { min_free: 0, resident: 0, ..Options::default() };
        let (spool, _) = DiskSpool::open(&directory.path().join("spool"), options).unwrap();
        let spool = Arc::new(spool);
        let readiness = Readiness::default();
        readiness.set(Phase::Serving);
        let admin = Admin::new(AdminSettings {
            metrics: Arc::default(),
            readiness,
            activity: Arc::new(Activity::default()),
            spool: Arc::clone(&spool) as Arc<dyn Spool>,
            shedding: Arc::new(|| None),
            dnssec: Arc::new(merpati_ops::api::DnssecView::default),
            commands: Vec::new(),
        });
        let socket = directory.path().join("admin.sock");
        let serving = Some(runtime.block_on(admin.serve_unix(&socket)).unwrap());
        Self { runtime, spool, serving, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Puts messages in: all to `many.test`, each hundredth also to `few.test`.
    fn fill(&self) {
        let submit = async |number: usize| {
            let recipients: &[&str] = match number.is_multiple_of(100) {
                true => &["bob@many.test", "eve@few.test"],
                false => &["bob@many.test"],
            };
            let mut message = message(recipients);
            let sender = format!("<user{}@sender.test>", number % 10);
            message.envelope.sender = ReversePath::parse(&sender).unwrap();
            message.arrived = Timestamp::from_millis(1_700_000_000_000);
            let body = format!("Subject: {number}\r\n\r\nhello\r\n").into();
            put(&*self.spool, message, &body).await.unwrap();
        };
        self.runtime.block_on(async {
            for first in (0..MESSAGES).step_by(100) {
                let batch = (first..first + 100).map(submit);
                futures_util::future::join_all(batch).await;
            }
        });
    }

    fn counts(&self) -> (u64, u64) {
        let stats = self.runtime.block_on(self.spool.stats()).unwrap();
        (stats.active + stats.deferred, stats.held)
    }

    fn queue(&self, args: &[&str]) -> String {
        let socket = self.socket();
        let output = merpati(&[&["--admin", path(&socket), "queue"], args].concat(), "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    fn stop(mut self) {
        self.runtime.block_on(async {
            self.serving.take().unwrap().stop().await;
            self.spool.close().await;
        });
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn changes_thousands_by_filter() {
    let server = Server::start();
    server.fill();
    let all = MESSAGES as u64 + 30;
    assert_eq!(server.counts(), (all, 0));
    let held = server.queue(&["hold", "--sender", "user3@", "--reason", "why", "--step", "250"]);
    assert_eq!(held, "hold: 300\n");
    assert_eq!(server.counts(), (all - 300, 300));
    assert_eq!(server.queue(&["hold", "--site", "few.test", "--younger-than", "1h"]), "hold: 0\n");
    assert_eq!(server.queue(&["hold", "--site", "few.test", "--older-than", "1h"]), "hold: 30\n");
    assert_eq!(server.queue(&["list", "--state", "held"]).lines().count(), 2 * 330);
    assert_eq!(server.queue(&["list", "--error", "WHY", "--limit", "7"]).lines().count(), 14);
    assert_eq!(server.queue(&["release", "--error", "why", "--json"]), "{\"changed\":300}\n");
    assert_eq!(server.queue(&["delete", "--state", "held"]), "delete: 30\n");
    assert_eq!(server.queue(&["retry", "--all", "--step", "100"]), "retry: 3000\n");
    assert_eq!(server.queue(&["delete", "--all"]), "delete: 3000\n");
    assert_eq!(server.counts(), (0, 0));
    server.stop();
}

/// Steps before the operator interrupts.
const STEPS_BEFORE: usize = 3;

/// Passes one request on, and its answer back; false if there is none.
fn pass_on(client: &mut UnixStream, back: &Path) -> bool {
    let mut server = UnixStream::connect(back).unwrap();
    let mut buffer = [0; 4096];
    let length = client.read(&mut buffer).unwrap();
    server.write_all(&buffer[..length]).unwrap();
    if length > 0 {
        std::io::copy(&mut server, client).unwrap();
    }
    length > 0
}

#[test]
fn an_interrupt_does_no_harm_and_says_how_to_go_on() {
    let server = Server::start();
    server.fill();
    let all = MESSAGES as u64 + 30;
    let front = server.directory.path().join("front.sock");
    let listener = UnixListener::bind(&front).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_merpati"))
        .args(["--admin", path(&front), "queue", "hold", "--all", "--step", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let back = server.socket();
    let passed = std::thread::spawn(move || {
        for number in 1.. {
            let (mut client, _) = listener.accept().unwrap();
            if number == STEPS_BEFORE {
                rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            }
            if !pass_on(&mut client, &back) {
                break;
            }
        }
    });
    let output = child.wait_with_output().unwrap();
    // Whoever waits for another request hears that there is none.
    drop(UnixStream::connect(&front));
    passed.join().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let (_, held) = server.counts();
    assert!((1..all).contains(&held), "{held}");
    let told = said.strip_prefix(&format!("hold: stopped after {held}; the same command with "));
    let told = told.unwrap_or_else(|| panic!("{said}"));
    let after = told.strip_prefix("--after ").unwrap().strip_suffix(" goes on\n").unwrap();

    let rest = server.queue(&["hold", "--all", "--after", after]);
    assert_eq!(rest, format!("hold: {}\n", all - held));
    assert_eq!(server.counts(), (0, all));
    server.stop();
}
