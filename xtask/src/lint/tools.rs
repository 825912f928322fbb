//! Gates that run a tool: rustfmt, clippy, rustdoc, cargo-deny.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Finding;
use crate::workspace::{DATABASE_PEERS, DATABASES, Workspace};

/// The cargo-deny that is built when there is none.
const CARGO_DENY: &str = "0.20.2";

pub(super) fn fmt(workspace: &Workspace) -> Result<Vec<Finding>> {
    passes(workspace.cargo(&["fmt", "--all", "--check"]), "cargo fmt")
}

pub(super) fn clippy(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = workspace.cargo(&["clippy", "--workspace", "--all-targets", "--keep-going"]);
    command.args(["--quiet", "--", "-D", "warnings"]);
    let mut findings = passes(command, "cargo clippy")?;
    let mut command = workspace.cargo(&["clippy", "--all-targets", "--keep-going"]);
    command.args(DATABASES).args(DATABASE_PEERS).args(["--quiet", "--", "-D", "warnings"]);
    findings.extend(passes(command, "cargo clippy with databases")?);
    Ok(findings)
}

pub(super) fn doc(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command =
        workspace.cargo(&["doc", "--workspace", "--no-deps", "--keep-going", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    passes(command, "cargo doc")
}

/// Advisories are left out: their database is fetched from the network, and a change must not
/// fail for what was published since.
pub(super) fn deny(workspace: &Workspace) -> Result<Vec<Finding>> {
    let installed = workspace
        .cargo(&["deny", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        eprintln!("   cargo-deny is missing: installing it (some minutes, once)");
        let args = ["install", "cargo-deny", "--locked", "--version", CARGO_DENY];
        let findings = passes(workspace.cargo(&args), "cargo install cargo-deny")?;
        if !findings.is_empty() {
            return Ok(findings);
        }
    }
    // The graph names crates of other platforms too, which no build here has fetched.
    let findings = passes(workspace.cargo(&["fetch", "--locked", "--quiet"]), "cargo fetch")?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    let args = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    passes(workspace.cargo(&args), "cargo deny")
}

/// Runs a tool that prints its own findings.
fn passes(mut command: Command, name: &str) -> Result<Vec<Finding>> {
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("running {name}"))?;
    Ok(verdict(name, status.success()))
}

fn verdict(name: &str, passed: bool) -> Vec<Finding> {
    if passed {
        return Vec::new();
    }
    vec![Finding::of(name, "failed; what it found is above")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_a_finding() {
        let failed = passes(Command::new("false"), "the tool").unwrap();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].to_string().starts_with("the tool: failed"));
        assert_eq!(passes(Command::new("true"), "the tool").unwrap(), []);
    }

    #[test]
    fn a_missing_tool_is_an_error() {
        let error = passes(Command::new("merpati-no-such-tool"), "the tool").unwrap_err();
        assert_eq!(error.to_string(), "running the tool");
    }
}
