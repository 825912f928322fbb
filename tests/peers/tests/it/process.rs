//! A server process and what it logs.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a process may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A process that is stopped when this is dropped; its log is shown if the test failed.
pub(crate) struct Process {
    name: String,
    child: Child,
    pub(crate) log: Arc<Log>,
}

impl Process {
    /// Starts `command`, and waits until it logs `ready`.
    pub(crate) fn start(name: &str, command: Command, ready: &str) -> Self {
        let process = Self::spawn(name, command);
        process.log.wait(ready);
        process
    }

    /// Starts `command`.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {name}: {error}; is it installed?"),
        };
        let log = Arc::new(Log::default());
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            log.follow(stream);
        }
        Self { name: name.to_owned(), child, log }
    }

    /// Asks the process to stop, and sees to it that it does.
    fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        // Its log ends when it does, since nobody else writes there but its own children.
        if !self.log.ends_within(STOP_LIMIT) {
            eprintln!("{} does not stop", self.name);
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- the log of {}:", self.name);
            for line in &self.log.state().lines {
                eprintln!("{line}");
            }
        }
    }
}

/// The lines a process has logged so far.
#[derive(Default)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// Streams that may still bring lines.
    open: usize,
}

impl Log {
    fn follow(self: &Arc<Self>, stream: Box<dyn Read + Send>) {
        self.state().open += 1;
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.state().lines.push(text);
                log.changed.notify_all();
                line.clear();
            }
            log.state().open -= 1;
            log.changed.notify_all();
        });
    }

    /// Waits for a line with `text`; answers it.
    pub(crate) fn wait(&self, text: &str) -> String {
        self.wait_for(1, text).remove(0)
    }

    /// Waits until `count` lines with `text` are there; answers all of them.
    pub(crate) fn wait_for(&self, count: usize, text: &str) -> Vec<String> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            let found: Vec<_> =
                state.lines.iter().filter(|line| line.contains(text)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = LIMIT.saturating_sub(began.elapsed());
            let gone = state.open == 0;
            if left.is_zero() || gone {
                let all = state.lines.join("\n");
                drop(state);
                let why = if gone { "the process ended" } else { "it took too long" };
                panic!("{} of {count} lines with `{text}`: {why}\n{all}", found.len());
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// How many lines have `text` now.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.state().lines.iter().filter(|line| line.contains(text)).count()
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let state = self.state();
        let ended = self.changed.wait_timeout_while(state, limit, |state| state.open > 0);
        !ended.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
