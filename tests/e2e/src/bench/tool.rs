//! `merpati load` as processes.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

/// Files that each process may have open.
const DESCRIPTORS: u64 = 65_536;

/// For us, and for those whom we start.
pub(super) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= DESCRIPTORS) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|most| most.max(DESCRIPTORS));
    let raised = Rlimit { current: Some(DESCRIPTORS), maximum };
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Who is not root makes do with what there is.
    setrlimit(Resource::Nofile, raised).or_else(|_| setrlimit(Resource::Nofile, most))?;
    Ok(())
}

/// A port that is free now.
pub(super) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Sends mail, and gives what the generator counted. No message may fail.
pub(super) fn send(binaries: &Path, to: SocketAddr, args: &[&str]) -> Result<Value> {
    let output = Command::new(binaries.join("merpati"))
        .args(["load", "send", "--json", "--to", &to.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("merpati load send")?;
    ensure!(output.status.success(), "merpati load send {args:?} fails");
    let counts: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(counts["failed"] == 0, "{to} did not take all: {counts}");
    Ok(counts)
}

/// `merpati load sink`; ended when this is dropped.
pub(super) struct Sink {
    child: Child,
    lines: BufReader<ChildStdout>,
    pub(super) address: SocketAddr,
    messages: u64,
    connections: u64,
}

impl Sink {
    /// Starts one that tells whenever `every` more messages have come.
    pub(super) fn start(binaries: &Path, every: u64) -> Result<Self> {
        let mut child = Command::new(binaries.join("merpati"))
            .args(["load", "sink", "--json", "--every", &every.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("merpati load sink")?;
        let mut lines = BufReader::new(child.stdout.take().context("the sink has an output")?);
        let told = line(&mut lines)?;
        let address = told["listening"].as_str().context("the sink's address")?.parse()?;
        Ok(Self { child, lines, address, messages: 0, connections: 0 })
    }

    /// Waits until so many have come in all; no two of them may be the same.
    pub(super) fn wait_for(&mut self, messages: u64) -> Result<()> {
        while self.messages < messages {
            let told = line(&mut self.lines)?;
            self.messages = told["messages"].as_u64().context("a number of messages")?;
            self.connections = told["connections"].as_u64().context("a number of connections")?;
            ensure!(told["repeated"] == 0, "a message came to the sink twice: {told}");
        }
        Ok(())
    }

    /// How many connections there had been when it last told.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Idle connections; closed when this is dropped.
pub(super) struct Idle {
    child: Child,
    /// They are held until it is closed.
    stdin: Option<ChildStdin>,
}

impl Idle {
    /// Opens so many.
    pub(super) fn open(binaries: &Path, to: SocketAddr, count: u64, args: &[&str]) -> Result<Self> {
        let mut child = Command::new(binaries.join("merpati"))
            .args(["load", "send", "--json", "--hold", "--to", &to.to_string()])
            .args(["--idle", &count.to_string()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("merpati load send --idle")?;
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().context("it has an output")?);
        let idle = Self { child, stdin };
        let told = line(&mut lines)?;
        ensure!(told["idle"] == count, "{told}");
        Ok(idle)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn line(lines: &mut BufReader<ChildStdout>) -> Result<Value> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    ensure!(!line.is_empty(), "merpati load ended too early");
    Ok(serde_json::from_str(&line)?)
}
