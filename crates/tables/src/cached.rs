//! Remembering what a table answered.

mod memory;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{Table, TableError};
use tokio::sync::watch;
use tokio::time::Instant;

use self::memory::{Memory, Remembered};

/// The longest key that is remembered, in octets; longer ones are asked for each time.
const MAX_KEY: usize = 1024;

/// The longest value that is remembered, in octets.
const MAX_VALUE: usize = 4096;

/// Queries that may be under way at once; past it the table counts as unavailable.
const MAX_FLIGHTS: usize = 1000;

/// After a failure that was bridged with an old answer, the table is left alone so long for that
/// key: waiting for its time-out each time would make the bridge worth little.
const REST: Duration = Duration::from_secs(5);

/// What is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How long a value counts. Default five minutes.
    pub ttl: Duration,
    /// How long it counts that there is none. Default one minute: who adds a row waits so long.
    pub negative_ttl: Duration,
    /// How many answers are kept at most, values and none together. Default 10,000.
    pub entries: usize,
    /// How much longer a value counts while the table is unavailable. Default zero: then the
    /// look-up fails, and mail waits. That there is none never counts longer: it would turn an
    /// outage into refusals.
    pub stale: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(60),
            entries: 10_000,
            stale: Duration::ZERO,
        }
    }
}

impl CacheConfig {
    /// Reads the options `ttl`, `negative_ttl`, `stale` (at most a day) and `entries` (1 to a
    /// million).
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let Self { ttl, negative_ttl, entries, stale } = Self::default();
        let times = Duration::ZERO..=Duration::from_secs(86_400);
        let mut reader = options.reader();
        let read = Self {
            ttl: reader.ranged("ttl", times.clone(), ttl),
            negative_ttl: reader.ranged("negative_ttl", times.clone(), negative_ttl),
            entries: reader.ranged("entries", 1..=1_000_000, entries),
            stale: reader.ranged("stale", times, stale),
        };
        reader.finish()?;
        Ok(read)
    }
}

/// A table whose answers are remembered.
///
/// - Who asks for a key that is being asked for waits for that answer: however many want it, the
///   table gets one query. A query goes on to its end when those who wait give up, so that its
///   answer is there for the next.
/// - Errors are not remembered.
/// - The memory is bounded; answers not asked for in a long time go first.
///
/// Needs a tokio runtime, on which it spawns its queries.
pub struct Cached {
    shared: Arc<Shared>,
}

struct Shared {
    table: Arc<dyn Table>,
    config: CacheConfig,
    memory: Mutex<Memory<Flight>>,
}

/// A query under way: `None` until there is an answer.
type Flight = watch::Receiver<Option<Outcome>>;
type Outcome = Result<Option<Arc<str>>, Cause>;

impl Cached {
    /// Remembers what `table` answers.
    #[must_use]
    pub fn new(table: Arc<dyn Table>, config: CacheConfig) -> Self {
        let memory = Mutex::new(Memory::new(config.entries));
        Self { shared: Arc::new(Shared { table, config, memory }) }
    }
}

#[async_trait]
impl Table for Cached {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        if key.len() > MAX_KEY {
            return self.shared.table.find(key).await;
        }
        let mut flight = match self.shared.begin(key)? {
            Begun::Known(answer) => return Ok(answer.as_deref().map(str::to_owned)),
            Begun::Flying(flight) => flight,
        };
        let landed = flight.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match landed {
            Ok(Some(Ok(answer))) => Ok(answer.as_deref().map(str::to_owned)),
            Ok(Some(Err(cause))) => Err(TableError::Unavailable(Box::new(cause))),
            Ok(None) | Err(_) => Err(TableError::Unavailable("the look-up panicked".into())),
        }
    }

    fn knows_parts(&self) -> bool {
        self.shared.table.knows_parts()
    }
}

enum Begun {
    Known(Option<Arc<str>>),
    Flying(Flight),
}

impl Shared {
    /// The answer if it is known, else the query that will bring it.
    fn begin(self: &Arc<Self>, key: &str) -> Result<Begun, TableError> {
        let mut memory = self.memory();
        if let Some(known) = memory.get(key)
            && Instant::now() < known.fresh_until
        {
            return Ok(Begun::Known(known.value.clone()));
        }
        if let Some(flight) = memory.flight(key) {
            return Ok(Begun::Flying(flight.clone()));
        }
        if memory.flights() >= MAX_FLIGHTS {
            return Err(TableError::Unavailable("too many look-ups are under way".into()));
        }
        let (sender, flight) = watch::channel(None);
        let key: Arc<str> = key.into();
        memory.take_off(Arc::clone(&key), flight.clone());
        drop(memory);
        let landing = Landing { shared: Arc::clone(self), key };
        tokio::spawn(async move {
            let found = landing.shared.table.find(&landing.key).await;
            let outcome = landing.shared.learn(&landing.key, found);
            // Whoever comes after this asks the memory, whoever came before has the flight.
            drop(landing);
            sender.send_replace(Some(outcome));
        });
        Ok(Begun::Flying(flight))
    }

    /// Remembers what the table says, or bridges its failure.
    fn learn(&self, key: &Arc<str>, found: Result<Option<String>, TableError>) -> Outcome {
        let now = Instant::now();
        let mut memory = self.memory();
        let error = match found {
            Ok(value) => {
                let value: Option<Arc<str>> = value.map(Into::into);
                let ttl = if value.is_some() { self.config.ttl } else { self.config.negative_ttl };
                let fresh_until = now + ttl;
                let stale = if value.is_some() { self.config.stale } else { Duration::ZERO };
                let whole_until = fresh_until + stale;
                if value.as_ref().is_none_or(|value| value.len() <= MAX_VALUE) {
                    let known = Remembered { value: value.clone(), fresh_until, whole_until };
                    memory.put(Arc::clone(key), known);
                }
                return Ok(value);
            }
            Err(error) => error,
        };
        match memory.get(key) {
            Some(known) if now < known.whole_until => {
                tracing::warn!(%error, "table is unavailable, an old answer stands in");
                known.fresh_until = known.whole_until.min(now + REST);
                Ok(known.value.clone())
            }
            _ => Err(Cause::of(error)),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory<Flight>> {
        // Every change of the memory is whole before anything in it can panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, also when the table panics.
struct Landing {
    shared: Arc<Shared>,
    key: Arc<str>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.shared.memory().land(&self.key);
    }
}

/// Why a look-up failed, for all who waited for it.
#[derive(Clone, Debug)]
struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    fn of(error: TableError) -> Self {
        match error {
            TableError::Unavailable(source) => Self(source.into()),
            other => Self(Arc::new(other)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests;
