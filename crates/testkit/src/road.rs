//! The whole road: submission, relay and mx as real processes on loopback, with a private CA, a DNS
//! zone, users and mailboxes. `cargo xtask demo` shows it; end-to-end tests drive over it.

mod layout;
mod pki;
mod servers;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dns::{DnsServer, Zone};

pub use layout::{ALICE, BOB, Layout, serves_as_nobody};
pub use servers::Servers;

/// The road, while it stands; dropping it stops the servers.
pub struct Road {
    /// What it is made of.
    pub layout: Layout,
    /// Its servers.
    pub servers: Servers,
    _dns: DnsServer,
}

impl Road {
    /// Makes everything in `dir`, which is empty, and starts the servers in `binaries`.
    ///
    /// # Errors
    /// What making or starting said; a server that does not come up shows its log.
    pub async fn start(dir: &Path, binaries: &Path) -> io::Result<Self> {
        let layout = Layout::create(&dir.canonicalize()?)?;
        let zone = Zone::parse(&layout.zone()).map_err(io::Error::other)?;
        let dns = DnsServer::bind(layout.dns, zone).await?;
        layout.give_away()?;
        let mut servers = Servers::start(&layout, binaries)?;
        tokio::task::block_in_place(|| servers.wait_until_ready(&layout))?;
        Ok(Self { layout, servers, _dns: dns })
    }

    /// Stops every server that is still the one that was started.
    pub fn stop(mut self) {
        self.servers.stop();
    }
}

/// Builds the three servers as the running test was built; answers the directory they are in.
///
/// # Errors
/// They do not build, or cargo cannot be run.
pub fn build_servers() -> io::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet"]);
    for package in ["merpati-submission", "merpati-relay", "merpati-mx"] {
        cargo.args(["--package", package]);
    }
    if !cargo.status()?.success() {
        return Err(io::Error::other("the servers do not build"));
    }
    // A test is in `deps`, beside which cargo puts binaries.
    let test = std::env::current_exe()?;
    let directory = test.ancestors().nth(2).map(Path::to_owned);
    directory.ok_or_else(|| io::Error::other("the test is in no directory"))
}
