//! The operator's tool.

mod explain;
mod health;
mod interrupt;
mod load;
mod narrow;
mod password;
mod queue;
mod spool;
mod suppression;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use merpati_config::{ConfigFile, RoleConfig};
use merpati_ops::client::Client;

/// Looks into a Merpati server, and changes what it does.
#[derive(Debug, Parser)]
#[command(name = "merpati", version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

/// How to find the server.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The server's admin socket
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "config")]
    admin: Option<PathBuf>,
    /// The server's configuration, which names its admin socket
    #[arg(long, global = true, value_name = "FILE", env = "MERPATI_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the queue and changes it
    Queue(queue::QueueArgs),
    /// Says what the server would do, and why
    Explain(explain::ExplainArgs),
    /// Sends or takes mail in bulk, to measure servers with
    Load(load::LoadArgs),
    /// Says how the server is; exit 1 unless it takes mail and is well
    Health(health::HealthArgs),
    /// Shows and changes whom the server does not write to
    Suppression(suppression::SuppressionArgs),
    /// Looks into a spool whose server is down: check, repair, stats, export
    Spool(spool::SpoolArgs),
    /// Asks for a password and writes a line for a file of users
    Password(password::PasswordArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Queue(args) => cli.server.client().and_then(|client| queue::run(args, &client)),
        Command::Explain(args) => {
            cli.server.client().and_then(|client| explain::run(args, &client))
        }
        Command::Load(args) => load::run(args),
        Command::Health(args) => cli.server.client().and_then(|client| health::run(args, &client)),
        Command::Suppression(args) => {
            cli.server.client().and_then(|client| suppression::run(args, &client))
        }
        Command::Spool(args) => spool::run(args),
        Command::Password(args) => password::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // It has said all there is to say.
        Err(error) if error.is::<Told>() => error.downcast().map_or(ExitCode::FAILURE, code),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("merpati: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An end that needs no more words.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Told {
    /// What was looked at is not as it should be.
    #[error("not well")]
    Unwell,
    /// The operator has interrupted it.
    #[error("interrupted")]
    Interrupted,
}

fn code(told: Told) -> ExitCode {
    match told {
        Told::Unwell => ExitCode::FAILURE,
        Told::Interrupted => interrupt::code(),
    }
}

impl ServerArgs {
    fn client(&self) -> anyhow::Result<Client> {
        let socket = match (&self.admin, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => socket_of(config)?,
            (None, None) => anyhow::bail!("say which server: --admin PATH or --config FILE"),
        };
        Ok(Client::new(&socket))
    }
}

/// The admin socket that a configuration names. Its mistakes do not matter, as long as they leave
/// no doubt about the socket: an operator may not be able to read all that the server can.
fn socket_of(config: &Path) -> anyhow::Result<PathBuf> {
    let file = ConfigFile::open(config)?;
    let read = RoleConfig::read(file.options());
    if read.state_dir.value.as_os_str().is_empty() {
        file.verdict().context("the configuration does not name the admin socket")?;
    }
    Ok(read.admin.socket)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
