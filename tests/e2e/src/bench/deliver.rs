//! Delivering alone: what waits in a queue goes to one site, ours beside Postfix's.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::mail::send;
use super::ours::Relay;
use super::tool::Sink;
use super::{Plan, median};
use crate::soak::postfix::Postfix;
use crate::{process, until};

use super::mail::AFTERWARDS;

/// How one turn went.
struct Turn {
    per_s: f64,
    cpu_ms: f64,
    connections: f64,
}

pub(super) fn measure(plan: &Plan) -> Result<Value> {
    let messages = plan.scaled(20_000, 4_000);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let mut sink = Sink::start(&plan.binaries, messages)?;
        let relay = Relay::start(plan, sink.address)?;
        send(plan, relay.address, "user{n}@held.test", messages, &[])?;
        ours.push(deliver(&mut sink, messages, relay.pid(), || {
            relay.queue(&["release", "--all"]).map(drop)
        })?);
        drop(relay);
        let mut sink = Sink::start(&plan.binaries, messages)?;
        let Some(postfix) = Postfix::start_in(&plan.base, sink.address)? else {
            eprintln!("SKIPPED: Postfix is not installed, or we are not root and cannot start it");
            continue;
        };
        send(plan, postfix.address, "user{n}@held.test", messages, &[])?;
        theirs.push(deliver(&mut sink, messages, postfix.pid, || postfix.release_all())?);
    }
    let of = |turns: &[Turn], each: fn(&Turn) -> f64| {
        (!turns.is_empty()).then(|| median(turns.iter().map(each).collect()))
    };
    Ok(json!({
        "messages": messages,
        "ours_per_s": of(&ours, |turn| turn.per_s),
        "ours_cpu_ms": of(&ours, |turn| turn.cpu_ms),
        "ours_connections": of(&ours, |turn| turn.connections),
        "postfix_per_s": of(&theirs, |turn| turn.per_s),
        "postfix_cpu_ms": of(&theirs, |turn| turn.cpu_ms),
        "postfix_connections": of(&theirs, |turn| turn.connections),
    }))
}

/// Lets go what is held, and waits until all of it has come.
fn deliver(
    sink: &mut Sink,
    messages: u64,
    pid: u32,
    release: impl FnOnce() -> Result<()>,
) -> Result<Turn> {
    until::pass(AFTERWARDS);
    let before = process::family_cpu_ms(pid);
    let begun = Instant::now();
    release()?;
    sink.wait_for(messages)?;
    let took = begun.elapsed();
    until::pass(AFTERWARDS);
    let cpu_ms = process::family_cpu_ms(pid) - before;
    Ok(Turn {
        per_s: messages as f64 / took.as_secs_f64(),
        cpu_ms: cpu_ms / messages as f64,
        connections: sink.connections() as f64,
    })
}
