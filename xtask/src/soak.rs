//! `cargo xtask soak`: load on optimised servers, by the program of that name in `tests/e2e`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which load, and how much; `--help` tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    load: Vec<OsString>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let program =
        ["run", "--quiet", "--release", "--package", "merpati-e2e", "--bin", "soak", "--"];
    let status = workspace.cargo(&program).args(&args.load).env("MERPATI_RELEASE", "1").status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
