//! Connections that do nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::ours::{NAME, Relay};
use super::tool::{self, Idle, Sink};
use super::{Plan, SIZE};

const CONNECTIONS: u64 = 10_000;
/// Before memory is first looked at, so that what all connections share is there.
const WARM: u64 = 100;
/// New messages a second, and for how many seconds.
const RATE: u64 = 200;
const SECONDS: u64 = 5;

pub(super) fn measure(plan: &Plan) -> Result<Value> {
    let sink = Sink::start(&plan.binaries, 1_000)?;
    let relay = Relay::start(plan, sink.address)?;
    let certificate = relay.certificate();
    let certificate = certificate.to_str().context("a path in UTF-8")?;
    let tls = ["--tls", "starttls", "--ca", certificate, "--server-name", NAME];
    let send = || -> Result<f64> {
        let (rate, seconds, size) = (RATE.to_string(), SECONDS.to_string(), SIZE.to_string());
        let args = ["--rate", &rate, "--seconds", &seconds, "--size", &size];
        let counts = tool::send(
            &plan.binaries,
            relay.address,
            &[&args[..], &["--connections", "20", "--rcpt", "user{n}@held.test"], &tls].concat(),
        )?;
        Ok(counts["latency_ms"]["p99"].as_f64().unwrap_or_default())
    };
    drop(Idle::open(&plan.binaries, relay.address, WARM, &tls)?);
    let p99_before = send()?;
    let before = relay.resident_kib()?;
    let idle = Idle::open(&plan.binaries, relay.address, CONNECTIONS, &tls)?;
    let after = relay.resident_kib()?;
    let p99 = send()?;
    drop(idle);
    Ok(json!({
        "connections": CONNECTIONS,
        "kib_each": after.saturating_sub(before) as f64 / CONNECTIONS as f64,
        "rss_mib": after as f64 / 1024.0,
        "p99_ms": p99,
        "p99_without_ms": p99_before,
    }))
}
