//! The committer's thread: what it writes, syncs and answers, and what it does in trouble.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::helper::Helper;
use super::{Command, Counts, Durability, Shared};
use crate::error::AppendError;
use crate::log::Log;
use crate::record::{Appended, Group};
use crate::ticket::Answer;

/// How long an attempt is put off at most, and how long a quiet journal waits for one.
const LONGEST: Duration = Duration::from_secs(1);

/// The committer thread's own state.
pub(super) struct Committer {
    log: Log,
    shared: Arc<Shared>,
    helper: Option<Helper>,
    /// What was written and waits for a sync.
    unsynced: Vec<(Appended, Answer<Appended>)>,
    /// What was answered and still is to be synced, to be written again if that
    /// fails, each with its last sequence number.
    late: Vec<(u64, Group)>,
    /// When the most impatient of both wants it.
    sync_by: Option<Instant>,
    trouble: Option<Trouble>,
    /// How long the second failure in a row puts off the next attempt; each further one doubles it.
    back_off: Duration,
}

/// The disk has failed, and has not worked since.
struct Trouble {
    failures: u32,
    error: AppendError,
    /// Before that nothing is tried.
    not_before: Instant,
    /// Then it is tried without being asked.
    probe_at: Option<Instant>,
}

impl Committer {
    pub(super) fn new(
        log: Log,
        shared: Arc<Shared>,
        helper: Option<Helper>,
        back_off: Duration,
    ) -> Self {
        Self {
            log,
            shared,
            helper,
            unsynced: Vec::new(),
            late: Vec::new(),
            sync_by: None,
            trouble: None,
            back_off,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(commands) = self.shared.take(self.next_deadline()) {
            self.handle(commands);
            if self.sync_by.is_some_and(|by| by <= Instant::now()) {
                // Whoever waits for it is told.
                let _ = self.sync();
            }
            if self.probe_at().is_some_and(|at| at <= Instant::now()) {
                // What it finds is noted.
                let _ = self.probe();
            }
            if let Some(helper) = &mut self.helper {
                helper.look_ahead(&mut self.log);
            }
        }
        let _ = self.sync();
        if let Err(error) = self.log.seal() {
            tracing::warn!(%error, "the journal's last segment could not be sealed");
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.sync_by.into_iter().chain(self.probe_at()).min()
    }

    fn probe_at(&self) -> Option<Instant> {
        self.trouble.as_ref().and_then(|trouble| trouble.probe_at)
    }

    /// Writes runs of appends in one go each; the rest happens in its place between.
    fn handle(&mut self, commands: Vec<Command>) {
        let mut run = Vec::with_capacity(commands.len());
        for command in commands {
            match command {
                Command::Append { group, durability, answer } => {
                    run.push((group, durability, answer));
                }
                Command::Remove { segment, answer } => {
                    self.write(std::mem::take(&mut run));
                    answer.give(self.remove(segment));
                }
                Command::Seal { answer } => {
                    self.write(std::mem::take(&mut run));
                    answer.give(self.seal());
                }
                Command::Flush { answer } => {
                    self.write(std::mem::take(&mut run));
                    answer.give(self.sync());
                }
            }
        }
        self.write(run);
    }

    fn write(&mut self, run: Vec<(Group, Durability, Answer<Appended>)>) {
        if run.is_empty() {
            return;
        }
        if let Some(trouble) = &self.trouble
            && Instant::now() < trouble.not_before
        {
            let error = trouble.error.clone();
            self.count(|counts| counts.failed += run.len() as u64);
            return run.into_iter().for_each(|(.., answer)| answer.give(Err(error.clone())));
        }
        let groups: Vec<&Group> = run.iter().map(|(group, ..)| group).collect();
        let octets: u64 = groups.iter().map(|group| group.span()).sum();
        let results = self.log.write(&groups);
        let failed = results.iter().filter(|result| result.is_err()).count() as u64;
        let disk_error = results.iter().find_map(disk_error);
        self.count(|counts| {
            counts.appends += results.len() as u64;
            counts.octets += octets;
            counts.writes += 1;
            counts.failed += failed;
        });
        // Who is told of a failure finds the trouble noted.
        if let Some(error) = &disk_error {
            self.failed(error);
        }
        let now = Instant::now();
        for ((group, durability, answer), result) in run.into_iter().zip(results) {
            let within = match durability {
                Durability::Sync => Duration::ZERO,
                Durability::Group { within } | Durability::Soon { within } => within,
                Durability::Written => {
                    answer.give(result);
                    continue;
                }
            };
            let appended = match result {
                Ok(appended) => appended,
                Err(error) => {
                    answer.give(Err(error));
                    continue;
                }
            };
            // In trouble nothing is answered early: what is lost then could pile up.
            if matches!(durability, Durability::Soon { .. }) && self.trouble.is_none() {
                self.late.push((appended.last, group));
                answer.give(Ok(appended));
            } else {
                self.unsynced.push((appended, answer));
            }
            let by = now + within;
            self.sync_by = Some(self.sync_by.map_or(by, |other| other.min(by)));
        }
        if let Some(error) = disk_error {
            // Earlier writes that were never synced went with the failed segment.
            self.settle(&error);
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.sync_by = None;
        if self.has_lost() {
            // Without it nobody may rely on what was answered early.
            if let Err(error) = self.write_again() {
                self.failed(&error);
                self.settle(&error);
                return Err(error);
            }
        }
        if self.log.synced() == self.log.written() {
            self.settle(&AppendError::Closed);
            // What was told to have failed shall not come back: a new segment says so.
            return if self.trouble.is_some() { self.probe() } else { Ok(()) };
        }
        self.count(|counts| counts.syncs += 1);
        let synced = self.log.sync().map(drop);
        match &synced {
            Ok(()) => self.works(),
            Err(error) => self.failed(error),
        }
        self.settle(synced.as_ref().err().unwrap_or(&AppendError::Closed));
        synced
    }

    /// Answers all that are synced; the others with `error` if their segment is gone.
    fn settle(&mut self, error: &AppendError) {
        let synced = self.log.synced();
        self.shared.synced.store(synced, Ordering::Release);
        let written = self.log.written();
        let mut failed = 0;
        let mut keep = Vec::new();
        for (appended, answer) in self.unsynced.drain(..) {
            if appended.last <= synced {
                answer.give(Ok(appended));
            } else if appended.last > written {
                failed += 1;
                answer.give(Err(error.clone()));
            } else {
                keep.push((appended, answer));
            }
        }
        self.unsynced = keep;
        self.count(|counts| counts.failed += failed);
        self.late.retain(|(last, _)| *last > synced);
        if self.has_lost() && self.trouble.as_ref().is_none_or(|trouble| trouble.failures == 1) {
            // If that fails it is tried again when the disk is.
            if let Err(error) = self.write_again() {
                self.failed(&error);
            }
        }
    }

    /// Whether something that was answered early went with its segment.
    fn has_lost(&self) -> bool {
        let written = self.log.written();
        self.late.iter().any(|(last, _)| *last > written)
    }

    /// Writes what was answered and then lost with its segment to the next one.
    fn write_again(&mut self) -> Result<(), AppendError> {
        let groups: Vec<&Group> = self.late.iter().map(|(_, group)| group).collect();
        let results = self.log.write(&groups);
        let outcome = results.into_iter().collect::<Result<Vec<_>, _>>();
        match outcome.and_then(|_| self.log.sync()) {
            Ok(synced) => {
                self.late.clear();
                self.shared.synced.store(synced, Ordering::Release);
                self.works();
                Ok(())
            }
            Err(error) => {
                // Numbers are not used twice, but the next record's may be one of these.
                self.late.iter_mut().for_each(|(last, _)| *last = u64::MAX);
                tracing::error!(late = self.late.len(), "records answered early are not kept yet");
                Err(error)
            }
        }
    }

    /// Notes that the disk has failed.
    fn failed(&mut self, error: &AppendError) {
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures) + 1;
        let doubled = self.back_off.saturating_mul(1 << failures.saturating_sub(2).min(16));
        // The first failure may be the segment's own: the next append finds out.
        let wait = if failures == 1 { Duration::ZERO } else { doubled.min(LONGEST) };
        let now = Instant::now();
        let reason = std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        tracing::error!(error = reason, failures, "the journal could not be written or synced");
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.trouble = Some(Trouble {
            failures,
            error: error.clone(),
            not_before: now + wait,
            probe_at: (!self.back_off.is_zero()).then(|| now + LONGEST),
        });
    }

    /// Notes that the disk works.
    fn works(&mut self) {
        if self.trouble.take().is_some() {
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("the journal can be written again");
        }
    }

    /// Tries whether the disk works again, with what was answered early or with nothing.
    fn probe(&mut self) -> Result<(), AppendError> {
        let probed = match self.has_lost() {
            true => self.write_again(),
            false => self.log.probe(),
        };
        match &probed {
            Ok(()) => self.works(),
            Err(error) => self.failed(error),
        }
        self.settle(&AppendError::Closed);
        probed
    }

    fn remove(&mut self, segment: u64) -> Result<(), AppendError> {
        if self.log.active() == Some(segment) {
            self.seal()?;
        }
        Ok(self.log.remove(segment)?)
    }

    fn seal(&mut self) -> Result<(), AppendError> {
        let sealed = self.log.seal();
        if let Err(error) = &sealed {
            self.failed(error);
        }
        self.settle(sealed.as_ref().err().unwrap_or(&AppendError::Closed));
        sealed
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The error, if it is the disk's and not the group's.
fn disk_error(result: &Result<Appended, AppendError>) -> Option<AppendError> {
    result.as_ref().err().filter(|error| !matches!(error, AppendError::TooLarge { .. })).cloned()
}

impl Drop for Committer {
    /// However the thread ends, nobody waits for it in vain.
    fn drop(&mut self) {
        // Nobody may write to the directory once its lock is given back.
        drop(self.helper.take());
        let mut queue = self.shared.lock();
        queue.closed = true;
        let commands = std::mem::take(&mut queue.commands);
        let blocked = std::mem::take(&mut queue.blocked);
        drop(queue);
        drop(commands);
        blocked.into_iter().for_each(Waker::wake);
    }
}
