//! `merpati health`: how a server is.

use std::io::{self, Write};

use clap::Args;
use merpati_ops::api::{HealthView, Status};
use merpati_ops::client::Client;

use crate::Told;
use crate::table::{align, plain};

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Writes one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &HealthArgs, client: &Client) -> anyhow::Result<()> {
    let health: HealthView = client.get("/v1/health")?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&health)?)?;
    } else {
        let takes = if health.ready { "yes" } else { "no" };
        let rows = [
            ("status", health.status.name().to_owned()),
            ("phase", health.phase.name().to_owned()),
            ("takes mail", takes.to_owned()),
            ("damaged", health.spool.damaged.to_string()),
            ("index", health.spool.index.name().to_owned()),
            ("dnssec", plain(&health.dnssec.state)),
        ];
        for line in align(&rows.map(|(name, value)| [name.to_owned(), value])) {
            writeln!(out, "{line}")?;
        }
        for reason in &health.reasons {
            writeln!(out, "{}", plain(reason))?;
        }
    }
    out.flush()?;
    if health.ready && health.status == Status::Ok { Ok(()) } else { Err(Told::Unwell.into()) }
}
