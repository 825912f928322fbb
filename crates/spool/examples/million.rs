//! Fills a spool with deferred messages and says what they cost.
//!
//! `million DIRECTORY [messages] [domain]…`: 1 KB each, attempted once and to be retried in an
//! hour, to the domains in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use merpati_plugin::spool::{
    Attributes, Durability, NewMessage, NextHops, Origin, RecipientResult, Settlement, Spool,
    SpoolError,
};
use merpati_spool::{DiskSpool, Options};
use merpati_types::{Envelope, HeaderEdits, Mailbox, Recipient, ReversePath, Timestamp};

const AT_ONCE: u64 = 64;
const STEP: u64 = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().ok_or("which directory?")?;
    let messages: u64 = args.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let mut domains: Vec<String> = args.collect();
    if domains.is_empty() {
        domains.push("dead.test".into());
    }
    let start = Instant::now();
    let (spool, _) = DiskSpool::open(directory.as_ref(), Options::default())?;
    println!("opened in {:?}", start.elapsed());
    let spool = Arc::new(spool);
    let now = Timestamp::from_millis(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64,
    );
    let start = Instant::now();
    for first in (0..messages).step_by(STEP as usize) {
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|task| tokio::spawn(accept(spool.clone(), domains.clone(), now, first, task)))
            .collect();
        for task in tasks {
            task.await??;
        }
        defer(&spool, now).await?;
    }
    println!("{messages} deferred in {:?}, {}", start.elapsed(), memory());
    let start = Instant::now();
    let stats = spool.stats().await?;
    println!("stats in {:?}: {stats:?}", start.elapsed());
    spool.close().await;
    drop(spool);
    println!("closed, {}", memory());
    let start = Instant::now();
    let spool = DiskSpool::start(directory.as_ref(), Options::default())?;
    let spool = Arc::new(spool);
    accept(spool.clone(), domains, now, 0, 0).await?;
    println!("opened again and accepted in {:?}", start.elapsed());
    spool.whole().await;
    println!("whole in {:?}, {}", start.elapsed(), memory());
    drop(spool);
    let start = Instant::now();
    let (spool, report) = DiskSpool::open(directory.as_ref(), Options::default())?;
    println!("opened whole in {:?}: {} messages, {}", start.elapsed(), report.messages, memory());
    spool.close().await;
    Ok(())
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines =
        status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"));
    lines.collect::<Vec<_>>().join(", ").replace('\t', " ")
}

async fn accept(
    spool: Arc<DiskSpool>,
    domains: Vec<String>,
    now: Timestamp,
    first: u64,
    task: u64,
) -> Result<(), SpoolError> {
    for number in (first..first + STEP).filter(|n| n % AT_ONCE == task) {
        let mut writer = spool.begin().await?;
        writer.write(Bytes::from(format!("Subject: {number}\r\n\r\n{:1000}\r\n", ""))).await?;
        let sender = Mailbox::parse("bulk@sender.test").expect("an address");
        let mut envelope = Envelope::new(ReversePath::Mailbox(sender));
        let domain = &domains[number as usize % domains.len()];
        let recipient = Mailbox::parse(&format!("user{number}@{domain}")).expect("an address");
        envelope.recipients.push(Recipient::new(recipient));
        let message = NewMessage {
            envelope,
            edits: HeaderEdits::default(),
            attributes: Attributes::default(),
            origin: Origin::default(),
            arrived: now,
        };
        writer.commit(message, Durability::Sync).await?;
    }
    Ok(())
}

async fn defer(spool: &DiskSpool, now: Timestamp) -> Result<(), SpoolError> {
    loop {
        let leased = spool.lease(now, Duration::from_secs(600), &NextHops::All, 500).await?;
        if leased.is_empty() {
            return Ok(());
        }
        let settles = leased.into_iter().map(|(lease, _)| {
            let deferred = RecipientResult::Deferred { reason: "451 4.7.1 try again later".into() };
            let settlement = Settlement {
                results: vec![(0, deferred)],
                retry_at: now.after(Duration::from_secs(3600)),
                warned: false,
                follow_ups: Vec::new(),
            };
            spool.settle(lease, settlement)
        });
        for settled in futures_util::future::join_all(settles).await {
            settled?;
        }
    }
}
