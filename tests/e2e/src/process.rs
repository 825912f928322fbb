//! Other processes, as `/proc` shows them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// How long a process may take to end after a signal.
const END_LIMIT: Duration = Duration::from_secs(40);

/// Clock ticks a second: `USER_HZ` is 100 on every architecture that Linux has today.
const TICKS: f64 = 100.0;

/// How a process was started.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The program, then its arguments.
    pub argv: Vec<OsString>,
    /// The directory it works in.
    pub directory: PathBuf,
}

/// How process `pid` was started.
///
/// # Errors
/// There is no such process.
pub fn origin(pid: u32) -> Result<Origin> {
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let argv = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let argv: Vec<_> = argv.map(|word| OsString::from_vec(word.to_vec())).collect();
    ensure!(!argv.is_empty(), "process {pid} has ended");
    Ok(Origin { argv, directory: fs::read_link(format!("/proc/{pid}/cwd"))? })
}

/// Sends `signal` to process `pid`.
///
/// # Errors
/// There is no such process, or it is not ours.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Waits until process `pid` has ended.
///
/// # Errors
/// It has not in 40 s.
pub fn wait_for_end(pid: u32) -> Result<()> {
    let ended = until::holds(END_LIMIT, || !runs(pid));
    ensure!(ended, "process {pid} does not end");
    Ok(())
}

/// Whether process `pid` runs; one that has ended and was not waited for does not. Its first
/// thread may end before others, which have its sockets for a while yet.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let ended = |state: &String| state == "Z" && threads() <= 1;
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| !ended(state)))
}

/// What `pid` has used of the processors so far, in its own code and in the kernel for it, in
/// milliseconds; steps of 10.
///
/// # Errors
/// There is no such process.
pub fn cpu_ms(pid: u32) -> Result<f64> {
    let fields = stat(pid).context("no such process")?;
    let number = |index: usize| -> Option<f64> { fields.get(index)?.parse().ok() };
    // utime and stime are the fields 14 and 15; the first here is 3.
    let ticks = number(11).zip(number(12)).context("an odd /proc/PID/stat")?;
    Ok((ticks.0 + ticks.1) * 1_000.0 / TICKS)
}

/// What `pid` and all it has started have used of the processors, in milliseconds, with those of
/// them that have ended and been waited for.
#[must_use]
pub fn family_cpu_ms(pid: u32) -> f64 {
    let mut pids = descendants(pid);
    pids.push(pid);
    let of = |pid: &u32| {
        // utime, stime, cutime and cstime are the fields 14 to 17; the first here is 3.
        let number = |field: &String| field.parse::<f64>().ok();
        Some(stat(*pid)?.get(11..15)?.iter().filter_map(number).sum::<f64>())
    };
    pids.iter().filter_map(of).sum::<f64>() * 1_000.0 / TICKS
}

/// The most memory `pid` has had resident, in KiB.
///
/// # Errors
/// There is no such process.
pub fn peak_kib(pid: u32) -> Result<u64> {
    kib(pid, "VmHWM:")
}

/// The memory of its own that `pid` has resident now, in KiB: what it shares with others through
/// files would count many times over.
///
/// # Errors
/// There is no such process.
pub fn resident_kib(pid: u32) -> Result<u64> {
    kib(pid, "RssAnon:")
}

/// What `/proc/PID/status` says at `key`, as in `VmRSS:`, in KiB.
///
/// # Errors
/// There is no such process.
pub fn kib(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()).context(key.to_owned())?;
    Ok(number.parse()?)
}

/// The processes that `pid` has started, and those they have.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> =
        pids.filter_map(|child| Some((child, stat(child)?.get(1)?.parse().ok()?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.remove(0);
    found
}

/// The fields of `/proc/PID/stat` from the third on: what is before may contain blanks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
