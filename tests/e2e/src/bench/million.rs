//! A queue that is long.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::ours::Relay;
use super::tool::{self, Sink};
use super::{CLIENTS, Plan, SIZE, median};
use crate::until;

/// Messages that are released, to a site that takes them.
const LIVE: u64 = 10_000;
/// New messages a second meanwhile, and for how many seconds.
const RATE: u64 = 500;
const SECONDS: u64 = 20;
/// How long the index may take to be whole.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn measure(plan: &Plan) -> Result<Value> {
    let messages = plan.scaled(1_000_000, 100_000);
    let mut sink = Sink::start(&plan.binaries, RATE)?;
    let begun = Instant::now();
    let mut full = Relay::start_with(plan, sink.address, |spool| fill(spool, messages))?;
    eprintln!("{messages} messages put in, and the server up, after {:.0?}", begun.elapsed());
    wait_until_whole(&full)?;
    let rss_started = full.resident_kib()?;
    let (accept_full, accept_empty) = accept(plan, &full, &sink)?;
    let rss_loaded = full.resident_kib()?;
    let stats = stats(&full)?;
    let restart = full.kill_and_restart()?;
    wait_until_whole(&full)?;
    let (released, p99, count) = release(plan, &full, &mut sink)?;
    let rss_end = full.resident_kib()?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    Ok(json!({
        "messages": messages,
        "accept_ratio": accept_full / accept_empty,
        "accept_per_s": accept_full,
        "accept_empty_per_s": accept_empty,
        "restart_s": restart.as_secs_f64(),
        "rss_mib": mib(rss_started.max(rss_loaded).max(rss_end)),
        "rss_started_mib": mib(rss_started),
        "rss_loaded_mib": mib(rss_loaded),
        "rss_end_mib": mib(rss_end),
        "stats_s": stats,
        "released": count,
        "released_s": released.as_secs_f64(),
        "new_p99_ms": p99,
    }))
}

/// Has a process of its own fill the spool: its memory is not the server's.
fn fill(spool: &Path, messages: u64) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .args(["fill", &messages.to_string(), &LIVE.to_string()])
        .arg(spool)
        .status()?;
    ensure!(status.success(), "the spool cannot be filled");
    Ok(())
}

fn wait_until_whole(relay: &Relay) -> Result<()> {
    let whole = || relay.queue(&["stats"]).is_ok_and(|stats| stats["loading"] != true);
    ensure!(until::holds(WHOLE_LIMIT, whole), "the index does not become whole");
    Ok(())
}

/// Messages a second with the queue, and without.
fn accept(plan: &Plan, full: &Relay, sink: &Sink) -> Result<(f64, f64)> {
    let messages = plan.scaled(20_000, 10_000).to_string();
    let (clients, size) = (CLIENTS.to_string(), SIZE.to_string());
    let args = [
        "--messages",
        &messages,
        "--connections",
        &clients,
        "--size",
        &size,
        "--rcpt",
        "user{n}@held.test",
    ];
    let rate = |relay: &Relay| -> Result<f64> {
        let counts = tool::send(&plan.binaries, relay.address, &args)?;
        Ok(counts["per_s"].as_f64().unwrap_or_default())
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let empty = Relay::start(plan, sink.address)?;
        without.push(rate(&empty)?);
        drop(empty);
        with.push(rate(full)?);
    }
    Ok((median(with), median(without)))
}

/// Seconds until the tool has counted the queue.
fn stats(relay: &Relay) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        relay.queue(&["stats"])?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(median(times))
}

/// Has all that can be delivered be delivered, while new mail comes; says how long that took, the
/// p99 of the new mail in milliseconds, and how many were released.
fn release(plan: &Plan, relay: &Relay, sink: &mut Sink) -> Result<(Duration, f64, u64)> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (rate, seconds) = (RATE.to_string(), SECONDS.to_string());
            let (clients, size) = (CLIENTS.to_string(), SIZE.to_string());
            let args = [
                "--rate",
                &rate,
                "--seconds",
                &seconds,
                "--connections",
                &clients,
                "--size",
                &size,
                "--rcpt",
                "user{n}@sink.test",
            ];
            tool::send(&plan.binaries, relay.address, &args)
        });
        let begun = Instant::now();
        relay.queue(&["retry", "--domain", "live.test"])?;
        sink.wait_for(LIVE + RATE * SECONDS)?;
        let took = begun.elapsed();
        let counts = sending.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a panic")))?;
        let p99 = counts["latency_ms"]["p99"].as_f64().unwrap_or_default();
        Ok((took, p99, LIVE))
    })
}
