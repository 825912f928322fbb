//! Waiting until what was there before a start has been read.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::open::Report;

/// What was found, once it is known.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    report: Mutex<Option<Arc<Report>>>,
    told: Condvar,
    notify: Notify,
}

impl Whole {
    pub(crate) fn tell(&self, report: Report) {
        *self.lock() = Some(Arc::new(report));
        self.told.notify_all();
        self.notify.notify_waiters();
    }

    /// Waits in this thread.
    pub(crate) fn wait(&self) -> Arc<Report> {
        let mut report = self.lock();
        loop {
            if let Some(report) = &*report {
                return report.clone();
            }
            report = self.told.wait(report).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) async fn wait_for(&self) -> Arc<Report> {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(report) = &*self.lock() {
                return report.clone();
            }
            notified.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Report>>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
