//! `cargo xtask soak`: load on the three servers, and what it shows.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use merpati_e2e::demo::{Demo, ROLES};
use merpati_e2e::random;
use merpati_e2e::sink::{Sink, SinkSettings};
use merpati_e2e::soak::postfix::Postfix;
use merpati_e2e::soak::{dead_site, faults, kill, memory, relay};

/// What a server may have resident while large messages pass, in KiB.
const MEMORY_LIMIT: u64 = 64 * 1024;

/// How long mail for a live site may take beside mail for a dead one.
const LIVE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(name = "cargo xtask soak", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Pass large messages and say how much memory each server took; fail at 64 MiB.
    Memory {
        #[arg(long, default_value_t = 50)]
        messages: usize,
        #[arg(long, default_value_t = 10)]
        at_once: usize,
        /// Octets of a message.
        #[arg(long, default_value_t = 20 << 20)]
        size: usize,
    },
    /// Kill each server in turn while messages pass; fail if one that got its 250 is lost.
    Kill {
        /// Messages for each server.
        #[arg(long, default_value_t = 2_000)]
        messages: usize,
        /// Kills of each server.
        #[arg(long, default_value_t = 20)]
        kills: usize,
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Queue mail for a site that is dead, then a little for one that is not; fail if that takes
    /// more than two seconds.
    DeadSite {
        /// Messages for the dead site.
        #[arg(long, default_value_t = 50_000)]
        messages: usize,
    },
    /// Fill the relay's disk, make it fail, take away its index; fail if one that got its 250 is
    /// lost.
    Faults,
    /// Pass small messages through the relay to a sink, then the same through Postfix.
    Relay {
        #[arg(long, default_value_t = 5_000)]
        messages: usize,
        #[arg(long, default_value_t = 50)]
        clients: usize,
        /// Octets of a message.
        #[arg(long, default_value_t = 10_240)]
        size: usize,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().load {
        Load::Memory { messages, at_once, size } => {
            measure_memory(memory::Extent { messages, at_once, size })
        }
        Load::Kill { messages, kills, seed } => {
            let seed = seed.unwrap_or_else(random::seed);
            kill_each(kill::Extent { messages, kills, seed })
        }
        Load::DeadSite { messages } => pass_the_dead(messages),
        Load::Faults => fail_disks(),
        Load::Relay { messages, clients, size } => {
            measure_relay(relay::Extent { messages, clients, size })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_memory(extent: memory::Extent) -> Result<()> {
    let demo = Demo::start()?;
    let (peaks, took) = memory::run(&demo, extent)?;
    println!(
        "{} messages of {} octets, {} at once, in {:.1} s; all arrived whole",
        extent.messages,
        extent.size,
        extent.at_once,
        took.as_secs_f64()
    );
    println!("\n| server | peak memory, MiB |\n|---|---|");
    for (role, peak) in &peaks {
        println!("| {role} | {:.1} |", *peak as f64 / 1024.0);
    }
    ensure!(peaks.iter().all(|(_, peak)| *peak < MEMORY_LIMIT), "a server took 64 MiB or more");
    Ok(())
}

fn kill_each(extent: kill::Extent) -> Result<()> {
    println!("seed {}", extent.seed);
    let mut demo = Demo::start()?;
    demo.retry_soon()?;
    for role in ROLES {
        let found;
        (demo, found) = kill::run(demo, role, extent)?;
        println!("{role}: {found}");
    }
    Ok(())
}

fn pass_the_dead(messages: usize) -> Result<()> {
    for how in [dead_site::Dead::Refuses, dead_site::Dead::Silent] {
        let took = dead_site::run(how, messages)?;
        println!(
            "{messages} queued for a dead site ({how:?}); 100 for a live one left within {:.2} s",
            took.as_secs_f64()
        );
        ensure!(took < LIVE_LIMIT, "that is too long");
    }
    Ok(())
}

fn fail_disks() -> Result<()> {
    if !faults::can_mount() {
        println!("SKIPPED: file systems can be mounted by root only, with loop devices");
        return Ok(());
    }
    for case in [faults::full_disk, faults::read_only, || faults::index(100)] {
        println!("{}", case()?);
    }
    Ok(())
}

fn measure_relay(extent: relay::Extent) -> Result<()> {
    let sink = Sink::start(SinkSettings {
        extensions: &["PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"],
        ..SinkSettings::default()
    })?;
    let mut demo = Demo::start()?;
    let transport = format!(
        "\n[[transport]]\nmatch = \"*\"\n\
         smtp = {{ host = \"mail.sender.test\", port = {}, tls = \"none\" }}\n",
        sink.address.port()
    );
    demo.reconfigure("relay", |text| format!("{text}{transport}"))?;
    let ours = relay::run(demo.address("relay"), demo.pid("relay"), false, &sink, extent)?;
    drop(demo);
    let theirs = match Postfix::start(sink.address)? {
        Some(postfix) => Some(relay::run(postfix.address, postfix.pid, true, &sink, extent)?),
        None => None,
    };
    let relay::Extent { messages, clients, size } = extent;
    println!(
        "{messages} messages of {size} octets from {clients} clients through a relay to a sink\n"
    );
    println!("| relay | messages a second | accepted a second | CPU ms a message | memory, MiB |");
    println!("|---|---|---|---|---|");
    let count = messages as f64;
    for (name, figures) in [("merpati-relay", Some(ours)), ("Postfix", theirs)] {
        match figures {
            Some(figures) => println!(
                "| {name} | {:.0} | {:.0} | {:.3} | {:.1} |",
                count / figures.took.as_secs_f64(),
                count / figures.accepted.as_secs_f64(),
                figures.cpu_ms / count,
                figures.peak_kib as f64 / 1024.0
            ),
            None => println!("| {name} | SKIPPED: not installed, or not run by root | | | |"),
        }
    }
    Ok(())
}
