//! `merpati load`: a generator of mail and a sink for it, to measure servers with.

mod client;
mod figures;
mod message;
mod open;
mod send;
mod sink;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};

/// The most connections at once: more would be an attack, and no test.
const MOST_CONNECTIONS: u32 = 50_000;
/// The largest message.
const MOST_OCTETS: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(subcommand)]
    command: LoadCommand,
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// Sends messages, every one of them unique, and tells how that went
    Send(Box<SendArgs>),
    /// Takes messages, stores nothing, and counts them
    Sink(SinkArgs),
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsKind {
    /// By STARTTLS
    Starttls,
    /// From the first octet on
    Implicit,
}

#[derive(Debug, Args)]
struct SendArgs {
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Connections that send at once
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// How many messages; 1,000 if no time is given either
    #[arg(long)]
    messages: Option<u64>,
    /// For how long
    #[arg(long)]
    seconds: Option<u64>,
    /// Octets of a message, its header section included (10k, 1M)
    #[arg(long, default_value = "10k", value_parser = octets)]
    size: u64,
    /// A new connection for each message
    #[arg(long)]
    new_connections: bool,
    /// Messages a second, whether the server keeps up or not: the times are counted from when
    /// each was to be sent. Without it, each connection sends one after another
    #[arg(long)]
    rate: Option<u64>,
    /// TLS
    #[arg(long, value_enum)]
    tls: Option<TlsKind>,
    /// Trust this authority's certificates
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca: Option<PathBuf>,
    /// The name the certificate has to be for; the address if none is given
    #[arg(long, requires = "tls")]
    server_name: Option<String>,
    /// Log in with this name (AUTH PLAIN)
    #[arg(long, requires = "password_file")]
    auth: Option<String>,
    /// The file that holds the password
    #[arg(long, value_name = "FILE", requires = "auth")]
    password_file: Option<PathBuf>,
    /// One command at a time, although the server has PIPELINING
    #[arg(long)]
    no_pipelining: bool,
    /// The sender; {n} stands for the message's number
    #[arg(long, default_value = "load@client.test")]
    from: String,
    /// The recipient; {n} stands for the message's number, {n%20} for what is left of it by 20
    #[arg(long, default_value = "user{n}@sink.test")]
    rcpt: String,
    /// Open so many connections besides that do nothing
    #[arg(long, default_value_t = 0)]
    idle: u32,
    /// With --idle: say when they are open, and hold them until standard input ends
    #[arg(long, requires = "idle")]
    hold: bool,
    /// The server may use the same queue id again, as Postfix does
    #[arg(long)]
    reused_ids: bool,
    /// A server that is neither on this machine nor in a private network
    #[arg(long)]
    allow_public: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct SinkArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Say how things stand whenever so many more messages have come
    #[arg(long, value_name = "MESSAGES")]
    every: Option<u64>,
    /// Answer every message with this instead of 250, as in "451 4.3.0 later"
    #[arg(long, value_name = "REPLY")]
    reply: Option<String>,
    /// Lines of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    open::raise_limit()?;
    // One thread: what it uses is taken from the server that is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match &args.command {
        LoadCommand::Send(args) => {
            args.check()?;
            runtime.block_on(send::run(args))
        }
        LoadCommand::Sink(args) => runtime.block_on(sink::run(args)),
    }
}

impl SendArgs {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.allow_public || is_near(self.to.ip()),
            "{} is neither on this machine nor in a private network; if it is yours to load, say \
             --allow-public",
            self.to
        );
        ensure!(self.connections > 0, "at least one connection is needed");
        ensure!(
            u64::from(self.connections) + u64::from(self.idle) <= u64::from(MOST_CONNECTIONS),
            "at most {MOST_CONNECTIONS} connections"
        );
        ensure!(self.rate != Some(0), "a rate of nothing sends nothing");
        ensure!(self.size <= MOST_OCTETS, "a message has at most {MOST_OCTETS} octets");
        Ok(())
    }
}

fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// A number with an optional k or M.
fn octets(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of octets".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too many octets".to_owned())
}
