//! `cargo xtask bench`: figures of optimised servers, by the program of that name in `tests/e2e`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured, and how much; `--help` tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    what: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let measured = ["build", "--quiet", "--release", "--package", "merpati", "--package"];
    let measured = [&measured[..], &["merpati-relay"]].concat();
    if !workspace.cargo(&measured).status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program =
        ["run", "--quiet", "--release", "--package", "merpati-e2e", "--bin", "bench", "--"];
    let status = workspace.cargo(&program).args(&args.what).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
