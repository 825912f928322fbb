//! Servers that are killed while messages pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::demo::Demo;
use crate::mail::{delivered, message, read, subject};
use crate::random::Random;
use crate::smtp::{By, Mail, Smtp};
use crate::until;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
/// How many sessions hand messages over at once.
const CLIENTS: usize = 4;
/// The largest body, in octets; every tenth message is so large that it has a file of its own.
const SMALL: u64 = 20_000;
const LARGE: usize = 400_000;
/// How long the last message may take after the last kill.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Messages that are handed over.
    pub messages: usize,
    /// How often the server is killed meanwhile.
    pub kills: usize,
    /// Where chance comes from.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Messages that got their 250.
    pub acknowledged: usize,
    /// Attempts that ended without a reply; each was made again under another name.
    pub broken: usize,
    /// Copies beyond the first of a message.
    pub duplicates: usize,
    /// Messages without a 250 that arrived all the same.
    pub unacknowledged: usize,
    /// How often the server was killed.
    pub kills: usize,
    /// From the first message to the last arrival, in seconds.
    pub seconds: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, broken, duplicates, unacknowledged, kills, seconds } = self;
        write!(
            f,
            "{acknowledged} acknowledged and whole, {kills} kills, {duplicates} duplicates, \
             {broken} attempts without a reply of which {unacknowledged} arrived, {seconds} s"
        )
    }
}

/// What the clients have in common.
struct Senders<'a> {
    demo: &'a Mutex<Demo>,
    /// Whom it goes against: part of each message's name, since what was sent before and never
    /// heard of would be taken for a repetition.
    role: &'a str,
    extent: Extent,
    next: AtomicUsize,
    broken: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
    failed: AtomicBool,
}

/// Kills the server of `role` at random moments while messages pass from submission to bob.
///
/// # Errors
/// A message that got its 250 is not in the Maildir, or not whole.
pub fn run(demo: Demo, role: &str, extent: Extent) -> Result<(Demo, Found)> {
    let begun = Instant::now();
    for file in delivered(demo.maildir(BOB)) {
        std::fs::remove_file(file)?;
    }
    let demo = Mutex::new(demo);
    let senders = Senders {
        demo: &demo,
        role,
        extent,
        next: AtomicUsize::new(0),
        broken: AtomicUsize::new(0),
        acknowledged: Mutex::default(),
        failed: AtomicBool::new(false),
    };
    let killed = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| senders.send());
        }
        let killed = senders.kill(role);
        if killed.is_err() {
            senders.failed.store(true, Ordering::Relaxed);
        }
        killed
    })?;
    let acknowledged = senders.acknowledged.into_inner().unwrap_or_else(PoisonError::into_inner);
    let broken = senders.broken.into_inner();
    let demo = demo.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(acknowledged.len() == extent.messages, "the clients gave up");
    let (duplicates, unacknowledged) = check(&demo, &acknowledged)?;
    let seconds = begun.elapsed().as_secs();
    let acknowledged = acknowledged.len();
    let found = Found { acknowledged, broken, duplicates, unacknowledged, kills: killed, seconds };
    Ok((demo, found))
}

impl Senders<'_> {
    /// Takes messages until there are none, over as many sessions as it takes.
    fn send(&self) {
        let mut client = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.extent.messages {
                return;
            }
            for attempt in 0.. {
                if self.failed.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("{}-{number}-{attempt}", self.role);
                match self.send_one(&mut client, &name) {
                    Ok(()) => {
                        let acknowledged = self.acknowledged.lock();
                        acknowledged.unwrap_or_else(PoisonError::into_inner).insert(name);
                        break;
                    }
                    Err(_) => client = None,
                }
            }
        }
    }

    fn send_one(&self, client: &mut Option<Smtp>, name: &str) -> Result<()> {
        let connection = match client {
            Some(connection) => connection,
            None => client.insert(self.connect()?),
        };
        let content = content(name);
        let by = if content.len().is_multiple_of(2) { By::Data } else { By::Chunks(30_000) };
        let mail = Mail { from: ALICE, to: &[BOB], parameters: "", content: &content, by };
        let sent = connection.send(&mail);
        if sent.is_err() {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
        sent?;
        Ok(())
    }

    fn connect(&self) -> Result<Smtp> {
        let (address, ca, password) = {
            let demo = self.demo.lock().unwrap_or_else(PoisonError::into_inner);
            (demo.address("submission"), demo.ca.clone(), demo.password.clone())
        };
        let mut client = Smtp::tls(address, "mail.sender.test", &ca)?;
        client.log_in(ALICE, &password)?;
        Ok(client)
    }

    /// Kills the server, each time after a random part of its share of the messages and a random
    /// wait of up to 30 ms.
    fn kill(&self, role: &str) -> Result<usize> {
        let mut random = Random::new(self.extent.seed);
        let Extent { messages, kills, .. } = self.extent;
        for kill in 0..kills {
            let share = (messages / kills.max(1)).max(1);
            let at = kill * share + random.below(share as u64) as usize;
            let moved = || self.next.load(Ordering::Relaxed) >= at;
            ensure!(until::holds(ARRIVAL_LIMIT, moved), "no message passes any more");
            let wait = Instant::now() + Duration::from_micros(random.below(30_000));
            let _ = until::holds(Duration::from_millis(30), || Instant::now() >= wait);
            self.demo.lock().unwrap_or_else(PoisonError::into_inner).kill(role)?;
        }
        Ok(kills)
    }
}

/// What the message of this name contains.
fn content(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut random = Random::new(seed);
    let large = random.below(10) == 0;
    let size = if large { LARGE } else { random.below(SMALL) as usize };
    let mut body = Vec::with_capacity(size + 100);
    while body.len() < size {
        body.extend_from_slice(
            format!(".{:x}{:016x}\r\n", random.number(), random.number()).as_bytes(),
        );
    }
    message(name, ALICE, &body)
}

/// Waits until everything acknowledged is there, and compares; answers the number of duplicates,
/// and of messages that nobody had acknowledged.
fn check(demo: &Demo, acknowledged: &BTreeSet<String>) -> Result<(usize, usize)> {
    let mut seen = HashSet::new();
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong: Vec<PathBuf> = Vec::new();
    let mut look = || {
        for file in delivered(demo.maildir(BOB)) {
            if !seen.insert(file.clone()) {
                continue;
            }
            let arrived = read(&file).unwrap_or_default();
            match subject(&arrived) {
                Some(name) if arrived.ends_with(&content(&name)) => {
                    *copies.entry(name).or_default() += 1;
                }
                _ => wrong.push(file),
            }
        }
        acknowledged.iter().all(|name| copies.contains_key(name))
    };
    let complete = until::holds(ARRIVAL_LIMIT, &mut look);
    ensure!(wrong.is_empty(), "not whole: {wrong:?}");
    let missing: Vec<_> =
        acknowledged.iter().filter(|name| !copies.contains_key(*name)).take(10).collect();
    ensure!(complete, "acknowledged and lost, among others: {missing:?}");
    let duplicates = copies.values().map(|count| count - 1).sum();
    let unacknowledged = copies.keys().filter(|name| !acknowledged.contains(*name)).count();
    Ok((duplicates, unacknowledged))
}
