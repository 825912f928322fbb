//! Puts deferred messages into a spool, through its own interface.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use merpati_plugin::spool::{
    Attributes, Durability, NewMessage, NextHops, Origin, RecipientResult, Settlement, Spool as _,
    SpoolError,
};
use merpati_spool::{DiskSpool, Options};
use merpati_types::{Envelope, HeaderEdits, Mailbox, Recipient, ReversePath, Timestamp};

/// Octets of a body.
const BODY: usize = 1_000;
/// Those who write at once.
const WRITERS: u64 = 64;
/// Messages that are put in before they are deferred.
const STEP: u64 = 2_000;
/// Domains that take nothing.
const DEAD: u64 = 100;
/// How long to wait with the next attempt, at least.
const REST: Duration = Duration::from_secs(3600);

/// Puts `messages` into the spool in `directory`: attempted once, and to be tried again in an hour
/// or more. The first `live` of them are for `live.test`, the others for a hundred domains.
///
/// # Errors
/// What the spool said.
pub async fn fill(directory: &Path, messages: u64, live: u64) -> Result<()> {
    let spool = Arc::new(DiskSpool::open(directory, Options::default())?.0);
    for first in (0..messages).step_by(STEP as usize) {
        let end = (first + STEP).min(messages);
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(put(Arc::clone(&spool), first + writer, end, live)))
            .collect();
        for task in tasks {
            task.await??;
        }
        defer(&spool).await?;
    }
    spool.close().await;
    Ok(())
}

async fn put(spool: Arc<DiskSpool>, first: u64, end: u64, live: u64) -> Result<(), SpoolError> {
    for number in (first..end).step_by(WRITERS as usize) {
        let recipient = if number < live {
            format!("user{number}@live.test")
        } else {
            format!("user{number}@dead{}.test", number % DEAD)
        };
        let mut writer = spool.begin().await?;
        let body = format!(
            "Message-ID: <{number}@fill.test>\r\nSubject: {number}\r\n\r\n{:BODY$}\r\n",
            ""
        );
        writer.write(Bytes::from(body)).await?;
        writer.commit(message(&recipient, now()), Durability::Sync).await?;
    }
    Ok(())
}

async fn defer(spool: &DiskSpool) -> Result<(), SpoolError> {
    loop {
        let time = Duration::from_secs(600);
        let leased = spool.lease(now(), time, &NextHops::All, STEP as usize).await?;
        if leased.is_empty() {
            return Ok(());
        }
        let settled = (0..).zip(leased).map(|(number, (lease, _))| {
            let deferred = RecipientResult::Deferred { reason: "451 4.7.1 try again later".into() };
            // Not all at the same time.
            let more = Duration::from_secs(number);
            let settlement = Settlement {
                results: vec![(0, deferred)],
                retry_at: now().after(REST + more),
                warned: false,
                follow_ups: Vec::new(),
            };
            spool.settle(lease, settlement)
        });
        for settled in futures_util::future::join_all(settled).await {
            settled?;
        }
    }
}

/// A message for this recipient.
pub(super) fn message(recipient: &str, arrived: Timestamp) -> NewMessage {
    let mailbox = |text: &str| Mailbox::parse(text).expect("it is written here");
    let mut envelope = Envelope::new(ReversePath::Mailbox(mailbox("bulk@sender.test")));
    envelope.recipients.push(Recipient::new(mailbox(recipient)));
    NewMessage {
        envelope,
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived,
    }
}

/// Now.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
