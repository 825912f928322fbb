//! Messages out of a spool, with all that is known about them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use merpati_ops::api::MessageView;
use merpati_plugin::spool::{Filter, Listed, NextHop, ParcelState};
use merpati_spool::offline::Offline;
use merpati_types::{BodyType, MessageId, Notify, NotifyOn, Ret, Timestamp};
use serde_json::{Value, json};

use super::Place;
use super::write::Target;
use crate::Told;
use crate::narrow::{Narrow, StateArg};

/// Parcels of one message at most: one for each recipient.
const PARCELS: usize = 1_000_000;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// In what form
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// Where to; it must not be there yet
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// These messages only
    #[arg(value_name = "ID")]
    ids: Vec<MessageId>,
    #[command(flatten)]
    narrow: Narrow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A directory of files `ID.eml`, octet for octet, with `ID.json` beside each
    #[default]
    Eml,
    /// A Maildir, with `envelopes/ID.json`
    Maildir,
    /// One file with `>From ` quoting (mboxrd), with `PATH.envelopes`, one JSON object a line
    Mbox,
}

impl ExportArgs {
    fn filter(&self) -> Filter {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let ago = |time: Duration| Timestamp::from_millis(millis(since.saturating_sub(time)));
        let narrow = &self.narrow;
        Filter {
            id: None,
            sender: narrow.sender.clone(),
            recipient: narrow.recipient.clone(),
            next_hop: narrow.domain.as_ref().map(|d| NextHop::from_text(&d.to_ascii_lowercase())),
            state: narrow.state.map(|state| match state {
                StateArg::Active => ParcelState::Active,
                StateArg::Deferred => ParcelState::Deferred,
                StateArg::Held => ParcelState::Held,
                StateArg::Leased => ParcelState::Leased,
            }),
            arrived_before: narrow.older.map(ago),
            arrived_after: narrow.younger.map(ago),
            reason: None,
        }
    }
}

pub(super) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let offline = args.place.open()?;
    let chosen = |id: &MessageId| args.ids.is_empty() || args.ids.contains(id);
    let ids = offline.messages()?;
    if let Some(absent) = args.ids.iter().find(|id| !ids.contains(id)) {
        anyhow::bail!("there is no message {absent}");
    }
    let path = args.to.display();
    let mut target = Target::create(args.form, &args.to).with_context(|| path.to_string())?;
    let filter = args.filter();
    let (mut written, mut failed) = (0_u64, 0_u64);
    for id in ids.into_iter().filter(chosen) {
        match one(&offline, id, &filter, &mut target).await {
            Ok(true) => written += 1,
            Ok(false) => {}
            Err(Failed::Message(error)) => {
                failed += 1;
                eprintln!("merpati: message {id}: {error:#}");
            }
            Err(Failed::Target(error)) => return Err(error).with_context(|| path.to_string()),
        }
    }
    target.finish().with_context(|| path.to_string())?;
    let mut out = io::stdout().lock();
    if args.place.json {
        writeln!(out, "{}", json!({ "exported": written, "failed": failed }))?;
    } else {
        writeln!(out, "exported {written}, failed {failed}")?;
    }
    out.flush()?;
    if failed == 0 { Ok(()) } else { Err(Told::Unwell.into()) }
}

enum Failed {
    /// This message cannot be read; others can.
    Message(anyhow::Error),
    /// Nothing can be written.
    Target(io::Error),
}

/// Exports a message, if it matches.
async fn one(
    offline: &Offline,
    id: MessageId,
    filter: &Filter,
    target: &mut Target,
) -> Result<bool, Failed> {
    let unreadable = |error: merpati_plugin::spool::SpoolError| Failed::Message(error.into());
    let spool = offline.spool();
    let all = Filter { id: Some(id), ..Filter::default() };
    let listed = spool.list(&all, None, PARCELS).await.map_err(unreadable)?;
    if listed.is_empty() {
        return Err(Failed::Message(anyhow::anyhow!("its envelope cannot be read")));
    }
    let wanted = Filter { id: Some(id), ..filter.clone() };
    if spool.list(&wanted, None, 1).await.map_err(unreadable)?.is_empty() {
        return Ok(false);
    }
    let message = spool.message(id).await.map_err(unreadable)?;
    let mut reader = message.open().await.map_err(unreadable)?;
    let about = about(&listed);
    let message = &listed[0].parcel.info.message;
    let mut file = target.begin(id, message).map_err(Failed::Target)?;
    loop {
        match reader.next().await {
            Ok(Some(piece)) => file.write(&piece).map_err(Failed::Target)?,
            Ok(None) => break,
            Err(error) => {
                file.abandon().map_err(Failed::Target)?;
                return Err(Failed::Message(error.into()));
            }
        }
    }
    file.finish(&about).map_err(Failed::Target)?;
    Ok(true)
}

/// All that is known of a message but its bytes.
fn about(listed: &[Listed]) -> Value {
    let first = &listed[0].parcel;
    let message = &first.info.message;
    let envelope = &message.envelope;
    let recipients = envelope.recipients.iter().zip(0_u32..).map(|(recipient, place)| {
        json!({
            "address": recipient.address.to_string(),
            "notify": notify(&recipient.notify),
            "orcpt": recipient.orcpt.as_ref().map(ToString::to_string),
            "pending": listed.iter().any(|one| one.parcel.pending.contains(&place)),
        })
    });
    let recipients: Vec<Value> = recipients.collect();
    json!({
        "message": MessageView::of(listed),
        "envelope": {
            "sender": envelope.sender.to_string(),
            "recipients": recipients,
            "ret": envelope.ret.map(|ret| match ret {
                Ret::Full => "FULL",
                Ret::Headers => "HDRS",
            }),
            "envid": envelope.envid.as_ref().map(ToString::to_string),
            "body": match envelope.body {
                BodyType::SevenBit => "7BIT",
                BodyType::EightBitMime => "8BITMIME",
                BodyType::BinaryMime => "BINARYMIME",
            },
            "smtputf8": envelope.smtputf8,
            "requiretls": envelope.requiretls,
            "auth": envelope.submitter.as_ref().map(ToString::to_string),
        },
        "source_pool": message.attributes.source_pool,
    })
}

/// NOTIFY= (RFC 3461 §4.1), if it was said.
fn notify(notify: &Notify) -> Option<String> {
    match notify {
        Notify::Unspecified => None,
        Notify::Never => Some("NEVER".to_owned()),
        Notify::On(NotifyOn { success, failure, delay }) => {
            let all = [("SUCCESS", success), ("FAILURE", failure), ("DELAY", delay)];
            let said: Vec<_> = all.into_iter().filter(|(_, on)| **on).map(|(n, _)| n).collect();
            Some(said.join(","))
        }
    }
}
