//! The admin API: HTTP over a Unix socket that only its owner can use, and over TCP for whoever
//! shows the token. [`crate::api`] lists what can be asked.

mod queue;
mod socket;
mod status;
mod token;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::{fmt, io};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use merpati_plugin::{Spool, async_trait};
use merpati_types::Secret;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::activity::Activity;
use crate::api::{DnssecView, ErrorView};
use crate::metrics::Metrics;

pub use status::Vitals;

/// Something a role adds to the API: `POST /v1/NAME`, JSON in and out.
#[async_trait]
pub trait Command: Send + Sync {
    /// Answers one request.
    ///
    /// # Errors
    /// [`CommandError`]: what the client is told.
    async fn run(&self, input: serde_json::Value) -> Result<serde_json::Value, CommandError>;
}

/// Why a command is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The request is wrong: 400.
    #[error("{0}")]
    Wrong(String),
    /// What it asks for does not exist: 404.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be answered now: 503.
    #[error("{0}")]
    Unavailable(String),
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not yet serving.
    Starting,
    /// Taking mail.
    Serving,
    /// Finishing what is in hand.
    Draining,
}

impl Phase {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// Tells load balancers and supervisors whether mail is taken. Clones share one state, which
/// begins as [`Phase::Starting`].
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Changes it.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        [Phase::Starting, Phase::Serving, Phase::Draining]
            .into_iter()
            .find(|phase| *phase as u8 == self.0.load(Ordering::Relaxed))
            .unwrap_or(Phase::Starting)
    }
}

/// Says why new mail is turned away for want of room, if it is.
pub type Shedding = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Says whether answers of the DNS are validated.
pub type DnssecHealth = Arc<dyn Fn() -> DnssecView + Send + Sync>;

/// What the API is made of.
pub struct AdminSettings {
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/ready` tells.
    pub readiness: Readiness,
    /// What `/v1/activity` shows.
    pub activity: Arc<Activity>,
    /// The queue.
    pub spool: Arc<dyn Spool>,
    /// Says why new mail is turned away for want of room, if it is.
    pub shedding: Shedding,
    /// Says whether answers of the DNS are validated.
    pub dnssec: DnssecHealth,
    /// What the role adds, by name: `explain/rcpt` is `POST /v1/explain/rcpt`.
    pub commands: Vec<(String, Arc<dyn Command>)>,
}

/// The API cannot be served. One line says why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Somebody answers on the socket already.
    #[error("admin socket {}: another server is using it", path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// There is something in the way that is not ours to remove.
    #[error("admin socket {}: there is a file that is no socket", path.display())]
    NoSocket {
        /// Which path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("admin socket {}: {source}", path.display())]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The system refused.
    #[error("admin address {address}: {source}")]
    Address {
        /// Which address.
        address: SocketAddr,
        /// What it said.
        source: io::Error,
    },
}

/// The admin API.
#[derive(Clone)]
pub struct Admin {
    router: Router,
}

/// An API that is being served.
pub struct Serving {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// What to remove at the end.
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
}

impl Admin {
    /// Puts the API together. Command names must differ.
    #[must_use]
    pub fn new(settings: AdminSettings) -> Self {
        let vitals = Vitals::of(&settings);
        let AdminSettings { metrics, activity, spool, commands, .. } = settings;
        let mut router = Router::new()
            .merge(status::router(vitals, metrics, activity))
            .merge(queue::router(spool));
        for (name, command) in commands {
            router = router.route(&format!("/v1/{name}"), post(run).with_state(command));
        }
        Self { router }
    }

    /// Serves over a Unix socket that only its owner can use. A socket that nobody answers on is
    /// replaced.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn serve_unix(&self, path: &Path) -> Result<Serving, AdminError> {
        let listener = socket::bind(path).await?;
        Ok(self.serve(listener, self.router.clone(), Some(path.to_owned()), None))
    }

    /// Serves over TCP to whoever shows the token.
    ///
    /// # Errors
    /// [`AdminError::Address`].
    pub async fn serve_tcp(
        &self,
        address: SocketAddr,
        token: Secret<String>,
    ) -> Result<Serving, AdminError> {
        let failed = |source| AdminError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let router = token::demand(self.router.clone(), token);
        Ok(self.serve(listener, router, None, Some(bound)))
    }

    fn serve<L>(
        &self,
        listener: L,
        router: Router,
        socket: Option<PathBuf>,
        address: Option<SocketAddr>,
    ) -> Serving
    where
        L: axum::serve::Listener,
        L::Addr: fmt::Debug,
    {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let stopped = async move {
                // The sender gone is a stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await
            {
                tracing::error!(%error, "the admin API has ended");
            }
        });
        Serving { stop, task, socket, address }
    }
}

impl Serving {
    /// The address that is listened on, over TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops, finishes the requests in hand, and removes the socket.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A request that panicked has been told of by the runtime.
        let _ = self.task.await;
        if let Some(path) = self.socket {
            // A socket that stays behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn run(State(command): State<Arc<dyn Command>>, body: Bytes) -> Result<Response, Refused> {
    let input = read(&body)?;
    let output: serde_json::Value = command.run(input).await?;
    Ok(axum::Json(output).into_response())
}

/// A request that is not answered.
struct Refused(CommandError);

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            CommandError::Wrong(_) => StatusCode::BAD_REQUEST,
            CommandError::NotFound(_) => StatusCode::NOT_FOUND,
            CommandError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, axum::Json(ErrorView { error: self.0.to_string() })).into_response()
    }
}

/// The JSON of a request; nothing at all is the empty object.
fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, CommandError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| CommandError::Wrong(error.to_string()))
}

#[cfg(test)]
mod tests;
