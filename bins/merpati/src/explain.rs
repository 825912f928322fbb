//! `merpati explain`: what a server would do, and why.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use merpati_ops::api::{ExplainRequest, FindingView};
use merpati_ops::client::Client;

use crate::table::plain;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Writes one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Where a message to an address would go, on what terms, and what waits for it
    Rcpt {
        /// The recipient
        address: String,
        /// Who the message would be from; nobody, as a report is, if left out
        #[arg(long, value_name = "ADDRESS")]
        sender: Option<String>,
        /// As if the sender asked for REQUIRETLS
        #[arg(long)]
        requiretls: bool,
        /// Connects to the hosts, and shows what they offer
        #[arg(long)]
        dial: bool,
    },
}

pub(crate) fn run(args: &ExplainArgs, client: &Client) -> anyhow::Result<()> {
    let What::Rcpt { address, sender, requiretls, dial } = &args.what;
    let request = ExplainRequest {
        address: address.clone(),
        sender: sender.clone(),
        requiretls: *requiretls,
        dial: *dial,
    };
    let found: FindingView = client.post("/v1/explain/rcpt", &request)?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
    } else {
        write(&mut out, &found, "", "")?;
    }
    out.flush()?;
    Ok(())
}

/// A finding behind `first`, and those below it behind `rest`.
fn write(out: &mut dyn Write, found: &FindingView, first: &str, rest: &str) -> io::Result<()> {
    write!(out, "{first}{}: {}", plain(&found.key), plain(&found.value))?;
    match found.why.is_empty() {
        true => writeln!(out)?,
        false => writeln!(out, "  ({})", plain(&found.why))?,
    }
    for (number, below) in found.below.iter().enumerate() {
        let (branch, stem) = match number + 1 < found.below.len() {
            true => ("├─ ", "│  "),
            false => ("└─ ", "   "),
        };
        write(out, below, &format!("{rest}{branch}"), &format!("{rest}{stem}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn() {
        let leaf = |key: &str, value: &str, why: &str| FindingView {
            key: key.to_owned(),
            value: value.to_owned(),
            why: why.to_owned(),
            below: Vec::new(),
        };
        let host = FindingView {
            below: vec![leaf("address", "[::1]:25", ""), leaf("tls", "may\u{7}", "")],
            ..leaf("host", "mx.test", "MX 10")
        };
        let tree = FindingView {
            below: vec![host, leaf("queued", "0", "")],
            ..leaf("recipient", "a@b.test", "")
        };
        let mut out = Vec::new();
        write(&mut out, &tree, "", "").unwrap();
        let expected = "recipient: a@b.test\n\
                        ├─ host: mx.test  (MX 10)\n\
                        │  ├─ address: [::1]:25\n\
                        │  └─ tls: may?\n\
                        └─ queued: 0\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
