//! The gates: what must hold of the tree before a change lands.
//!
//! Gates over the tree's own text are pure functions from data to [`Finding`]s; the others run a
//! tool, which prints what it finds itself. All of them run, whatever the earlier ones found.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::workspace::Workspace;

mod arrows;
pub(crate) mod rfcs;
mod tidy;
mod tools;

/// One gate. The order is the order of running: the quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gate {
    /// rustfmt would change nothing.
    Fmt,
    /// Dependencies go only where `xtask/arrows.toml` lets them.
    Arrows,
    /// Files and functions are short, documented, and free of left-overs.
    Tidy,
    /// The README's table of RFCs is the data file's, and its evidence exists.
    Rfcs,
    /// Licences, sources and banned crates, by cargo-deny.
    Deny,
    /// clippy has nothing to say.
    Clippy,
    /// rustdoc has nothing to say.
    Doc,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root; the name of a tool that prints its own findings.
    pub(crate) path: PathBuf,
    /// Counted from 1; `None` when it is about the whole file.
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
}

impl Finding {
    fn at(path: impl Into<PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: Some(line), message: message.into() }
    }

    fn of(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// Runs the gates in `only`, or all of them if it is empty.
pub(crate) fn run(workspace: &Workspace, only: &[Gate]) -> Result<ExitCode> {
    let start = Instant::now();
    let mut failed = Vec::new();
    for gate in Gate::value_variants() {
        if !only.is_empty() && !only.contains(gate) {
            continue;
        }
        let name = gate.to_string();
        eprintln!("== {name}");
        let begun = Instant::now();
        // A gate that cannot run says so as a finding: the others still have their say.
        let findings = gate.check(workspace).unwrap_or_else(|error| {
            vec![Finding::of(name.as_str(), format!("cannot check: {error:#}"))]
        });
        for finding in &findings {
            println!("{finding}");
        }
        eprintln!("   {} in {:.1} s", verdict(findings.len()), begun.elapsed().as_secs_f64());
        if !findings.is_empty() {
            failed.push(name);
        }
    }
    eprintln!();
    eprint!("lint: {:.1} s, ", start.elapsed().as_secs_f64());
    if failed.is_empty() {
        eprintln!("clean");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn verdict(findings: usize) -> String {
    match findings {
        0 => "clean".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    }
}

impl Gate {
    fn check(self, workspace: &Workspace) -> Result<Vec<Finding>> {
        match self {
            Self::Fmt => tools::fmt(workspace),
            Self::Arrows => arrows::gate(workspace),
            Self::Tidy => tidy::gate(workspace),
            Self::Rfcs => rfcs::gate(workspace),
            Self::Deny => tools::deny(workspace),
            Self::Clippy => tools::clippy(workspace),
            Self::Doc => tools::doc(workspace),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no gate is hidden from the command line");
        f.write_str(value.get_name())
    }
}
