//! `cargo xtask bench`: figures, and those of others beside them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use merpati_e2e::bench::{self, Part, Plan};

#[derive(Parser)]
#[command(name = "cargo xtask bench", disable_help_subcommand = true)]
struct Cli {
    /// One object of JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Less of everything, in under five minutes: 100,000 messages instead of a million
    #[arg(long)]
    quick: bool,
    /// Only these parts (comma-separated)
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Where spools and queues are, on the disk that is to be measured; default: beside the
    /// binaries
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// How often each is measured; default: 5, or 3 if it is to be quick
    #[arg(long)]
    rounds: Option<usize>,
    #[command(subcommand)]
    command: Option<Hidden>,
}

#[derive(Subcommand)]
enum Hidden {
    /// Puts deferred messages into a spool
    #[command(hide = true)]
    Fill { messages: u64, live: u64, spool: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if let Some(Hidden::Fill { messages, live, spool }) = cli.command {
        let runtime = tokio::runtime::Runtime::new()?;
        return runtime.block_on(bench::fill::fill(&spool, messages, live));
    }
    let program = std::env::current_exe()?;
    let binaries = program.parent().context("the program is in a directory")?;
    let plan = Plan {
        binaries: binaries.to_owned(),
        base: home(&cli.dir.unwrap_or_else(|| binaries.join("../bench")))?,
        rounds: cli.rounds.unwrap_or(if cli.quick { 3 } else { 5 }),
        quick: cli.quick,
        parts: if cli.only.is_empty() { Part::ALL.to_vec() } else { cli.only },
    };
    let figures = bench::run(&plan)?;
    if cli.json {
        println!("{figures}");
    } else {
        bench::print(&figures);
    }
    Ok(())
}

fn home(dir: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    Ok(dir.canonicalize()?)
}
