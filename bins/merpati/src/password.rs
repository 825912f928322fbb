//! `merpati password`: a line for a file of users.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use merpati_types::{Mailbox, Secret};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// The name the user logs in with
    login: String,
    /// An address the user may send as; repeat it for more. Default: the login, as an address
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<String>,
}

pub(crate) fn run(args: &PasswordArgs) -> anyhow::Result<()> {
    let addresses = addresses(args)?;
    let password = read_password()?;
    ensure!(!password.expose().is_empty(), "an empty password lets everybody in");
    let hash = merpati_auth::hash_password(&password)?;
    writeln!(io::stdout(), "{}:{hash}{addresses}", args.login)?;
    Ok(())
}

/// The third field of the line, if one is needed.
fn addresses(args: &PasswordArgs) -> anyhow::Result<String> {
    let login = &args.login;
    let odd = |c: char| c == ':' || c.is_control() || c.is_whitespace();
    ensure!(!login.is_empty() && !login.contains(odd), "the login cannot have `:` or spaces in it");
    ensure!(!login.starts_with('#'), "a line that begins with `#` is a comment");
    for address in &args.addresses {
        Mailbox::parse(address).with_context(|| format!("`{address}`"))?;
        // The file separates its fields and addresses with these.
        ensure!(!address.contains([':', ',']), "`{address}` cannot stand in a file of users");
    }
    if !args.addresses.is_empty() {
        return Ok(format!(":{}", args.addresses.join(",")));
    }
    if Mailbox::parse(login).is_err() {
        bail!("the login is no address: say with --address what the user may send as");
    }
    Ok(String::new())
}

/// From the terminal twice and unseen, or the first line of what is piped in.
fn read_password() -> anyhow::Result<Secret<String>> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let _quiet = Quiet::begin()?;
    let password = prompt("Password: ")?;
    let again = prompt("Again: ")?;
    ensure!(password.expose() == again.expose(), "the passwords differ");
    Ok(password)
}

fn prompt(text: &str) -> anyhow::Result<Secret<String>> {
    eprint!("{text}");
    let line = read_line();
    eprintln!();
    line
}

fn read_line() -> anyhow::Result<Secret<String>> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(Secret::new(line))
}

/// A terminal that does not echo, until dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
