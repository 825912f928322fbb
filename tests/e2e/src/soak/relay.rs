//! Many small messages through a relay to a sink.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::mail::message;
use crate::process;
use crate::sink::Sink;
use crate::smtp::{By, Mail, Smtp};
use crate::until;

const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// How much passes.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Messages.
    pub messages: usize,
    /// Sessions that hand them over.
    pub clients: usize,
    /// Octets of a message.
    pub size: usize,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// From the first connection to the last message in the sink.
    pub took: Duration,
    /// From the first connection to the last 250.
    pub accepted: Duration,
    /// Of the server's processes, in milliseconds.
    pub cpu_ms: f64,
    /// The most that was resident at once in all processes of the server, in KiB.
    pub peak_kib: u64,
}

/// A server's processes, added up over time: some end before the load does.
struct Watched {
    root: u32,
    /// Whether the root has children who work.
    family: bool,
}

impl Watched {
    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.root];
        if self.family {
            pids.extend(process::descendants(self.root));
        }
        pids
    }
}

/// Hands messages for `sink.test` to the relay at `relay`, whose process is `pid`.
///
/// # Errors
/// A message is refused, or does not reach the sink.
pub fn run(
    relay: SocketAddr,
    pid: u32,
    family: bool,
    sink: &Sink,
    extent: Extent,
) -> Result<Figures> {
    let watched = Watched { root: pid, family };
    let before = watched.pids().iter().filter_map(|pid| process::cpu_ms(*pid).ok()).sum::<f64>();
    let already = sink.messages();
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&watched, &done));
        let sent = hand_over(relay, extent, "b@sink.test");
        let accepted = begun.elapsed();
        let all = || sink.messages() - already >= extent.messages;
        let arrived = sent.is_ok() && until::holds(ARRIVAL_LIMIT, all);
        let took = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        let (cpu_ms, peak_kib) = watching.join().unwrap_or_default();
        sent?;
        ensure!(arrived, "{} messages reached the sink", sink.messages() - already);
        Ok(Figures { took, accepted, cpu_ms: cpu_ms - before, peak_kib })
    })
}

/// Until `done`: the processor time of all that were seen, and the most memory at one moment. A
/// single process knows its own peak better.
fn watch(watched: &Watched, done: &AtomicBool) -> (f64, u64) {
    let mut cpu = std::collections::BTreeMap::new();
    let mut peak = 0;
    loop {
        let ended = done.load(Ordering::Relaxed);
        let mut resident = 0;
        for pid in watched.pids() {
            if let Ok(used) = process::cpu_ms(pid) {
                cpu.insert(pid, used);
            }
            resident += if watched.family {
                process::resident_kib(pid).unwrap_or(0)
            } else {
                process::peak_kib(pid).unwrap_or(0)
            };
        }
        peak = peak.max(resident);
        if ended {
            return (cpu.values().sum(), peak);
        }
        // Looking costs time of the machine that is measured.
        let _ = until::holds(Duration::from_millis(100), || done.load(Ordering::Relaxed));
    }
}

/// Hands messages for `to` over.
///
/// # Errors
/// One is refused.
pub fn hand_over(relay: SocketAddr, extent: Extent, to: &str) -> Result<()> {
    let next = AtomicUsize::new(0);
    let line = "The quick brown fox jumps over the lazy dog, and 1234567890 again.\r\n";
    let body: Vec<u8> = line.bytes().cycle().take(extent.size).collect();
    let body = &body[..body.len() - body.len() % line.len()];
    let client = || -> Result<()> {
        let mut client = Smtp::plain(relay)?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= extent.messages {
                client.say("QUIT")?;
                return Ok(());
            }
            let content = message(&number.to_string(), "a@client.test", body);
            let to = &[to];
            let (from, by) = ("a@client.test", By::Data);
            client.send(&Mail { from, to, parameters: "", content: &content, by })?;
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..extent.clients).map(|_| scope.spawn(client)).collect();
        let join = |client: thread::ScopedJoinHandle<'_, Result<()>>| {
            client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        };
        clients.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}
