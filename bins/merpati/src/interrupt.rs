//! Ctrl-C: the first one asks to stop where no harm is done, the second one stops at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What shells say of a program that SIGINT has ended: 128 and its number.
const CODE: u8 = 130;

/// Whether the operator wants it to end.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Where that is not possible, Ctrl-C ends the process as ever.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        let flag = Arc::clone(&interrupt.0);
        let (ready, listening) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let kind = tokio::signal::unix::SignalKind::interrupt();
                let Ok(mut signals) = tokio::signal::unix::signal(kind) else { return };
                let _ = ready.send(());
                while signals.recv().await.is_some() {
                    if flag.swap(true, Ordering::Relaxed) {
                        std::process::exit(i32::from(CODE));
                    }
                }
            });
        });
        // The sender is dropped if that cannot be done.
        let _ = listening.recv();
        interrupt
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How an interrupted command exits.
pub(crate) fn code() -> ExitCode {
    CODE.into()
}
