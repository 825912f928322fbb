//! The spool alone, and the least that group commit can cost: a queue, one write, one sync, one
//! wake.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use merpati_journal::{Disk as _, Options, OsDisk};
use merpati_plugin::spool::{Durability, Spool as _, SpoolError};
use merpati_spool::DiskSpool;
use serde_json::{Value, json};

use super::fill::{message, now};
use super::{Plan, SIZE, median};

/// Those who write at once.
const WRITERS: u64 = 64;

/// How one turn went.
struct Turn {
    per_s: f64,
    p99_ms: f64,
}

pub(super) fn measure(plan: &Plan) -> Result<Value> {
    let time = Duration::from_millis(plan.scaled(3_000, 2_000));
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        bare.push(raw(&plan.base, time)?);
        ours.push(runtime.block_on(spool(&plan.base, time))?);
    }
    let rate = |turns: &[Turn]| median(turns.iter().map(|turn| turn.per_s).collect());
    let p99 = |turns: &[Turn]| median(turns.iter().map(|turn| turn.p99_ms).collect());
    Ok(json!({
        "ours_per_s": rate(&ours),
        "raw_per_s": rate(&bare),
        "p99_ms": p99(&ours),
        "raw_p99_ms": p99(&bare),
    }))
}

async fn spool(base: &Path, time: Duration) -> Result<Turn> {
    let dir = tempfile::tempdir_in(base)?;
    let spool = Arc::new(DiskSpool::open(dir.path(), merpati_spool::Options::default())?.0);
    let body = Bytes::from(vec![b'x'; SIZE]);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(write(Arc::clone(&spool), body.clone(), begun + time)))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let turn = turn(took, begun.elapsed());
    spool.close().await;
    Ok(turn)
}

async fn write(
    spool: Arc<DiskSpool>,
    body: Bytes,
    until: Instant,
) -> Result<Vec<Duration>, SpoolError> {
    let mut took = Vec::new();
    loop {
        let begun = Instant::now();
        if begun > until {
            return Ok(took);
        }
        let mut writer = spool.begin().await?;
        writer.write(body.clone()).await?;
        writer.commit(message("user@held.test", now()), Durability::Sync).await?;
        took.push(begun.elapsed());
    }
}

/// What writers of the bare file have in common.
#[derive(Default)]
struct Queue {
    waiting: u64,
    synced: u64,
    closed: bool,
}

#[derive(Default)]
struct Bare {
    queue: Mutex<Queue>,
    work: Condvar,
    ready: Condvar,
    taken: AtomicU64,
    over: AtomicBool,
}

impl Bare {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes and syncs what has come together, until there is no more; space is reserved in
    /// pieces as large as the journal's.
    fn commit(&self, file: &dyn merpati_journal::DiskFile) -> io::Result<()> {
        let payload = vec![b'x'; SIZE];
        let piece = Options::default().segment_size;
        let (mut at, mut reserved) = (0, 0);
        loop {
            let mut queue = self.lock();
            while queue.waiting == 0 && !queue.closed {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let count = std::mem::take(&mut queue.waiting);
            drop(queue);
            if count == 0 {
                return Ok(());
            }
            let parts = vec![io::IoSlice::new(&payload); count as usize];
            let end = at + count * SIZE as u64;
            if end > reserved {
                reserved += piece;
                file.preallocate(reserved)?;
            }
            file.write_at(at, &parts)?;
            at = end;
            file.sync_data()?;
            self.lock().synced += count;
            self.ready.notify_all();
        }
    }

    /// Has messages written until it is over.
    fn write(&self) -> Vec<Duration> {
        let mut took = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut queue = self.lock();
            queue.waiting += 1;
            let mine = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
            self.work.notify_one();
            while queue.synced < mine {
                queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            drop(queue);
            took.push(begun.elapsed());
        }
        took
    }
}

fn raw(base: &Path, time: Duration) -> Result<Turn> {
    let dir = tempfile::tempdir_in(base)?;
    let file = OsDisk::open(dir.path())?.create("bare")?;
    let bare = Bare::default();
    std::thread::scope(|scope| {
        let committer = scope.spawn(|| bare.commit(&*file));
        let begun = Instant::now();
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| bare.write())).collect();
        crate::until::pass(time);
        bare.over.store(true, Ordering::Relaxed);
        let took = writers.into_iter().flat_map(|writer| writer.join().unwrap_or_default());
        let turn = turn(took.collect(), begun.elapsed());
        bare.lock().closed = true;
        bare.work.notify_one();
        match committer.join() {
            Ok(done) => done?,
            Err(_) => anyhow::bail!("the committer panicked"),
        }
        Ok(turn)
    })
}

fn turn(mut took: Vec<Duration>, elapsed: Duration) -> Turn {
    took.sort_unstable();
    let p99 = took.get((took.len().max(1) - 1) * 99 / 100).copied().unwrap_or_default();
    Turn { per_s: took.len() as f64 / elapsed.as_secs_f64(), p99_ms: p99.as_secs_f64() * 1_000.0 }
}
