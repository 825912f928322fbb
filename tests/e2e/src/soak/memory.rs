//! Large messages, many at once, and the memory that servers take for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::demo::{Demo, ROLES};
use crate::mail::{delivered, message};
use crate::process;
use crate::smtp::{By, Mail};
use crate::until;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// How much passes.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Messages.
    pub messages: usize,
    /// How many are handed over at once.
    pub at_once: usize,
    /// Octets each.
    pub size: usize,
}

/// Passes messages from submission to bob; answers the most memory that each server has had
/// resident, in KiB, and how long it took.
///
/// # Errors
/// A message does not arrive, or not whole.
pub fn run(demo: &Demo, extent: Extent) -> Result<(Vec<(&'static str, u64)>, Duration)> {
    let begun = Instant::now();
    let line = format!("{}\r\n", "QUJD".repeat(19));
    let body: Vec<u8> = line.bytes().cycle().take(extent.size - extent.size % line.len()).collect();
    let next = AtomicUsize::new(0);
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let client = || -> Result<()> {
            let mut client = demo.submit_as(ALICE)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= extent.messages {
                    return Ok(());
                }
                let content = message(&number.to_string(), ALICE, &body);
                let by = if number.is_multiple_of(2) { By::Data } else { By::Chunks(1 << 20) };
                let mail = Mail { from: ALICE, to: &[BOB], parameters: "", content: &content, by };
                client.send(&mail)?;
            }
        };
        let clients: Vec<_> = (0..extent.at_once).map(|_| scope.spawn(client)).collect();
        let join = |client: thread::ScopedJoinHandle<'_, Result<()>>| {
            client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        };
        clients.into_iter().map(join).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    let all = || delivered(demo.maildir(BOB)).len() >= extent.messages;
    ensure!(until::holds(ARRIVAL_LIMIT, all), "not all arrived:\n{}", demo.tail("relay"));
    let took = begun.elapsed();
    for file in delivered(demo.maildir(BOB)) {
        ensure!(crate::mail::read(&file)?.ends_with(&body), "{} is not whole", file.display());
    }
    let peak = |role: &&'static str| Ok((*role, process::peak_kib(demo.pid(role))?));
    Ok((ROLES.iter().map(peak).collect::<Result<_>>()?, took))
}
