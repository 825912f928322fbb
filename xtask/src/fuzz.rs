//! `cargo xtask fuzz`: every fuzz target for a while, with a summary of all.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Where the targets are.
const PACKAGE: &str = "tests/fuzz";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run each target, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Run only these targets.
    targets: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let installed = nightly()
        .args(["fuzz", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        bail!("fuzzing needs `rustup toolchain install nightly` and `cargo install cargo-fuzz`");
    }
    let known = targets(&workspace.root.join(PACKAGE))?;
    if let Some(unknown) = args.targets.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target {unknown}: there are {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    let mut failed = false;
    let mut summary = String::new();
    for target in chosen {
        eprintln!("== {target}");
        let passed = fuzz(workspace, target, args.seconds)?;
        failed |= !passed;
        let verdict = if passed { "no finding" } else { "FINDING" };
        summary += &format!("{target:16} {:5} s  {verdict}\n", args.seconds);
    }
    eprint!("\n{summary}");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The nightly cargo, which libFuzzer's instrumentation needs.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).env_remove("CARGO");
    command
}

/// The names of the targets, in order.
fn targets(package: &Path) -> Result<Vec<String>> {
    let directory = package.join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let (Some(name), Some("rs")) = (
            path.file_stem().and_then(|name| name.to_str()),
            path.extension().and_then(|e| e.to_str()),
        ) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the target runs that long without a finding. What it collects goes below the build
/// directory: the corpora of the tree are seeds and findings, chosen by hand.
fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<bool> {
    let build = workspace.target_directory()?.join("fuzz");
    let collected = build.join("corpus").join(target);
    let findings = build.join("findings").join(target);
    for directory in [&collected, &findings] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let mut command = nightly();
    command.args(["fuzz", "run", "--fuzz-dir", PACKAGE, "--target-dir"]).arg(&build).arg(target);
    command.arg(&collected).arg(Path::new(PACKAGE).join("corpus").join(target));
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.args(["-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"]);
    let status = command
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .status()
        .context("running cargo fuzz")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus() {
        let workspace = Workspace::open().unwrap();
        let package = workspace.root.join(PACKAGE);
        let targets = targets(&package).unwrap();
        assert!(targets.contains(&"data_bdat".to_owned()));
        for target in targets {
            assert!(package.join("corpus").join(&target).is_dir(), "{target} has no corpus");
        }
    }
}
