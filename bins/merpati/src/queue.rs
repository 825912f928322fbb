//! `merpati queue`: the queue of a server.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use merpati_ops::api::{
    ListPage, ListRequest, MessageView, ParcelView, Selection, State, StatsView,
};
use merpati_ops::client::Client;

use crate::narrow::{Narrow, StateArg};
use crate::table::{align, plain, size};

mod change;
mod watch;

/// How many parcels a request asks for.
const PAGE: usize = 500;

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Writes JSON: one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Lists what is queued
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Shows a message and what is left to do for it
    Show {
        /// The queue id
        id: String,
    },
    /// Writes a message as it would be delivered
    Cat {
        /// The queue id
        id: String,
    },
    /// Keeps messages until they are released
    Hold {
        #[command(flatten)]
        bulk: Bulk,
        /// Why; shown with the message
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Lets held messages go
    Release(Bulk),
    /// Tries messages now
    Retry(Bulk),
    /// Gives messages up, and tells their senders
    Bounce(Bulk),
    /// Removes messages, and tells nobody
    Delete(Bulk),
    /// Counts what is queued
    Stats,
    /// Shows what happens, until interrupted
    Watch(watch::WatchArgs),
}

/// What is changed, and how.
#[derive(Debug, Args)]
struct Bulk {
    #[command(flatten)]
    which: Which,
    /// Goes on where an interrupted command says that it stopped
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// Looks at about so many parcels a request
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    step: u16,
    /// Shows progress although standard error is no terminal
    #[arg(long)]
    progress: bool,
}

/// Which parcels are meant; all that is said must hold.
#[derive(Debug, Args)]
struct Which {
    /// These messages
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    narrow: Narrow,
    /// The last attempt failed, or the message is held, with a text that contains this
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Active => Self::Active,
            StateArg::Deferred => Self::Deferred,
            StateArg::Held => Self::Held,
            StateArg::Leased => Self::Leased,
        }
    }
}

impl Which {
    /// One selection for each message that is named, or one for all.
    fn selections(&self) -> Vec<Selection> {
        let narrow = &self.narrow;
        let any = Selection {
            all: self.all,
            id: None,
            sender: narrow.sender.clone(),
            recipient: narrow.recipient.clone(),
            domain: narrow.domain.clone(),
            state: narrow.state.map(Into::into),
            older_seconds: narrow.older.map(|time| time.as_secs()),
            younger_seconds: narrow.younger.map(|time| time.as_secs()),
            reason: self.error.clone(),
        };
        if self.ids.is_empty() {
            return vec![any];
        }
        let one = |id: &String| Selection { id: Some(id.clone()), ..any.clone() };
        self.ids.iter().map(one).collect()
    }
}

pub(crate) fn run(args: &QueueArgs, client: &Client) -> anyhow::Result<()> {
    let queue = Queue { client, json: args.json };
    match &args.command {
        QueueCommand::List { which, limit } => queue.list(which, limit.unwrap_or(usize::MAX)),
        QueueCommand::Show { id } => queue.show(id),
        QueueCommand::Cat { id } => {
            client.download(&format!("{}/raw", message_path(id)), &mut io::stdout().lock())?;
            Ok(())
        }
        QueueCommand::Hold { bulk, reason } => queue.change("hold", bulk, reason.as_deref()),
        QueueCommand::Release(bulk) => queue.change("release", bulk, None),
        QueueCommand::Retry(bulk) => queue.change("retry", bulk, None),
        QueueCommand::Bounce(bulk) => queue.change("bounce", bulk, None),
        QueueCommand::Delete(bulk) => queue.change("delete", bulk, None),
        QueueCommand::Watch(args) => watch::run(args, client, queue.json),
        QueueCommand::Stats => queue.stats(),
    }
}

struct Queue<'a> {
    client: &'a Client,
    json: bool,
}

