//! Calls of plugins: bounded in time, and a panic is only theirs.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use merpati_types::{Rejection, Status};

use crate::decision::Failure;

/// The longest a plugin may take at one stage, unless configured.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(30);

/// What the peer hears of a plugin's failure.
pub(crate) fn failed() -> Rejection {
    Rejection::transient(Status::SYSTEM, "temporary failure, try again later")
}

/// What a call answered, and in which time.
pub(crate) struct Answer<T> {
    pub(crate) result: Result<Result<T, Failure>, Gone>,
    pub(crate) took: Duration,
}

/// Why there is no answer, and the object cannot be asked again.
pub(crate) enum Gone {
    TimedOut(Duration),
    Panicked(Box<dyn Any + Send>),
}

impl Gone {
    /// One word for logs, and what is known.
    pub(crate) fn tell(self) -> (&'static str, Option<String>) {
        match self {
            Self::TimedOut(limit) => ("timed out", Some(format!("no answer within {limit:?}"))),
            Self::Panicked(payload) => {
                let text = payload
                    .downcast_ref::<&str>()
                    .map(ToString::to_string)
                    .or_else(|| payload.downcast_ref::<String>().cloned());
                ("panicked", text)
            }
        }
    }
}

/// Runs one call with its time limit and catches its panics.
pub(crate) async fn guarded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Failure>>,
) -> Answer<T> {
    let began = Instant::now();
    let mut call = pin!(call);
    let mut guard = pin!(std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Err(Gone::Panicked(payload))),
        }
    }));
    // Most policies answer at once; only those that wait cost a timer.
    let at_once = std::future::poll_fn(|context| match guard.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await;
    let result = match at_once {
        Some(answer) => answer,
        None => match tokio::time::timeout(limit, guard).await {
            Ok(answer) => answer,
            Err(_) => Err(Gone::TimedOut(limit)),
        },
    };
    Answer { result, took: began.elapsed() }
}
