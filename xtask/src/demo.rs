//! `cargo xtask demo`: three real servers on loopback, and one real message through them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use merpati_testkit::mail_client::MailClient;
use merpati_testkit::road::{self, ALICE, BOB, Layout, Road};

use crate::workspace::Workspace;

/// How long the message may take through three servers.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where everything is made; what an earlier demo left there is removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep everything running until interrupted.
    #[arg(long)]
    hold: bool,
    /// Print one line of JSON on standard output once all is up, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Build and run the servers with optimisation.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(demo(workspace, args))
}

async fn demo(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let say = |line: &str| {
        if args.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    };
    say("building the three servers …");
    let binaries = build(workspace, args.release)?;
    let dir = args.dir.clone().unwrap_or_else(|| workspace.root.join("target/demo"));
    prepare(&dir)?;
    let dir = dir.canonicalize()?;

    let road = Road::start(&dir, &binaries).await?;
    let layout = &road.layout;
    say(&format!("servers run in {} (DNS at {})", dir.display(), layout.dns));
    if args.json {
        println!("{}", layout.json(&road.servers));
    }
    let result = if args.json && args.hold {
        Ok(())
    } else {
        let sent = tokio::task::block_in_place(|| send_one(layout, &say));
        sent.inspect_err(|_| road.servers.show_logs(layout))
    };
    if args.hold && result.is_ok() {
        say("holding; interrupt to end");
        wait_for_interrupt().await?;
    }
    road.stop();
    result.map(|()| ExitCode::SUCCESS)
}

/// Sends one message as alice, and waits until bob has it.
fn send_one(layout: &Layout, say: &dyn Fn(&str)) -> Result<()> {
    let message = layout.message();
    let began = Instant::now();
    let queued = send_as_alice(layout, &message).context("submission refused the message")?;
    say(&format!("submission said: {queued}"));
    let file = wait_for_mail(&layout.maildir.join("new"), ARRIVAL_LIMIT)?;
    say(&format!("bob has it after {} ms: {}", began.elapsed().as_millis(), file.display()));
    let stored = fs::read(&file)?;
    let stored = String::from_utf8(stored)?.replace('\n', "\r\n");
    let Some(added) = stored.strip_suffix(&message) else {
        bail!("the message is not as it was sent:\n{stored}");
    };
    say("each hop, last to first:");
    for line in added.lines() {
        say(&format!("  {line}"));
    }
    let hops = added.lines().filter(|line| line.starts_with("Received:")).count();
    ensure!(hops == 3, "there are {hops} Received fields, and three servers");
    say("byte for byte as sent, but for these added fields");
    Ok(())
}

fn send_as_alice(layout: &Layout, message: &str) -> Result<String> {
    let Layout { tls, ca, password, .. } = layout;
    let mut client = MailClient::connect(*tls, "mail.sender.test", ca, ALICE, password)?;
    let queued = client.send(ALICE, &[BOB], message)?;
    client.quit()?;
    Ok(queued)
}

fn wait_for_mail(new: &Path, limit: Duration) -> Result<PathBuf> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Ok(mut files) = fs::read_dir(new)
            && let Some(file) = files.next()
        {
            return Ok(file?.path());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the message did not arrive within {} s", limit.as_secs())
}

/// Builds the servers; answers the directory they are in.
fn build(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&workspace.root).args(["build", "--quiet"]);
    for package in ["merpati-submission", "merpati-relay", "merpati-mx"] {
        cargo.args(["--package", package]);
    }
    if release {
        cargo.arg("--release");
    }
    ensure!(cargo.status()?.success(), "the servers do not build");
    // Where cargo puts what it builds, whatever the environment says.
    let own = std::env::current_exe()?;
    let debug = own.parent().context("the binary is in a directory")?;
    let target = debug.parent().context("the profile is in a directory")?;
    Ok(if release { target.join("release") } else { debug.to_owned() })
}

/// An empty directory. Only what looks like an earlier demo is removed.
fn prepare(dir: &Path) -> Result<()> {
    if dir.join("zone.txt").exists() {
        fs::remove_dir_all(dir.canonicalize()?).context("cannot remove the earlier demo")?;
    }
    // What is left of a demo that stood elsewhere is a link.
    if dir.is_symlink() {
        fs::remove_file(dir)?;
    }
    fs::create_dir_all(dir)?;
    ensure!(
        fs::read_dir(dir)?.next().is_none(),
        "{} is not empty, and no demo made it",
        dir.display()
    );
    if road::serves_as_nobody()? && !reachable(dir)? {
        let elsewhere = std::env::temp_dir().join(format!("merpati-demo-{}", std::process::id()));
        fs::create_dir(&elsewhere)?;
        fs::remove_dir(dir)?;
        std::os::unix::fs::symlink(&elsewhere, dir)?;
    }
    Ok(())
}

/// Whether everybody can get to the directory: run by root, the servers become nobody, and
/// root's own directories are closed to it.
fn reachable(dir: &Path) -> Result<bool> {
    for ancestor in dir.canonicalize()?.ancestors().skip(1) {
        if fs::metadata(ancestor)?.mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn wait_for_interrupt() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
