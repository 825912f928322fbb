//! The tree as the gates see it: its root, its packages and its files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What databases are for, with their drivers. They are heavy to build, so that only servers for
/// release have them, and a step of the checks.
pub(crate) const DATABASES: [&str; 4] =
    ["--package=merpati-role", "--package=merpati-tables", "--features", "merpati-role/databases"];

/// The same with the peers.
pub(crate) const DATABASE_PEERS: [&str; 2] =
    ["--package=merpati-peers", "--features=merpati-peers/databases"];

/// The workspace this program runs for.
pub(crate) struct Workspace {
    /// The directory of the root manifest.
    pub(crate) root: PathBuf,
}

/// One member, as `cargo metadata` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency as a member's manifest declares it.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package's own name, whatever the manifest renames it to.
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// The directory of a dependency that is a member or lies beside it.
    pub(crate) path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

impl Workspace {
    pub(crate) fn open() -> Result<Self> {
        // Cargo says at run time which tree it runs for: several may share one build directory.
        let built_in = || env!("CARGO_MANIFEST_DIR").into();
        let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(built_in));
        let root = package.parent().context("xtask lies at the top of the file system")?;
        Ok(Self { root: root.to_owned() })
    }

    /// Every member of the workspace.
    pub(crate) fn packages(&self) -> Result<Vec<Package>> {
        Ok(self.metadata()?.packages)
    }

    /// Where cargo builds.
    pub(crate) fn target_directory(&self) -> Result<PathBuf> {
        Ok(self.metadata()?.target_directory)
    }

    fn metadata(&self) -> Result<Metadata> {
        let output = self
            .cargo(&["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("running cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed");
        }
        serde_json::from_slice(&output.stdout).context("reading the answer of cargo metadata")
    }

    /// A cargo command at the root, in the environment that a user's own shell would give it.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(args).current_dir(&self.root);
        // `cargo run` describes this package in the environment. Build scripts that watch those
        // variables would run again each time the outer command changes.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// Every file of the tree in path order, relative to the root, without what git and cargo
    /// keep for themselves.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            let absolute = self.root.join(&directory);
            let entries =
                fs::read_dir(&absolute).with_context(|| format!("{}", absolute.display()))?;
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let kind = entry.file_type()?;
                if kind.is_dir() && name != "target" && name != ".git" {
                    pending.push(directory.join(name));
                } else if kind.is_file() && name != ".git" {
                    files.push(directory.join(name));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// The text of a file of the tree; `None` when it is not UTF-8.
    pub(crate) fn text(&self, file: &Path) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(file)).with_context(|| file.display().to_string())?;
        Ok(String::from_utf8(bytes).ok())
    }
}
