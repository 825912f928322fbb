//! `merpati spool`: a spool on the disk, while its server is down.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use merpati_spool::offline::{self, Offline, Repair, Severity};
use serde_json::json;

use crate::Told;
use crate::table::{align, size};

mod export;
mod write;

#[derive(Debug, Args)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// Reads everything and says what is wrong, and where; exit 1 if anything is
    Check(Place),
    /// Says what can be mended; with --yes, mends it
    Repair {
        #[command(flatten)]
        place: Place,
        /// Does it
        #[arg(long)]
        yes: bool,
    },
    /// Counts messages, and what they take on the disk
    Stats(Place),
    /// Writes messages to a Maildir, an mbox or files, with their envelopes
    Export(export::ExportArgs),
}

/// Where the spool is.
#[derive(Debug, Args)]
struct Place {
    /// The spool's directory, with `journal` in it
    #[arg(long, value_name = "DIR")]
    spool: PathBuf,
    /// Writes JSON: one object a line
    #[arg(long)]
    json: bool,
}

impl Place {
    fn open(&self) -> anyhow::Result<Offline> {
        Offline::open(&self.spool).with_context(|| self.spool.display().to_string())
    }
}

pub(crate) fn run(args: &SpoolArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &args.command {
        SpoolCommand::Check(place) => check(place),
        SpoolCommand::Repair { place, yes: false } => plan(place),
        SpoolCommand::Repair { place, yes: true } => runtime.block_on(repair(place)),
        SpoolCommand::Stats(place) => runtime.block_on(stats(place)),
        SpoolCommand::Export(args) => runtime.block_on(export::run(args)),
    }
}

fn check(place: &Place) -> anyhow::Result<()> {
    let offline = place.open()?;
    let mut out = io::stdout().lock();
    let mut told = Ok(());
    let mut wrong = 0_u64;
    offline.check(&mut |problem| {
        let severity = name(problem.severity);
        wrong += u64::from(problem.severity > Severity::Leftover);
        let line = if place.json {
            let message = problem.message.map(|id| id.to_string());
            let (place, what) = (&problem.place, &problem.what);
            json!({ "severity": severity, "place": place, "message": message, "what": what })
                .to_string()
        } else {
            format!("{severity}: {problem}")
        };
        if told.is_ok() {
            told = writeln!(out, "{line}");
        }
    })?;
    told?;
    if !place.json {
        let messages = offline.messages()?.len();
        writeln!(out, "{messages} messages, {wrong} problems")?;
    }
    out.flush()?;
    if wrong == 0 { Ok(()) } else { Err(Told::Unwell.into()) }
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Leftover => "left over",
        Severity::Index => "index",
        Severity::Dead => "dead",
        _ => "damage",
    }
}

fn plan(place: &Place) -> anyhow::Result<()> {
    let plan = Repair::plan(&place.open()?)?;
    show(place, &plan)?;
    if !place.json && !plan.is_empty() {
        writeln!(io::stdout(), "nothing was changed; --yes does it")?;
    }
    Ok(())
}

async fn repair(place: &Place) -> anyhow::Result<()> {
    let plan = Repair::plan(&place.open()?)?;
    show(place, &plan)?;
    if plan.is_empty() {
        return Ok(());
    }
    let (held, report) = offline::repair(&place.spool, &plan).await?;
    let messages = report.messages;
    if place.json {
        writeln!(io::stdout(), "{}", json!({ "held": held, "messages": messages }))?;
    } else {
        writeln!(io::stdout(), "done: {messages} messages are served, {held} parcels are held")?;
    }
    Ok(())
}

fn show(place: &Place, plan: &Repair) -> anyhow::Result<()> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    steps.extend(plan.index.iter().map(|why| ("make the index anew", why.clone())));
    steps.extend(plan.hold.iter().map(|(id, why)| ("hold", format!("{id}: {why}"))));
    steps.extend(plan.aside.iter().map(|problem| ("set aside", problem.to_string())));
    steps.extend(plan.rescue.iter().map(|name| ("move to set-aside", format!("bodies/{name}"))));
    steps.extend(plan.sweep.iter().map(|problem| ("clear away", problem.to_string())));
    let mut out = io::stdout().lock();
    for (step, what) in &steps {
        if place.json {
            writeln!(out, "{}", json!({ "step": step, "what": what }))?;
        } else {
            writeln!(out, "{step}: {what}")?;
        }
    }
    if steps.is_empty() && !place.json {
        writeln!(out, "there is nothing to mend")?;
    }
    Ok(())
}

async fn stats(place: &Place) -> anyhow::Result<()> {
    let offline = place.open()?;
    let (stats, usage) = (offline.spool().stats().await?, offline.usage()?);
    let dead = usage.journal_octets.saturating_sub(usage.live_octets);
    let mut out = io::stdout().lock();
    if place.json {
        let value = json!({
            "messages": stats.messages,
            "active": stats.active,
            "deferred": stats.deferred,
            "held": stats.held,
            "octets": stats.bytes,
            "segments": usage.segments,
            "journal_octets": usage.journal_octets,
            "live_octets": usage.live_octets,
            "dead_octets": dead,
            "body_files": usage.body_files,
            "body_octets": usage.body_octets,
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    let rows = [
        ("messages", stats.messages.to_string()),
        ("active", stats.active.to_string()),
        ("deferred", stats.deferred.to_string()),
        ("held", stats.held.to_string()),
        ("size", size(stats.bytes)),
        ("segments", usage.segments.to_string()),
        ("journal", size(usage.journal_octets)),
        ("  live", size(usage.live_octets)),
        ("  dead or free", size(dead)),
        ("body files", usage.body_files.to_string()),
        ("  size", size(usage.body_octets)),
    ];
    for line in align(&rows.map(|(name, value)| [name.to_owned(), value])) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