impl Queue<'_> {
    fn list(&self, which: &Which, limit: usize) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let mut left = limit;
        for selection in which.selections() {
            let mut cursor = None;
            while left > 0 {
                let limit = Some(PAGE.min(left));
                let request = ListRequest { selection: selection.clone(), cursor, limit };
                let page: ListPage = self.client.post("/v1/queue/list", &request)?;
                left = left.saturating_sub(page.parcels.len());
                self.show_parcels(&mut out, &page.parcels)?;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn show_parcels(&self, out: &mut dyn Write, parcels: &[ParcelView]) -> anyhow::Result<()> {
        if self.json {
            for parcel in parcels {
                writeln!(out, "{}", serde_json::to_string(parcel)?)?;
            }
            return Ok(());
        }
        let rows: Vec<_> = parcels.iter().map(row).collect();
        for (line, parcel) in align(&rows).iter().zip(parcels) {
            writeln!(out, "{line}")?;
            if let Some(reason) = &parcel.reason {
                writeln!(out, "    {}", plain(reason))?;
            }
            if let Some(host) = &parcel.unknown_at {
                writeln!(out, "    may have been delivered already by {}", plain(host))?;
            }
        }
        Ok(())
    }

    fn show(&self, id: &str) -> anyhow::Result<()> {
        let message: MessageView = self.client.get(&message_path(id))?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&message)?)?;
            return Ok(());
        }
        let mut rows = vec![
            ["id".to_owned(), message.id.clone()],
            ["sender".to_owned(), path(&message.sender)],
            ["arrived".to_owned(), seconds(&message.arrived)],
            ["size".to_owned(), message.size.to_string()],
        ];
        if message.priority != 0 {
            rows.push(["priority".to_owned(), message.priority.to_string()]);
        }
        let deliver_by = message.deliver_by.as_ref();
        let deliver_by = deliver_by.map(|by| format!("{}, else {}", seconds(&by.at), by.mode));
        let not_before = message.not_before.as_ref().map(|moment| seconds(moment));
        for (name, value) in [
            ("peer", &message.peer),
            ("hello", &message.hello),
            ("account", &message.account),
            ("not before", &not_before),
            ("deliver by", &deliver_by),
            ("folder", &message.folder),
            ("envid", &message.envid),
            ("held on arrival", &message.hold),
        ] {
            rows.extend(value.as_ref().map(|value| [name.to_owned(), plain(value)]));
        }
        let tags = message.tags.iter();
        rows.extend(tags.map(|(name, value)| [format!("tag {}", plain(name)), plain(value)]));
        let recipients = message.recipients.iter();
        rows.extend(recipients.map(|address| ["recipient".to_owned(), path(address)]));
        for line in align(&rows) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        self.show_parcels(&mut out, &message.parcels)
    }

    fn stats(&self) -> anyhow::Result<()> {
        let stats: StatsView = self.client.get("/v1/queue/stats")?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&stats)?)?;
            return Ok(());
        }
        let rows = [
            ("messages", stats.messages.to_string()),
            ("active", stats.active.to_string()),
            ("deferred", stats.deferred.to_string()),
            ("held", stats.held.to_string()),
            ("leased", stats.leased.to_string()),
            ("size", size(stats.octets)),
        ];
        for line in align(&rows.map(|(name, value)| [name.to_owned(), value])) {
            writeln!(out, "{line}")?;
        }
        if stats.loading {
            writeln!(out, "older mail is still being looked up: there is more")?;
        }
        Ok(())
    }
}

/// `ID/N  state  arrived  size  attempts  <sender>  <recipient> …`
fn row(parcel: &ParcelView) -> [String; 7] {
    let first = parcel.recipients.first().map(|address| path(address)).unwrap_or_default();
    let to = match parcel.recipients.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    };
    [
        parcel.id.clone(),
        parcel.state.name().to_owned(),
        seconds(&parcel.arrived),
        size(parcel.size),
        format!("{}x", parcel.attempts),
        path(&parcel.sender),
        to,
    ]
}

fn path(address: &str) -> String {
    format!("<{}>", plain(address))
}

/// A moment without its milliseconds.
fn seconds(moment: &str) -> String {
    moment.split_once('.').map_or(moment, |(seconds, _)| seconds).to_owned()
}

fn message_path(id: &str) -> String {
    // Whatever is no letter or digit would lead elsewhere, and no id has it.
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("/v1/queue/message/{id}")
}
