//! `cargo xtask test`: every kind of test, one after the other, with a summary of all.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::workspace::{DATABASES, Package, Workspace};

mod peers;

/// The package of tests against outside software.
const PEERS: &str = "merpati-peers";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Test against the outside software of tests/peers too; as root, install it first.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "smoke")]
    peers: Option<Extent>,
    /// Leave out documentation examples and fuzz corpora.
    #[arg(long)]
    quick: bool,
}

/// How much of the peers' tests to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extent {
    /// One case a peer.
    Smoke,
    /// The full matrices.
    All,
}

/// What became of one kind of test.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let packages = workspace.packages()?;
    let runner = Runner::find(workspace);
    let mut steps = vec![step("tests", || passes(runner.tests(workspace, &packages)))?];
    if args.quick {
        for name in ["examples", "fuzz corpora", "databases"] {
            steps.push(step(name, || Ok(Outcome::Skipped("--quick".to_owned())))?);
        }
    } else {
        steps.push(step("examples", || passes(examples(workspace)))?);
        steps.push(step("fuzz corpora", || corpora(workspace, &packages))?);
        steps.push(step("databases", || passes(databases(workspace)))?);
    }
    steps.push(step("peers", || match args.peers {
        None => Ok(Outcome::Skipped("not asked for: --peers".to_owned())),
        Some(extent) => peers::run(workspace, &packages, runner, extent),
    })?);
    let (summary, passed) = summary(&steps, start.elapsed());
    eprint!("{summary}");
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step(name: &'static str, run: impl FnOnce() -> Result<Outcome>) -> Result<Step> {
    eprintln!("== {name}");
    let begun = Instant::now();
    let outcome = run().with_context(|| format!("running the {name}"))?;
    Ok(Step { name, outcome, took: begun.elapsed() })
}

/// The summary, and whether all is well.
fn summary(steps: &[Step], total: Duration) -> (String, bool) {
    let mut out = String::from("\n");
    for step in steps {
        let verdict = match &step.outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::Skipped(why) => format!("SKIPPED ({why})"),
        };
        out += &format!("{:13} {:7.1} s  {verdict}\n", step.name, step.took.as_secs_f64());
    }
    let failed = steps.iter().any(|step| step.outcome == Outcome::Failed);
    let verdict = if failed { "FAILED" } else { "passed" };
    out += &format!("{:13} {:7.1} s  {verdict}\n", "test", total.as_secs_f64());
    (out, !failed)
}

/// What runs the tests: nextest where there is one, else cargo itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn find(workspace: &Workspace) -> Self {
        let mut command = workspace.cargo(&["nextest", "--version"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Self::Nextest,
            _ => Self::Cargo,
        }
    }

    /// All but the peers. With nextest they are built along, so that one set of features, and
    /// with it one build of each dependency, serves both.
    fn tests(self, workspace: &Workspace, packages: &[Package]) -> Command {
        let mut command = match self {
            Self::Nextest => nextest(workspace, "default"),
            Self::Cargo => {
                workspace.cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
            }
        };
        if has(packages, PEERS) {
            match self {
                Self::Nextest => command.args(["-E", &format!("not package({PEERS})")]),
                Self::Cargo => command.args(["--exclude", PEERS]),
            };
        }
        command
    }

    /// The peers alone, one test at a time.
    fn peers(self, workspace: &Workspace) -> Command {
        match self {
            Self::Nextest => {
                let mut command = nextest(workspace, "peers");
                command.args(["-E", &format!("package({PEERS})")]);
                command
            }
            Self::Cargo => workspace.cargo(&[
                "test",
                "--no-fail-fast",
                "--package",
                PEERS,
                "--",
                "--test-threads=1",
            ]),
        }
    }
}

fn nextest(workspace: &Workspace, profile: &str) -> Command {
    let args = ["nextest", "run", "--config-file", "xtask/nextest.toml", "--workspace"];
    let mut command = workspace.cargo(&args);
    command.args(["--profile", profile]);
    command
}

fn examples(workspace: &Workspace) -> Command {
    workspace.cargo(&["test", "--workspace", "--doc", "--quiet"])
}

/// What is only built where it is asked for.
fn databases(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(&["test", "--quiet", "--no-fail-fast"]);
    command.args(DATABASES);
    command
}

/// Replays what the fuzz targets have collected. As a member of the workspace the package runs
/// with the other tests.
fn corpora(workspace: &Workspace, packages: &[Package]) -> Result<Outcome> {
    let manifest = "tests/fuzz/Cargo.toml";
    let path = workspace.root.join(manifest);
    if packages.iter().any(|package| package.manifest_path == path) {
        return Ok(Outcome::Skipped("they run with the tests".to_owned()));
    }
    if !path.exists() {
        return Ok(Outcome::Skipped(format!("there is no {manifest}")));
    }
    let mut command = workspace.cargo(&["test", "--manifest-path", manifest]);
    // What both workspaces depend on is built once.
    command.arg("--target-dir").arg(workspace.target_directory()?);
    passes(command)
}

fn has(packages: &[Package], name: &str) -> bool {
    packages.iter().any(|package| package.name == name)
}

fn passes(mut command: Command) -> Result<Outcome> {
    let status = command.stdin(Stdio::null()).status()?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(outcomes: &[Outcome]) -> Vec<Step> {
        let step = |outcome: &Outcome| Step {
            name: "tests",
            outcome: outcome.clone(),
            took: Duration::from_millis(1_500),
        };
        outcomes.iter().map(step).collect()
    }

    #[test]
    fn the_summary_names_what_was_skipped_and_fails_on_a_failure() {
        let skipped = Outcome::Skipped("no postfix".to_owned());
        let (text, passed) = summary(&steps(&[Outcome::Passed, skipped.clone()]), Duration::ZERO);
        assert!(passed);
        assert!(text.contains("tests             1.5 s  passed\n"), "{text}");
        assert!(text.contains("SKIPPED (no postfix)\n"), "{text}");
        let (text, passed) = summary(&steps(&[Outcome::Failed, skipped]), Duration::ZERO);
        assert!(!passed);
        assert!(text.ends_with("FAILED\n"), "{text}");
    }

    #[test]
    fn peers_run_only_when_asked_for() {
        let workspace = Workspace::open().unwrap();
        let peers = Package {
            name: PEERS.to_owned(),
            manifest_path: "tests/peers/Cargo.toml".into(),
            dependencies: Vec::new(),
        };
        for (runner, filter) in
            [(Runner::Nextest, "not package(merpati-peers)"), (Runner::Cargo, "merpati-peers")]
        {
            let with = runner.tests(&workspace, std::slice::from_ref(&peers));
            assert_eq!(with.get_args().last().unwrap(), filter);
            let without = runner.tests(&workspace, &[]);
            assert!(without.get_args().all(|arg| arg != filter));
        }
    }
}
