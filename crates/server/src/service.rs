//! What a listener needs to hold a conversation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use merpati_plugin::{Authenticator, Chain, Observers, Spool};
use merpati_sasl::Mechanism;
use merpati_session::server::{self as session, ServerConfig};
use merpati_types::{Domain, Timestamp};

use crate::tls::TlsStore;

/// The time of day. `Instant`s come from the runtime, which tests can pause.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is broken; the epoch is as good as what it says.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    #[default]
    None,
    /// By STARTTLS, if the client wants.
    StartTls,
    /// By STARTTLS, and nothing else before it.
    StartTlsRequired,
    /// With the first byte (RFC 8314).
    Implicit,
}

/// Whether `Received` names the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceClient {
    /// Its address and the name it gave (RFC 5321 §4.4).
    #[default]
    Shown,
    /// Nothing: users' addresses are their own business.
    Hidden,
}

/// The parts a [`Service`] is made of.
pub struct ServiceSettings {
    /// The listener's name, in logs.
    pub listener: Arc<str>,
    /// Our name.
    pub hostname: Domain,
    /// The session's limits and offers; hostname, STARTTLS and mechanisms are set from the rest.
    pub session: ServerConfig,
    /// When TLS begins.
    pub tls_mode: TlsMode,
    /// Certificates; needed unless `tls_mode` is [`TlsMode::None`].
    pub tls: Option<Arc<TlsStore>>,
    /// The policies.
    pub chain: Chain,
    /// Who knows users, if anybody may authenticate.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// Where messages go.
    pub spool: Arc<dyn Spool>,
    /// Who is told.
    pub observers: Observers,
    /// Whether a transaction that a client repeats, because it never saw our 250, is looked for.
    pub repeats: Repeats,
    /// Whether `Received` names the client.
    pub trace_client: TraceClient,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// Whether repeated transactions are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeats {
    /// Every transaction is a new one.
    #[default]
    Ignored,
    /// The spool is told what tells a transaction from all others.
    Sought,
}

/// What a listener needs to hold a conversation. Immutable: a reload makes a new one, for the
/// connections to come.
pub struct Service {
    pub(crate) parts: ServiceSettings,
    pub(crate) session: Arc<ServerConfig>,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Service {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ServiceSettings) -> Self {
        let mechanisms = parts.authenticator.as_ref().map_or_else(Vec::new, |authenticator| {
            let served = authenticator.mechanisms();
            let served = |mechanism: &Mechanism| match mechanism {
                Mechanism::Plain | Mechanism::Login => served.password,
                _ => false,
            };
            Mechanism::ALL.into_iter().filter(served).map(|m| m.name().to_owned()).collect()
        });
        let session = ServerConfig {
            hostname: parts.hostname.as_ascii().to_owned(),
            starttls: match parts.tls_mode {
                TlsMode::None | TlsMode::Implicit => session::StartTls::Absent,
                TlsMode::StartTls => session::StartTls::Offered,
                TlsMode::StartTlsRequired => session::StartTls::Required,
            },
            mechanisms,
            ..parts.session.clone()
        };
        Self { session: Arc::new(session), parts }
    }

    /// A number for a new connection.
    pub(crate) fn next_connection() -> u64 {
        CONNECTIONS.fetch_add(1, Ordering::Relaxed)
    }
}
