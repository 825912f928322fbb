//! Crash tests over many seeds: which ones to run, in parallel, and what came of them.
//!
//! `CRASH_SEEDS` says how many seeds to run and `CRASH_FIRST` with which to begin, so that one
//! that failed can be run again alone. `CRASH_PLANT` plants a fault on purpose: then the tests
//! must fail, and a campaign that does not notice is itself a failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::disk::SimDisk;

/// A fault that is planted on purpose, to see that the tests notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The disk ignores every sync.
    NoSync,
    /// What the index says is believed, whatever the journal says.
    TrustIndex,
    /// The reply is given before the commit.
    EarlyReply,
}

/// The fault that `CRASH_PLANT` asks for: `no-sync`, `trust-index` or `early-reply`.
///
/// # Panics
/// If it is none of these.
#[must_use]
pub fn plant() -> Option<Plant> {
    match std::env::var("CRASH_PLANT").ok()?.as_str() {
        "" => None,
        "no-sync" => Some(Plant::NoSync),
        "trust-index" => Some(Plant::TrustIndex),
        "early-reply" => Some(Plant::EarlyReply),
        other => panic!("there is no fault {other} to plant"),
    }
}

/// An empty disk, which ignores syncs if that is the planted fault.
#[must_use]
pub fn disk() -> SimDisk {
    let disk = SimDisk::new();
    if plant() == Some(Plant::NoSync) {
        disk.ignore_syncs();
    }
    disk
}

/// What the seeds of a campaign have been through.
#[derive(Debug, Default)]
pub struct Tally {
    cuts: AtomicU64,
    recoveries: AtomicU64,
}

impl Tally {
    /// The power was cut.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// What was left was opened again.
    pub fn recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `each` for as many seeds as `CRASH_SEEDS` says, else `seeds`, on all cores.
///
/// `each` panics if a promise was broken. Every seed that does is printed with the command that
/// repeats it; the last line says how much was run.
///
/// # Panics
/// If a seed failed; with a planted fault, if none did.
pub fn campaign(package: &str, seeds: u64, each: impl Fn(u64, &Tally) + Sync) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("CRASH_FIRST").unwrap_or(0);
    let seeds = number("CRASH_SEEDS").unwrap_or(seeds);
    if plant().is_some() {
        // Most seeds fail now, and one line for all of them will do.
        std::panic::set_hook(Box::new(|_| ()));
    }
    let begun = Instant::now();
    let tally = Tally::default();
    let next = AtomicU64::new(first);
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds {
                    break;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| each(seed, &tally))) {
                    let said = panic.downcast_ref::<String>().cloned();
                    let said = said.or_else(|| panic.downcast_ref().map(|&s: &&str| s.to_owned()));
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push((seed, said.unwrap_or_default()));
                }
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    let Tally { cuts, recoveries } = tally;
    let (cuts, recoveries) = (cuts.into_inner(), recoveries.into_inner());
    let took = begun.elapsed().as_secs_f64();
    let run = format!(
        "crash: {package}: {seeds} seeds from {first}, {cuts} power cuts, {recoveries} recoveries"
    );
    if let Some(plant) = plant() {
        println!("{run}, {plant:?} planted: noticed by {} seeds", failed.len());
        let (seed, said) = failed.first().expect("a planted fault is noticed");
        println!("crash: {package}: seed {seed} said: {said}");
        return;
    }
    for (seed, said) in &failed {
        println!(
            "crash: {package}: seed {seed} FAILED: {said}\n\
             crash: again: CRASH_FIRST={seed} CRASH_SEEDS=1 cargo test -p {package} campaign"
        );
    }
    println!("{run}, {} lost, in {took:.1} s", failed.len());
    assert!(failed.is_empty(), "{} seeds failed, the first {:?}", failed.len(), failed.first());
}
