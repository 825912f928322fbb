//! The project's own commands: the gates every change passes, and the tests behind them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::lint::{Gate, rfcs};
use crate::workspace::Workspace;

mod bench;
mod crash;
mod demo;
mod fuzz;
mod lint;
mod soak;
mod test;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cut the power of a simulated disk thousands of times.
    Crash(crash::Args),
    /// Send a real message through three real servers on loopback.
    Demo(demo::Args),
    /// Check the tree: every gate runs and every finding is said; exit 1 if there is one.
    Lint {
        /// Run only these gates (comma-separated).
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Gate>,
    },
    /// Check the edges between crates; short for `lint --only arrows`.
    Arrows,
    /// Show the table of supported RFCs.
    Rfcs {
        /// Write it into README.md.
        #[arg(long)]
        write: bool,
    },
    /// Run the fuzz targets; needs a nightly toolchain and cargo-fuzz.
    Fuzz(fuzz::Args),
    /// Measure the servers, and Postfix beside them.
    Bench(bench::Args),
    /// Put load on the servers: memory, kill, relay.
    Soak(soak::Args),
    /// Run the tests.
    Test(test::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    match cli.command {
        Command::Crash(args) => crash::run(&workspace, &args),
        Command::Demo(args) => demo::run(&workspace, &args),
        Command::Lint { only } => lint::run(&workspace, &only),
        Command::Arrows => lint::run(&workspace, &[Gate::Arrows]),
        Command::Rfcs { write: true } => rfcs::write(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Rfcs { write: false } => rfcs::show(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Fuzz(args) => fuzz::run(&workspace, &args),
        Command::Bench(args) => bench::run(&workspace, &args),
        Command::Soak(args) => soak::run(&workspace, &args),
        Command::Test(args) => test::run(&workspace, &args),
    }
}
