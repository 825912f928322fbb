//! What the system asks of a server.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A wish of the system or the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is in hand and end.
    Drain,
    /// SIGHUP: read configuration and certificates again.
    Reload,
}

/// Receives signals. While it lives, they do not end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// What the system said.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next signal. Cancelling the wait loses none.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Drain,
            _ = self.interrupt.recv() => Signal::Drain,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_is_told() {
        let mut signals = Signals::listen().unwrap();
        let own = rustix::process::getpid();
        for (sent, expected) in [
            (rustix::process::Signal::HUP, Signal::Reload),
            (rustix::process::Signal::TERM, Signal::Drain),
        ] {
            rustix::process::kill_process(own, sent).unwrap();
            assert_eq!(signals.next().await, expected);
        }
    }
}
