//! Passes messages through a spool and says how fast, and how much memory that took.
//!
//! `load [directory] [messages] [octets] [at once]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use merpati_plugin::spool::{
    Attributes, Durability, NewMessage, NextHops, Origin, RecipientResult, Settlement, Spool,
    SpoolError,
};
use merpati_spool::{DiskSpool, Options};
use merpati_types::{Envelope, HeaderEdits, Mailbox, Recipient, ReversePath, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| ".".into());
    let mut number = |default: u64| args.next().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (messages, octets, at_once) = (number(20_000), number(10_240), number(64));
    let dir = tempfile::tempdir_in(base)?;
    let spool = Arc::new(DiskSpool::open(dir.path(), Options::default())?.0);

    let start = Instant::now();
    let left = Arc::new(AtomicU64::new(messages));
    let tasks: Vec<_> =
        (0..at_once).map(|_| tokio::spawn(accept(spool.clone(), left.clone(), octets))).collect();
    let delivered = tokio::spawn(deliver(spool.clone(), messages));
    for task in tasks {
        task.await??;
    }
    report("accepted", messages, start);
    delivered.await??;
    report("delivered too", messages, start);
    spool.close().await;
    let status = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no VmHWM"));
    Ok(())
}

fn report(what: &str, messages: u64, start: Instant) {
    println!("{what}: {:.0} messages/s", messages as f64 / start.elapsed().as_secs_f64());
}

async fn accept(
    spool: Arc<DiskSpool>,
    left: Arc<AtomicU64>,
    octets: u64,
) -> Result<(), SpoolError> {
    let piece = Bytes::from(vec![b'x'; octets.min(16 << 10) as usize]);
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let mut writer = spool.begin().await?;
        let mut rest = octets as usize;
        while rest > 0 {
            let part = piece.slice(..rest.min(piece.len()));
            rest -= part.len();
            writer.write(part).await?;
        }
        let mut envelope = Envelope::new(ReversePath::Null);
        let mailbox = Mailbox::parse("bob@receiver.test").expect("a mailbox");
        envelope.recipients.push(Recipient::new(mailbox));
        let message = NewMessage {
            envelope,
            edits: HeaderEdits::default(),
            attributes: Attributes::default(),
            origin: Origin::default(),
            arrived: NOW,
        };
        writer.commit(message, Durability::Sync).await?;
    }
    Ok(())
}

async fn deliver(spool: Arc<DiskSpool>, messages: u64) -> Result<(), SpoolError> {
    let mut done = 0;
    while done < messages {
        let leased = spool.lease(NOW, Duration::from_secs(600), &NextHops::All, 20).await?;
        if leased.is_empty() {
            spool.wait_due(NOW).await;
        }
        let attempts = leased.into_iter().map(|(lease, parcel)| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let source = spool.message(parcel.id.message).await?;
                let mut reader = source.open().await?;
                while reader.next().await.map_err(SpoolError::Unavailable)?.is_some() {}
                spool.attempt(&lease, "receiver.test").await?;
                let settlement = Settlement {
                    results: vec![(0, RecipientResult::Delivered)],
                    retry_at: NOW,
                    warned: false,
                    follow_ups: Vec::new(),
                };
                spool.settle(lease, settlement).await
            })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            attempt.await.expect("no panics")?;
            done += 1;
        }
    }
    Ok(())
}
