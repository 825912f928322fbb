//! `cargo xtask crash`: power cuts by the thousand, on a simulated disk.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::workspace::Workspace;

/// The packages with a campaign of crash tests.
const PACKAGES: [&str; 3] = ["merpati-journal", "merpati-ledger", "merpati-spool"];

/// How the lines of a campaign begin.
const LINE: &str = "crash: ";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many random lives each of journal and spool goes through.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Plant a fault, and fail unless it is noticed.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
}

/// A fault that the tests must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plant {
    /// The disk ignores every sync.
    NoSync,
    /// The spool believes its index, whatever the journal says.
    TrustIndex,
    /// The reply is given before the commit.
    EarlyReply,
}

impl Plant {
    /// Its name, as the tests know it.
    fn name(self) -> &'static str {
        match self {
            Self::NoSync => "no-sync",
            Self::TrustIndex => "trust-index",
            Self::EarlyReply => "early-reply",
        }
    }

    /// Who can notice it: the journal knows no index.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::TrustIndex => &PACKAGES[2..],
            Self::NoSync | Self::EarlyReply => &PACKAGES,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let packages = args.plant.map_or(&PACKAGES[..], Plant::packages);
    let mut total = Totals::default();
    let mut passed = true;
    for package in packages {
        let command = campaign(workspace, package, args);
        let (totals, ok) = follow(command).with_context(|| format!("running {package}'s tests"))?;
        if ok && totals.seeds == 0 {
            bail!("{package} has no campaign");
        }
        passed &= ok;
        total.add(totals);
    }
    let Totals { seeds, cuts, recoveries, lost } = total;
    match args.plant {
        Some(plant) if passed => println!("{} planted and noticed, {seeds} seeds", plant.name()),
        Some(plant) => println!("{} planted and NOT noticed", plant.name()),
        None => println!("{seeds} seeds, {cuts} power cuts, {recoveries} recoveries, {lost} lost"),
    }
    Ok(if passed && lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn campaign(workspace: &Workspace, package: &str, args: &Args) -> Command {
    let mut command = workspace.cargo(&["test", "--release", "--quiet", "--package", package]);
    command.args(["--lib", "--tests", "campaign", "--", "--nocapture"]);
    command.env("CRASH_SEEDS", args.seeds.to_string());
    command.env("CRASH_FIRST", args.first.to_string());
    command.env("CRASH_PLANT", args.plant.map_or("", Plant::name));
    // A seed that fails says why in one line.
    command.env("RUST_BACKTRACE", "0");
    command
}

/// What campaigns have run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    seeds: u64,
    cuts: u64,
    recoveries: u64,
    lost: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.cuts += other.cuts;
        self.recoveries += other.recoveries;
        self.lost += other.lost;
    }

    /// What a campaign's last line says, if this is one.
    fn parse(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix(LINE)?.split_once(": ")?;
        let mut totals = Self::default();
        for part in numbers.split(", ") {
            let (number, what) = part.split_once(' ')?;
            let place = match what.split(' ').next()? {
                "seeds" => &mut totals.seeds,
                "power" => &mut totals.cuts,
                "recoveries" => &mut totals.recoveries,
                "lost" => &mut totals.lost,
                _ => continue,
            };
            *place = number.parse().ok()?;
        }
        (totals.seeds > 0).then_some(totals)
    }
}

/// Shows the lines of a campaign and sums up what they say.
fn follow(mut command: Command) -> Result<(Totals, bool)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("the output is a pipe")?;
    let mut totals = Totals::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        // The test's own name may stand before the first line.
        let Some(at) = line.find(LINE) else { continue };
        println!("{}", &line[at..]);
        if let Some(more) = Totals::parse(&line[at..]) {
            totals.add(more);
        }
    }
    Ok((totals, child.wait()?.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_the_last_line_alone() {
        let line = "crash: merpati-journal: 500 seeds from 7, 30 power cuts, 40 recoveries, 2 lost, in 0.4 s";
        let expected = Totals { seeds: 500, cuts: 30, recoveries: 40, lost: 2 };
        assert_eq!(Totals::parse(line), Some(expected));
        for line in [
            "crash: merpati-journal: seed 29 FAILED: group 1, 2 lost",
            "crash: again: CRASH_FIRST=29 CRASH_SEEDS=1 cargo test -p merpati-journal campaign",
            "running 1 test",
        ] {
            assert_eq!(Totals::parse(line), None, "{line}");
        }
    }
}
