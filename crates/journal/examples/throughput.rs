//! Appends records from many threads and says how many a second became durable,
//! beside a bare file with the same group commit.
//!
//! `throughput [directory] [writers] [octets] [seconds]`

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use merpati_journal::{Durability, Journal, Options, OsDisk, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let base = args.next().unwrap_or_else(|| ".".into());
    let mut number = |default: u64| args.next().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (writers, octets, seconds) = (number(64), number(10_240), number(3));
    let dir = tempfile::tempdir_in(base)?;
    let time = Duration::from_secs(seconds);

    let raw = raw(dir.path(), writers, octets as usize, time)?;
    println!("bare file, one committer: {raw:.0}/s");
    let disk = Arc::new(OsDisk::open(dir.path().join("journal"))?);
    let (journal, _) = Journal::open(disk, Options::default(), |_| ())?;
    let payload = Bytes::from(vec![b'x'; octets as usize]);
    let rate = drive(writers, time, || {
        let record = Record { body: vec![payload.clone()], ..Record::default() };
        journal.append(record, Durability::Sync).wait().is_ok()
    });
    println!("journal: {rate:.0}/s, {:.0} % of it; {:?}", rate / raw * 100.0, journal.counts());
    Ok(())
}

/// How many times a second all writers together succeed.
fn drive(writers: u64, time: Duration, once: impl Fn() -> bool + Sync) -> f64 {
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    done.fetch_add(u64::from(once()), Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// The least that group commit can cost: a queue, one write, one sync, one wake.
fn raw(dir: &Path, writers: u64, octets: usize, time: Duration) -> std::io::Result<f64> {
    #[derive(Default)]
    struct Queue {
        waiting: u64,
        synced: u64,
        closed: bool,
    }
    let mut file = File::create(dir.join("bare"))?;
    let state = (Mutex::new(Queue::default()), Condvar::new(), Condvar::new());
    let (queue, work, ready) = &state;
    let payload = vec![b'x'; octets];
    std::thread::scope(|scope| {
        let committer = scope.spawn(|| -> std::io::Result<()> {
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
                file.write_all(&payload.repeat(count as usize))?;
                file.sync_data()?;
                queue.lock().expect("no panics").synced += count;
                ready.notify_all();
            }
        });
        let taken = AtomicU64::new(0);
        let rate = drive(writers, time, || {
            let mut locked = queue.lock().expect("no panics");
            locked.waiting += 1;
            let mine = taken.fetch_add(1, Ordering::Relaxed) + 1;
            work.notify_one();
            while locked.synced < mine {
                locked = ready.wait(locked).expect("no panics");
            }
            true
        });
        queue.lock().expect("no panics").closed = true;
        work.notify_one();
        committer.join().expect("no panics")?;
        Ok(rate)
    })
}
