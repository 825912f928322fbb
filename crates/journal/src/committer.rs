//! Group commit: one thread writes what all writers have ready and syncs once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{Log, Options};
use crate::reader::Reader;
use crate::record::{Appended, Entry, Group};
use crate::recovery::Recovery;
use crate::ticket::{Answer, Ticket};

mod helper;
mod thread;

use helper::Helper;
use thread::Committer;

/// When an append is answered.
///
/// Whatever it is, the records are written as soon as the committer is free, so
/// that the death of the process alone loses nothing that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced now, with whatever else is ready.
    Sync,
    /// Synced within this time, sooner if somebody else's sync comes.
    Group {
        /// How long the sync may be put off for company.
        within: Duration,
    },
    /// Answered once written, and synced within this time all the same: only a
    /// power cut in that time undoes it. What a failed sync takes away is
    /// written again, at another position.
    Soon {
        /// How long the sync may be put off for company.
        within: Duration,
    },
    /// Answered once written. A power cut, or a failed sync, may undo it.
    Written,
}

/// A durable log with one writing thread; share it in an [`Arc`].
///
/// Dropping it finishes what was queued, seals the segment and ends the thread.
pub struct Journal {
    shared: Arc<Shared>,
    reader: Reader,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the committer has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Groups taken.
    pub appends: u64,
    /// Octets written, headers and padding included.
    pub octets: u64,
    /// Times something was written.
    pub writes: u64,
    /// Times the disk was asked to sync, segment changes aside.
    pub syncs: u64,
    /// Groups that were answered with an error.
    pub failed: u64,
}

impl Journal {
    /// Opens or makes a journal, tells `replay` of every record that counts, in
    /// order, and starts the committer.
    ///
    /// # Errors
    /// [`OpenError`]; damage is no error but part of the [`Recovery`].
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        mut replay: impl FnMut(Entry),
    ) -> Result<(Self, Recovery), OpenError> {
        let (log, recovery) = Log::open(disk, options, &mut replay)?;
        let reader = log.reader();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            limit: options.max_queued,
            synced: AtomicU64::new(log.synced()),
            counts: Mutex::default(),
            trouble: Mutex::default(),
        });
        let helper = Helper::start(options.segment_size)?;
        let thread = std::thread::Builder::new().name("journal".into()).spawn({
            let shared = shared.clone();
            move || Committer::new(log, shared, helper, options.back_off).run()
        })?;
        Ok((Self { shared, reader, thread: Mutex::new(Some(thread)) }, recovery))
    }

    /// Appends records that are in effect together or not at all.
    ///
    /// Appends made one after another are written in that order.
    pub fn append(&self, group: impl Into<Group>, durability: Durability) -> Ticket<Appended> {
        let group = group.into();
        self.request(|answer| Command::Append { group, durability, answer })
    }

    /// Appends like [`append`](Self::append), but is queued even if the queue is full.
    ///
    /// For small records that are few: then the order of the calls is the order
    /// of the records, whatever the load.
    pub fn append_urgent(
        &self,
        group: impl Into<Group>,
        durability: Durability,
    ) -> Ticket<Appended> {
        let (answer, slot) = Answer::new();
        self.shared.submit_urgent(Command::Append { group: group.into(), durability, answer });
        Ticket { shared: self.shared.clone(), blocked: None, slot }
    }

    /// Syncs all that was appended before; what has failed is void for good once this works.
    pub fn flush(&self) -> Ticket<()> {
        self.request(|answer| Command::Flush { answer })
    }

    /// Removes a segment once the caller needs none of its records.
    ///
    /// The segment being filled is sealed first, if it is that one. Removing one
    /// that is gone is no error.
    pub fn remove(&self, segment: u64) -> Ticket<()> {
        self.request(|answer| Command::Remove { segment, answer })
    }

    /// Seals the segment being filled, so that it can be removed.
    pub fn seal(&self) -> Ticket<()> {
        self.request(|answer| Command::Seal { answer })
    }

    /// The reading side.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The last sequence number that is on stable storage.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// What the committer has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be kept at present, if that is so.
    ///
    /// Set when the disk fails, and cleared by the next sync that works: while it is
    /// set the journal tries by itself, at growing intervals of up to a second, and
    /// answers appends in between with the same error.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finishes what was queued, seals the segment, ends the thread and gives the
    /// lock back. Later requests are answered with
    /// [`AppendError::Closed`](crate::AppendError::Closed);
    /// reading goes on.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported by its hook; all waiters were told.
            let _ = thread.join();
        }
    }

    fn request<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Ticket<T> {
        let (answer, slot) = Answer::new();
        let blocked = self.shared.submit(command(answer), || None);
        Ticket { shared: self.shared.clone(), blocked, slot }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// A request to the committer.
pub(crate) enum Command {
    Append { group: Group, durability: Durability, answer: Answer<Appended> },
    Remove { segment: u64, answer: Answer<()> },
    Seal { answer: Answer<()> },
    Flush { answer: Answer<()> },
}

impl Command {
    fn octets(&self) -> usize {
        match self {
            Self::Append { group, .. } => group.span() as usize,
            Self::Remove { .. } | Self::Seal { .. } | Self::Flush { .. } => 0,
        }
    }
}

/// What writers and committer share.
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    limit: usize,
    synced: AtomicU64,
    counts: Mutex<Counts>,
    trouble: Mutex<Option<String>>,
}

#[derive(Default)]
struct Queue {
    commands: Vec<Command>,
    octets: usize,
    /// Those who found no room.
    blocked: Vec<Waker>,
    /// No more work is to come.
    closing: bool,
    /// The committer is gone.
    closed: bool,
}

impl Shared {
    /// Queues a command, or gives it back and keeps the waker until there is room.
    ///
    /// After the committer has gone, the command is dropped, which answers it.
    pub(crate) fn submit(
        &self,
        command: Command,
        waker: impl FnOnce() -> Option<Waker>,
    ) -> Option<Command> {
        let queue = self.lock();
        if queue.octets > 0 && queue.octets + command.octets() > self.limit && !queue.closed {
            let mut queue = queue;
            queue.blocked.extend(waker());
            return Some(command);
        }
        self.push(queue, command);
        None
    }

    fn submit_urgent(&self, command: Command) {
        self.push(self.lock(), command);
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, command: Command) {
        if queue.closed {
            return;
        }
        queue.octets += command.octets();
        queue.commands.push(command);
        let first = queue.commands.len() == 1;
        drop(queue);
        if first {
            self.work.notify_one();
        }
    }

    /// Waits for commands, at most until `deadline`; `None` once all is over.
    fn take(&self, deadline: Option<Instant>) -> Option<Vec<Command>> {
        let mut queue = self.lock();
        while queue.commands.is_empty() {
            if queue.closing {
                return None;
            }
            queue = match deadline {
                None => self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some(Vec::new());
                    }
                    let waited = self.work.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        queue.octets = 0;
        let commands = std::mem::take(&mut queue.commands);
        let blocked = std::mem::take(&mut queue.blocked);
        drop(queue);
        blocked.into_iter().for_each(Waker::wake);
        Some(commands)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
