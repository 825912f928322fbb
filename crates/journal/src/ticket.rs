//! The answer to come from the committer, for async and for blocking callers.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::committer::{Command, Shared};
use crate::error::AppendError;

/// What the committer will answer: a future, or something to [`wait`](Self::wait) for.
///
/// The request is made when the ticket is, unless the queue is full: then the
/// ticket holds it back until it is polled with room. Dropping a ticket that was
/// queued does not take the request back.
#[must_use = "nothing is durable before the ticket has answered"]
pub struct Ticket<T> {
    pub(crate) shared: Arc<Shared>,
    /// The request, while the queue has no room for it.
    pub(crate) blocked: Option<Command>,
    pub(crate) slot: Arc<Slot<T>>,
}

impl<T> Ticket<T> {
    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// Whatever the request fails with.
    pub fn wait(mut self) -> Result<T, AppendError> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(command) = self.blocked.take() {
            let waker = context.waker();
            let refused = self.shared.submit(command, || Some(waker.clone()));
            if refused.is_some() {
                self.blocked = refused;
                return Poll::Pending;
            }
        }
        self.slot.poll(context)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Where an answer is left.
pub(crate) struct Slot<T>(Mutex<SlotState<T>>);

enum SlotState<T> {
    Empty,
    Awaited(Waker),
    Filled(Result<T, AppendError>),
    Taken,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, SlotState<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T, AppendError>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Filled(answer) => Poll::Ready(answer),
            SlotState::Taken => Poll::Ready(Err(AppendError::Closed)),
            SlotState::Empty | SlotState::Awaited(_) => {
                *state = SlotState::Awaited(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The duty to fill a slot: dropped without an answer, it says `Closed`.
pub(crate) struct Answer<T>(Arc<Slot<T>>);

impl<T> Answer<T> {
    pub(crate) fn new() -> (Self, Arc<Slot<T>>) {
        let slot = Arc::new(Slot(Mutex::new(SlotState::Empty)));
        (Self(slot.clone()), slot)
    }

    pub(crate) fn give(self, answer: Result<T, AppendError>) {
        self.fill(answer);
    }

    fn fill(&self, answer: Result<T, AppendError>) {
        let mut state = self.0.lock();
        if matches!(*state, SlotState::Filled(_) | SlotState::Taken) {
            return;
        }
        let before = std::mem::replace(&mut *state, SlotState::Filled(answer));
        drop(state);
        if let SlotState::Awaited(waker) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.fill(Err(AppendError::Closed));
    }
}
