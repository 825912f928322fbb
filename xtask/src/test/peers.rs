//! Tests against outside software, which comes from Debian packages.
//!
//! `tests/peers/packages.txt` names one package a line. Some exclude each other, so `unpack NAME`
//! has the package's files put into `MERPATI_PEERS_ROOT/NAME` instead of installing it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Extent, Outcome, PEERS, Runner, has, passes};
use crate::workspace::{DATABASE_PEERS, Package, Workspace};

const LIST: &str = "tests/peers/packages.txt";

/// What the list asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    installed: Vec<String>,
    unpacked: Vec<String>,
}

pub(super) fn run(
    workspace: &Workspace,
    packages: &[Package],
    runner: Runner,
    extent: Extent,
) -> Result<Outcome> {
    if !has(packages, PEERS) {
        return Ok(Outcome::Skipped(format!("the workspace has no package {PEERS}")));
    }
    let wanted = parse(&fs::read_to_string(workspace.root.join(LIST)).context(LIST)?);
    let root = workspace.target_directory()?.join("peers");
    let missing = wanted.missing(&root);
    if !is_root() {
        let names = [missing.installed, missing.unpacked].concat().join(", ");
        let lacks = if names.is_empty() { names } else { format!("; not installed: {names}") };
        return Ok(Outcome::Skipped(format!("only root can start the peers{lacks}")));
    }
    if missing != Wanted::default() {
        missing.obtain(&root)?;
    }
    let extent = match extent {
        Extent::Smoke => "smoke",
        Extent::All => "all",
    };
    let with = |mut command: Command| {
        command.env("MERPATI_PEERS_ROOT", &root).env("MERPATI_PEERS", extent);
        passes(command)
    };
    let outcomes = [with(runner.peers(workspace))?, with(databases(workspace))?];
    let failed = outcomes.contains(&Outcome::Failed);
    Ok(if failed { Outcome::Failed } else { Outcome::Passed })
}

/// Those whose drivers are only built where they are asked for.
fn databases(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(&["test", "--no-fail-fast"]);
    command.args(DATABASE_PEERS).args(["databases::", "--", "--test-threads=1"]);
    command
}

fn parse(list: &str) -> Wanted {
    let mut wanted = Wanted::default();
    for line in list.lines() {
        match line.split('#').next().unwrap_or_default().trim() {
            "" => {}
            line => match line.strip_prefix("unpack ") {
                Some(name) => wanted.unpacked.push(name.trim().to_owned()),
                None => wanted.installed.push(line.to_owned()),
            },
        }
    }
    wanted
}

impl Wanted {
    fn missing(&self, root: &Path) -> Self {
        Self {
            installed: self.installed.iter().filter(|name| !is_installed(name)).cloned().collect(),
            unpacked: self
                .unpacked
                .iter()
                .filter(|name| !root.join(name).exists())
                .cloned()
                .collect(),
        }
    }

    fn obtain(&self, root: &Path) -> Result<()> {
        demand(&mut apt(&["update", "-qq"]))?;
        if !self.installed.is_empty() {
            let mut install = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
            demand(install.args(&self.installed))?;
        }
        for name in &self.unpacked {
            // Unpacked aside and renamed, so that a folder of this name is whole.
            let aside = root.join(format!("{name}.part"));
            let _ = fs::remove_dir_all(&aside);
            fs::create_dir_all(&aside).with_context(|| aside.display().to_string())?;
            demand(apt(&["download", name]).current_dir(&aside))?;
            let archives = fs::read_dir(&aside)?.collect::<Result<Vec<_>, _>>()?;
            for archive in archives {
                demand(Command::new("dpkg").arg("-x").arg(archive.path()).arg(&aside))?;
            }
            fs::rename(&aside, root.join(name))?;
        }
        Ok(())
    }
}

fn is_installed(name: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", name])
        .stdin(Stdio::null())
        .output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn demand(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let wanted = parse("# Peers.\npostfix\n\nunpack exim4-daemon-heavy  # excludes postfix\n");
        assert_eq!(wanted.installed, ["postfix"]);
        assert_eq!(wanted.unpacked, ["exim4-daemon-heavy"]);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let wanted = parse("merpati-no-such-package\nunpack merpati-no-such-package\n");
        assert_eq!(wanted.missing(Path::new("merpati-no-such-folder")), wanted);
    }
}
