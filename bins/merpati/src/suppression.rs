//! `merpati suppression`: whom a server does not write to.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use merpati_ops::api::{
    SuppressionAddRequest, SuppressionListRequest, SuppressionPage, SuppressionView, SuppressionWho,
};
use merpati_ops::client::Client;

use crate::table::{align, plain};

/// Entries of a page.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct SuppressionArgs {
    /// Writes one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: SuppressionCommand,
}

#[derive(Debug, Subcommand)]
enum SuppressionCommand {
    /// Lists whom mail is kept from
    List {
        /// Put there by: operator, bounce, complaint
        #[arg(long, value_name = "SOURCE")]
        source: Option<String>,
        /// Because of bounces of this class
        #[arg(long, value_name = "CLASS")]
        class: Option<String>,
        /// Address or domain contains this
        #[arg(long, value_name = "TEXT")]
        who: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Keeps mail from an address, or from all of `@domain`; replaces what is said of it
    Add {
        /// An address, or `@domain`
        #[arg(value_name = "WHO")]
        who: String,
        /// Why; its senders are told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// The class of bounces it stands for
        #[arg(long, value_name = "CLASS")]
        class: Option<String>,
        /// For so long: 4h, 90d; for good without this and --until
        #[arg(long = "for", value_name = "TIME", value_parser = merpati_config::parse_duration)]
        time: Option<Duration>,
        /// Until then: 2026-12-31, or with a time as in 2026-12-31T12:00:00Z
        #[arg(long, value_name = "DATE", conflicts_with = "time")]
        until: Option<String>,
    },
    /// Lets mail to addresses or domains go again
    Remove {
        /// Addresses, or `@domain`
        #[arg(value_name = "WHO", required = true)]
        who: Vec<String>,
    },
    /// Shows what keeps mail from an address; exit 1 if nothing does
    Show {
        /// An address, or `@domain`
        #[arg(value_name = "WHO")]
        who: String,
    },
}

pub(crate) fn run(args: &SuppressionArgs, client: &Client) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match &args.command {
        SuppressionCommand::List { source, class, who, limit } => {
            let mut left = limit.unwrap_or(usize::MAX);
            let mut after = None;
            while left > 0 {
                let request = SuppressionListRequest {
                    source: source.clone(),
                    class: class.clone(),
                    who: who.clone(),
                    after,
                    limit: Some(PAGE.min(left)),
                };
                let page: SuppressionPage = client.post("/v1/suppression/list", &request)?;
                left = left.saturating_sub(page.entries.len());
                show(&mut out, &page.entries, args.json)?;
                after = page.after;
                if after.is_none() {
                    break;
                }
            }
        }
        SuppressionCommand::Add { who, reason, class, time, until } => {
            let request = SuppressionAddRequest {
                who: who.clone(),
                reason: reason.clone(),
                class: class.clone(),
                until: until.clone(),
                seconds: time.map(|time| time.as_secs()),
            };
            let entry: SuppressionView = client.post("/v1/suppression/add", &request)?;
            show(&mut out, &[entry], args.json)?;
        }
        SuppressionCommand::Remove { who } => {
            for who in who {
                let request = SuppressionWho { who: who.clone() };
                let entry: SuppressionView = client.post("/v1/suppression/remove", &request)?;
                match args.json {
                    true => show(&mut out, &[entry], true)?,
                    false => writeln!(out, "removed {}", plain(&entry.who))?,
                }
            }
        }
        SuppressionCommand::Show { who } => {
            let request = SuppressionWho { who: who.clone() };
            let page: SuppressionPage = client.post("/v1/suppression/show", &request)?;
            show(&mut out, &page.entries, args.json)?;
        }
    }
    out.flush()?;
    Ok(())
}

fn show(out: &mut dyn Write, entries: &[SuppressionView], json: bool) -> anyhow::Result<()> {
    if json {
        for entry in entries {
            writeln!(out, "{}", serde_json::to_string(entry)?)?;
        }
        return Ok(());
    }
    for line in align(&entries.iter().map(row).collect::<Vec<_>>()) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// `who  source  class  since … until …  reason`
fn row(entry: &SuppressionView) -> [String; 6] {
    let day = |moment: &str| moment.split_once('T').map_or(moment, |(day, _)| day).to_owned();
    let until = entry.until.as_deref().map_or_else(|| "for good".to_owned(), day);
    [
        plain(&entry.who),
        plain(&entry.source),
        plain(entry.class.as_deref().unwrap_or("-")),
        day(&entry.since),
        until,
        plain(&entry.reason),
    ]
}
