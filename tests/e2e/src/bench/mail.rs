//! Taking mail, and passing it on: ours, Postfix, and a sink.

use std::net::SocketAddr;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::ours::Relay;
use super::tool::{self, Sink};
use super::{CLIENTS, Plan, SIZE, median};
use crate::process;
use crate::soak::postfix::Postfix;
use crate::until;

/// After the last message, for what a server still has to do for it.
pub(super) const AFTERWARDS: Duration = Duration::from_millis(300);

/// How one turn went.
struct Turn {
    per_s: f64,
    /// Of the server's processes, for one message.
    cpu_ms: f64,
    p99_ms: f64,
}

/// How all turns went.
#[derive(Default)]
struct Turns(Vec<Turn>);

impl Turns {
    fn of(&self, each: impl Fn(&Turn) -> f64) -> f64 {
        median(self.0.iter().map(each).collect())
    }
}

/// Mail that is held.
pub(super) fn accept(plan: &Plan, args: &[&str]) -> Result<Value> {
    let measure = |to: SocketAddr, pid: u32, messages: u64| -> Result<Turn> {
        let send = |messages: u64| send(plan, to, "user{n}@held.test", messages, args);
        send(messages / 10)?;
        let before = process::family_cpu_ms(pid);
        let counts = send(messages)?;
        until::pass(AFTERWARDS);
        Ok(turn(&counts, process::family_cpu_ms(pid) - before, messages))
    };
    let sink = Sink::start(&plan.binaries, 1_000)?;
    compare(
        plan,
        || {
            let relay = Relay::start(plan, sink.address)?;
            measure(relay.address, relay.pid(), plan.scaled(20_000, 10_000))
        },
        || {
            let Some(postfix) = Postfix::start_in(&plan.base, sink.address)? else {
                return Ok(None);
            };
            measure(postfix.address, postfix.pid, plan.scaled(5_000, 2_500)).map(Some)
        },
        || {
            let messages = plan.scaled(20_000, 10_000);
            let counts = send(plan, sink.address, "user{n}@sink.test", messages, args)?;
            Ok(turn(&counts, 0.0, messages))
        },
    )
}

/// Mail to a sink.
pub(super) fn relay(plan: &Plan) -> Result<Value> {
    let measure = |sink: &mut Sink, to: SocketAddr, pid: u32, messages: u64| -> Result<Turn> {
        let send = |messages: u64| send(plan, to, "user{n}@sink.test", messages, &[]);
        send(messages / 10)?;
        sink.wait_for(messages / 10)?;
        let before = process::family_cpu_ms(pid);
        let begun = Instant::now();
        let counts = send(messages)?;
        sink.wait_for(messages / 10 * 11)?;
        let took = begun.elapsed();
        until::pass(AFTERWARDS);
        let turn = turn(&counts, process::family_cpu_ms(pid) - before, messages);
        Ok(Turn { per_s: messages as f64 / took.as_secs_f64(), ..turn })
    };
    compare(
        plan,
        || {
            let messages = plan.scaled(10_000, 6_000);
            let mut sink = Sink::start(&plan.binaries, messages / 10)?;
            let relay = Relay::start(plan, sink.address)?;
            measure(&mut sink, relay.address, relay.pid(), messages)
        },
        || {
            let messages = plan.scaled(4_000, 2_000);
            let mut sink = Sink::start(&plan.binaries, messages / 10)?;
            match Postfix::start_in(&plan.base, sink.address)? {
                Some(postfix) => {
                    measure(&mut sink, postfix.address, postfix.pid, messages).map(Some)
                }
                None => Ok(None),
            }
        },
        || {
            let messages = plan.scaled(20_000, 10_000);
            let sink = Sink::start(&plan.binaries, messages)?;
            let counts = send(plan, sink.address, "user{n}@sink.test", messages, &[])?;
            Ok(turn(&counts, 0.0, messages))
        },
    )
}

/// Lets them take turns.
fn compare(
    plan: &Plan,
    ours: impl Fn() -> Result<Turn>,
    theirs: impl Fn() -> Result<Option<Turn>>,
    floor: impl Fn() -> Result<Turn>,
) -> Result<Value> {
    let (mut our_turns, mut their_turns, mut floors) =
        (Turns::default(), Turns::default(), Turns::default());
    for _ in 0..plan.rounds {
        our_turns.0.push(ours()?);
        their_turns.0.extend(theirs()?);
        floors.0.push(floor()?);
    }
    let mut figures = json!({
        "ours_per_s": our_turns.of(|turn| turn.per_s),
        "ours_cpu_ms": our_turns.of(|turn| turn.cpu_ms),
        "ours_p99_ms": our_turns.of(|turn| turn.p99_ms),
        "postfix_per_s": null,
        "postfix_cpu_ms": null,
        "postfix_p99_ms": null,
        "floor_per_s": floors.of(|turn| turn.per_s),
        "floor_p99_ms": floors.of(|turn| turn.p99_ms),
    });
    if their_turns.0.is_empty() {
        eprintln!("SKIPPED: Postfix is not installed, or we are not root and cannot start it");
    } else {
        figures["postfix_per_s"] = their_turns.of(|turn| turn.per_s).into();
        figures["postfix_cpu_ms"] = their_turns.of(|turn| turn.cpu_ms).into();
        figures["postfix_p99_ms"] = their_turns.of(|turn| turn.p99_ms).into();
    }
    Ok(figures)
}

pub(super) fn send(
    plan: &Plan,
    to: SocketAddr,
    rcpt: &str,
    messages: u64,
    args: &[&str],
) -> Result<Value> {
    let (messages, size) = (messages.to_string(), SIZE.to_string());
    let clients = CLIENTS.to_string();
    let load =
        ["--messages", &messages, "--connections", &clients, "--size", &size, "--rcpt", rcpt];
    tool::send(&plan.binaries, to, &[&load[..], args].concat())
}

fn turn(counts: &Value, cpu_ms: f64, messages: u64) -> Turn {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    Turn {
        per_s: number(&counts["per_s"]),
        cpu_ms: cpu_ms / messages as f64,
        p99_ms: number(&counts["latency_ms"]["p99"]),
    }
}
