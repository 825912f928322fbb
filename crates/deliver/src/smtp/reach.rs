//! Which of several addresses answers: they are raced (RFC 8305), and what was found is remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

/// How long an address has for itself before the next is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// How long an address that did not answer, or too late, goes behind the others.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// The most addresses that are remembered.
const REMEMBERED: usize = 10_000;

/// The end of a race.
pub(crate) struct Race<S, E> {
    /// Whose connection is up, and the connection; `None` if nobody's is.
    pub(crate) won: Option<(usize, S)>,
    /// Who failed, and why.
    pub(crate) failed: Vec<(usize, E)>,
    /// Who was tried before the winner and had not answered when it did.
    pub(crate) late: Vec<usize>,
}

/// Tries `count` addresses in their order: each when the one before it has failed, or has had its
/// head start. The first connection that is up wins, and the others are given up.
pub(crate) async fn race<S, E, F>(count: usize, mut dial: impl FnMut(usize) -> F) -> Race<S, E>
where
    F: Future<Output = Result<S, E>>,
{
    let mut failed: Vec<(usize, E)> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut begun = 0;
    let mut next_at = Instant::now();
    loop {
        if begun < count && (running.is_empty() || Instant::now() >= next_at) {
            let (place, dialled) = (begun, dial(begun));
            running.push(async move { (place, dialled.await) });
            begun += 1;
            next_at = Instant::now() + HEAD_START;
        }
        tokio::select! {
            ended = running.next() => match ended {
                Some((place, Ok(stream))) => {
                    let silent = |other: &usize| failed.iter().all(|(failed, _)| failed != other);
                    let late = (0..place).filter(silent).collect();
                    return Race { won: Some((place, stream)), failed, late };
                }
                Some((place, Err(error))) => {
                    failed.push((place, error));
                    next_at = Instant::now();
                }
                None => return Race { won: None, failed, late: Vec::new() },
            },
            () = tokio::time::sleep_until(next_at), if begun < count => {}
        }
    }
}

/// Which addresses did not answer lately.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<IpAddr, Instant>>);

impl Memory {
    /// Whether it goes behind those that answer.
    pub(crate) fn is_bad(&self, address: IpAddr) -> bool {
        self.lock().get(&address).is_some_and(|since| since.elapsed() < MEMORY)
    }

    /// It did not answer, or too late.
    pub(crate) fn failed(&self, address: IpAddr) {
        let mut bad = self.lock();
        if bad.len() >= REMEMBERED {
            bad.retain(|_, since| since.elapsed() < MEMORY);
        }
        // Who does not fit is found out about again, at the price of a head start.
        if bad.len() < REMEMBERED {
            bad.insert(address, Instant::now());
        }
    }

    /// It answered.
    pub(crate) fn answered(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after so many milliseconds: positive with a connection, negative with an error,
    /// 0 never.
    async fn run(answers: &[i64], expected: &str) {
        let begun = Instant::now();
        let at = |after: i64| Instant::now() + Duration::from_millis(after.unsigned_abs());
        let dial = |place: usize| {
            let after = answers[place];
            async move {
                match after {
                    0 => std::future::pending().await,
                    _ => tokio::time::sleep_until(at(after)).await,
                }
                if after > 0 { Ok(place) } else { Err(()) }
            }
        };
        let race = race(answers.len(), dial).await;
        let won = race.won.map(|(place, stream)| {
            assert_eq!(place, stream);
            place
        });
        let failed: Vec<_> = race.failed.iter().map(|(place, _)| place).collect();
        let took = begun.elapsed().as_millis();
        let said = format!("{won:?} after {took}, failed {failed:?}, late {:?}", race.late);
        assert_eq!(said, expected, "{answers:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_wins() {
        run(&[], "None after 0, failed [], late []").await;
        run(&[10, 10], "Some(0) after 10, failed [], late []").await;
        run(&[0, 10], "Some(1) after 260, failed [], late [0]").await;
        run(&[-5, 10], "Some(1) after 15, failed [0], late []").await;
        run(&[-300, 0, 10], "Some(2) after 310, failed [0], late [1]").await;
        // A slow one still wins if the next is slower.
        run(&[300, 100], "Some(0) after 300, failed [], late []").await;
        run(&[-5, -600, -20], "None after 605, failed [0, 2, 1], late []").await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_is_remembered_for_a_while() {
        let memory = Memory::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!memory.is_bad(address));
        memory.failed(address);
        assert!(memory.is_bad(address));
        memory.answered(address);
        assert!(!memory.is_bad(address));
        memory.failed(address);
        tokio::time::advance(MEMORY).await;
        assert!(!memory.is_bad(address));
        let many = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        (0..REMEMBERED + 5).for_each(|number| memory.failed(many(number)));
        assert_eq!(memory.lock().len(), REMEMBERED);
    }
}
