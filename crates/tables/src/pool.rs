//! Connections that are used by one look-up at a time, and rest in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long a connection may rest.
const IDLE: Duration = Duration::from_secs(300);

/// Connections at rest, and turns for those in use. It needs no runtime to be made, and no task.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    turns: Semaphore,
    idle: Mutex<Vec<(C, Instant)>>,
}

impl<C> Pool<C> {
    /// For so many connections at once.
    pub(crate) fn new(connections: u8) -> Self {
        Self { turns: Semaphore::new(connections.into()), idle: Mutex::new(Vec::new()) }
    }

    /// Waits for its turn to have a connection.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// The connection that has rested for the shortest time. Those that are not alive, or have
    /// rested for too long, are dropped.
    pub(crate) fn rested(&self, alive: impl Fn(&mut C) -> bool) -> Option<C> {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.retain_mut(|(connection, since)| {
            now.duration_since(*since) < IDLE && alive(connection)
        });
        idle.pop().map(|(connection, _)| connection)
    }

    /// Lets a connection rest. There are never more than turns: whoever has one has a turn.
    pub(crate) fn keep(&self, connection: C) {
        self.idle().push((connection, Instant::now()));
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(C, Instant)>> {
        // Nothing that can panic happens between two changes of the list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_rest_for_a_bounded_time() {
        let pool = Pool::new(2);
        pool.keep(1);
        tokio::time::advance(IDLE / 2).await;
        pool.keep(2);
        pool.keep(3);
        assert_eq!(pool.rested(|connection| *connection != 3), Some(2));
        assert_eq!(pool.rested(|_| true), Some(1));
        assert_eq!(pool.rested(|_| true), None);
        pool.keep(4);
        tokio::time::advance(IDLE).await;
        assert_eq!(pool.rested(|_| true), None);
        let turns = [pool.turn().await, pool.turn().await];
        tokio::time::timeout(IDLE, pool.turn()).await.unwrap_err();
        drop(turns);
        drop(pool.turn().await);
    }
}
