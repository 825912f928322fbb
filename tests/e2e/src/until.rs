//! Waiting for what happens elsewhere.

use std::time::{Duration, Instant};

/// How often the state of things is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks until `look` finds something; answers it, or `None` once `limit` is over.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::park_timeout(INTERVAL);
    }
}

/// Waits until `is` holds; answers whether it did within `limit`.
#[must_use]
pub fn holds(limit: Duration, mut is: impl FnMut() -> bool) -> bool {
    within(limit, || is().then_some(())).is_some()
}

/// Lets time pass while something is measured; tests wait for events instead.
pub fn pass(time: Duration) {
    let (_silent, nothing) = std::sync::mpsc::channel::<()>();
    // Nothing comes.
    let _ = nothing.recv_timeout(time);
}
