//! Appends records from many threads and says how many a second became durable, and after
//! how long, beside a bare file with the least that group commit can be.
//!
//! `throughput [directory] [writers] [octets] [seconds] [rounds]`
//!
//! Both run in turn, each in a file of its own that is gone before the next begins: on a
//! virtual machine memory that was used just now is quicker than memory the host has to find.

use std::error::Error;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use merpati_journal::{Disk, Durability, Journal, Options, OsDisk, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| ".".into());
    let mut number = |default: u64| args.next().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (writers, octets, seconds, rounds) = (number(64), number(10_240), number(2), number(5));
    let base = Path::new(&base);
    let time = Duration::from_secs(seconds);

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(raw(base, writers, octets as usize, time)?);
        ours.push(journal(base, writers, octets as usize, time)?);
        println!("bare file: {}\njournal:   {}", bare[bare.len() - 1], ours[ours.len() - 1]);
    }
    let (bare, ours) = (median(bare), median(ours));
    println!(
        "medians: {:.0} % of the bare file's rate, {:.1} times its p99",
        ours.rate / bare.rate * 100.0,
        ours.p99.as_secs_f64() / bare.p99.as_secs_f64()
    );
    Ok(())
}

/// How a run went.
struct Outcome {
    rate: f64,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, p50, p99, max } = self;
        write!(f, "{rate:6.0}/s, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}")
    }
}

/// The medians of each number, one by one.
fn median(outcomes: Vec<Outcome>) -> Outcome {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |each: &dyn Fn(&Outcome) -> f64| middle(outcomes.iter().map(each).collect());
    let time = |each: &dyn Fn(&Outcome) -> Duration| {
        Duration::from_secs_f64(of(&|outcome| each(outcome).as_secs_f64()))
    };
    Outcome {
        rate: of(&|outcome| outcome.rate),
        p50: time(&|outcome| outcome.p50),
        p99: time(&|outcome| outcome.p99),
        max: time(&|outcome| outcome.max),
    }
}

/// All writers together, one append after another each.
fn drive(writers: u64, time: Duration, once: impl Fn() + Sync) -> Outcome {
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let write = || {
            let mut took = Vec::with_capacity(1 << 16);
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                once();
                took.push(begun.elapsed());
            }
            took
        };
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().expect("no panics")).collect()
    });
    let rate = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Outcome { rate, p50: at(0.5), p99: at(0.99), max: at(1.0) }
}

fn journal(
    base: &Path,
    writers: u64,
    octets: usize,
    time: Duration,
) -> Result<Outcome, Box<dyn Error>> {
    let dir = tempfile::tempdir_in(base)?;
    let disk = Arc::new(OsDisk::open(dir.path().join("journal"))?);
    let (journal, _) = Journal::open(disk, Options::default(), |_| ())?;
    let payload = Bytes::from(vec![b'x'; octets]);
    let outcome = drive(writers, time, || {
        let record = Record { body: vec![payload.clone()], ..Record::default() };
        journal.append(record, Durability::Sync).wait().expect("the disk works");
    });
    println!("{:?}", journal.counts());
    Ok(outcome)
}

/// The least that group commit can cost: a queue, one write, one sync, one wake; space is
/// reserved in pieces as large as the journal's.
fn raw(
    base: &Path,
    writers: u64,
    octets: usize,
    time: Duration,
) -> Result<Outcome, Box<dyn Error>> {
    #[derive(Default)]
    struct Queue {
        waiting: u64,
        synced: u64,
        closed: bool,
    }
    let dir = tempfile::tempdir_in(base)?;
    let disk = OsDisk::open(dir.path())?;
    let file = disk.create("bare")?;
    let piece = Options::default().segment_size;
    let state = (Mutex::new(Queue::default()), Condvar::new(), Condvar::new());
    let (queue, work, ready) = &state;
    let payload = vec![b'x'; octets];
    std::thread::scope(|scope| {
        let committer = scope.spawn(|| -> std::io::Result<()> {
            let (mut at, mut size) = (0, 0);
            loop {
                let mut locked = queue.lock().expect("no panics");
                while locked.waiting == 0 && !locked.closed {
                    locked = work.wait(locked).expect("no panics");
                }
                let count = std::mem::take(&mut locked.waiting);
                if count == 0 {
                    return Ok(());
                }
                drop(locked);
                let parts = vec![IoSlice::new(&payload); count as usize];
                let end = at + count * octets as u64;
                if end > size {
                    size += piece;
                    file.preallocate(size)?;
                }
                file.write_at(at, &parts)?;
                at = end;
                file.sync_data()?;
                queue.lock().expect("no panics").synced += count;
                ready.notify_all();
            }
        });
        let taken = AtomicU64::new(0);
        let outcome = drive(writers, time, || {
            let mut locked = queue.lock().expect("no panics");
            locked.waiting += 1;
            let mine = taken.fetch_add(1, Ordering::Relaxed) + 1;
            work.notify_one();
            while locked.synced < mine {
                locked = ready.wait(locked).expect("no panics");
            }
        });
        queue.lock().expect("no panics").closed = true;
        work.notify_one();
        committer.join().expect("no panics")?;
        Ok(outcome)
    })
}
