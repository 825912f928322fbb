//! A thread that makes the next segment while the committer fills this one.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::log::Log;
use crate::spare::{Preparation, Prepared};

/// Segments below this size are made so soon that no thread is worth it.
const LEAST: u64 = 1 << 20;

/// The committer's end of it. Dropping it waits for what is under way.
pub(super) struct Helper {
    work: Option<Sender<Preparation>>,
    made: Receiver<io::Result<Prepared>>,
    thread: Option<JoinHandle<()>>,
    /// The segment that was being filled when the next was last asked for.
    asked: Option<u64>,
}

impl Helper {
    /// Starts the thread, if segments of this size are worth it.
    pub(super) fn start(segment_size: u64) -> io::Result<Option<Self>> {
        if segment_size < LEAST {
            return Ok(None);
        }
        let (work, todo) = channel::<Preparation>();
        let (done, made) = channel();
        let run = move || {
            for preparation in todo {
                if done.send(preparation.run()).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("journal-ahead".into()).spawn(run)?;
        Ok(Some(Self { work: Some(work), made, thread: Some(thread), asked: None }))
    }

    /// Hands over what was made, and asks for the next once for each segment.
    pub(super) fn look_ahead(&mut self, log: &mut Log) {
        while let Ok(made) = self.made.try_recv() {
            log.prepared(made);
        }
        if log.active().is_none() || log.active() == self.asked {
            return;
        }
        if let (Some(work), Some(preparation)) = (&self.work, log.preparation()) {
            self.asked = log.active();
            // It ends only with this end of it, or by a panic that was reported.
            let _ = work.send(preparation);
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
