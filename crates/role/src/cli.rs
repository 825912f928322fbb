//! The command line of a role's server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, Command, value_parser};
use merpati_config::{ConfigFile, Report};

use crate::compose::{Composed, compose};
use crate::role::Role;
use crate::serve;

/// Why the server does not run. Each is said in one line, but for a configuration with mistakes,
/// which are all said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error("{0}")]
    Open(#[from] merpati_config::OpenError),
    #[error("{0}")]
    Config(#[from] Report),
    #[error("{0}")]
    Bind(#[from] merpati_server::listener::BindError),
    #[error("{what}: {source}")]
    System { what: String, source: std::io::Error },
    #[error("{0}")]
    Privilege(#[from] merpati_ops::PrivilegeError),
    #[error("{0}")]
    StateDir(#[from] merpati_ops::state_dir::StateDirError),
    #[error("{0}")]
    Admin(#[from] merpati_ops::AdminError),
    #[error("{0}")]
    Spool(String),
    #[error("{0}")]
    Refused(String),
}

impl Fatal {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

pub(crate) fn main(role: Role) -> ExitCode {
    let kind = role.kind;
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("The configuration file")
        .required(true)
        .global(false)
        .value_parser(value_parser!(PathBuf));
    let command =
        Command::new(kind.binary())
            .version(env!("CARGO_PKG_VERSION"))
            .about(kind.about())
            .arg(config)
            .subcommand(Command::new("check").about(
                "Say everything that is wrong with the configuration; exit 1 if anything is",
            ));
    let matches = command.get_matches();
    let Some(path) = matches.get_one::<PathBuf>("config") else { return ExitCode::FAILURE };
    let result = match matches.subcommand_name() {
        Some("check") => check(&role, path),
        _ => serve::serve(role, path),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            eprintln!("{}: {}", kind.binary(), fatal.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

fn check(role: &Role, path: &Path) -> Result<(), Fatal> {
    read(role, path).map(drop)
}

/// Reads and composes; nothing is bound, opened for writing, or started.
pub(crate) fn read(role: &Role, path: &Path) -> Result<Composed, Fatal> {
    let file = ConfigFile::open(path)?;
    let composed = compose(role, &file);
    file.verdict()?;
    composed.ok_or_else(|| Fatal::Refused("the configuration cannot be used".to_owned()))
}
