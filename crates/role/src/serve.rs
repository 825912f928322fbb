//! Serving: bind, drop privileges, open the spool, listen, run the queue, drain.

use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use merpati_config::RoleConfig;
use merpati_config::sections::LogFormat;
use merpati_deliver::{Runner, RunnerParts};
use merpati_plugin::{Observer, Observers, Spool};
use merpati_queue::{Limits, Schedule};
use merpati_server::limits::{ConnectionLimits, Gate};
use merpati_server::{Listener, Server, listener};
use merpati_spool::DiskSpool;
use merpati_types::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{self, Fatal};
use crate::compose::{Composed, within};
use crate::observe::Log;
use crate::reload::Reloadable;
use crate::role::Role;

/// How long attempts under way may take once the server is told to stop, beyond its drain.
const RUNNER_DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn serve(role: Role, path: &Path) -> Result<(), Fatal> {
    let composed = cli::read(&role, path)?;
    start_log(&composed.config);
    let mut sockets = Vec::new();
    for (number, address) in composed.addresses() {
        sockets.push((number, listener::bind(address)?));
    }
    let state_dir = &composed.config.state_dir.value;
    let what = || format!("state directory {}", state_dir.display());
    std::fs::create_dir_all(state_dir).map_err(Fatal::system(what()))?;
    let spool = open_spool(&composed.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Fatal::system("cannot start the runtime"))?;
    runtime.block_on(run(role, path, composed, sockets, spool))
}

fn start_log(config: &RoleConfig) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log.level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let result = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = result {
        eprintln!("the log was started already: {error}");
    }
}

fn open_spool(config: &RoleConfig) -> Result<DiskSpool, Fatal> {
    let options = merpati_spool::Options {
        memory: usize::try_from(config.spool.memory.0).unwrap_or(usize::MAX),
        min_free: config.spool.min_free.0,
        index_cache: config.spool.index_cache.0,
        ..merpati_spool::Options::default()
    };
    let directory = &config.spool.path;
    match DiskSpool::open(directory, options) {
        Ok((spool, report)) => {
            tracing::info!(directory = %directory.display(), ?report, "spool opened");
            Ok(spool)
        }
        Err(error) => Err(Fatal::Spool(format!("spool {}: {error}", directory.display()))),
    }
}

async fn run(
    role: Role,
    path: &Path,
    composed: Composed,
    sockets: Vec<(usize, StdListener)>,
    spool: DiskSpool,
) -> Result<(), Fatal> {
    let spool: Arc<dyn Spool> = Arc::new(spool);
    let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(Log)];
    observers.extend(role.observers.iter().cloned());
    let observers = Observers::new(observers);
    let services =
        composed.services(&spool, &observers).map_err(|error| Fatal::Refused(error.to_string()))?;
    let services: Vec<_> = services.into_iter().map(|s| Arc::new(ArcSwap::from(s))).collect();
    let Composed { config, routing, .. } = composed;
    let routing = Arc::new(ArcSwap::from_pointee(routing));

    let gate = Gate::new(ConnectionLimits {
        total: config.limits.connections,
        per_address: config.limits.connections_per_address,
    });
    let server = Server::new(gate);
    for (number, socket) in sockets {
        let listen = &config.listeners[number];
        server.listen(Listener {
            socket: listener::into_tokio(socket).map_err(Fatal::system("cannot listen"))?,
            service: Arc::clone(&services[number]),
            proxies: within(&listen.proxy_from),
            xclients: within(&listen.xclient_from),
        });
    }
    let (stop, stopped) = watch::channel(false);
    let runner = Runner::new(runner_parts(&config, &spool, &routing, &observers));
    let runner = tokio::spawn(runner.run(stopped));
    let kind = role.kind;
    let reloadable = Reloadable {
        role,
        path: path.to_owned(),
        services,
        routing,
        spool: Arc::clone(&spool),
        observers,
    };
    tracing::info!(role = kind.binary(), hostname = %config.hostname, "serving");
    wait_for_stop(&reloadable).await?;

    tracing::info!("draining");
    let left = server.drain(config.limits.drain).await;
    let _ = stop.send(true);
    let unfinished = tokio::time::timeout(RUNNER_DRAIN, runner).await.is_err();
    spool.close().await;
    tracing::info!(connections = left, unfinished, "stopped");
    Ok(())
}

fn runner_parts(
    config: &RoleConfig,
    spool: &Arc<dyn Spool>,
    routing: &Arc<ArcSwap<merpati_deliver::Routing>>,
    observers: &Observers,
) -> RunnerParts {
    let deliver = &config.deliver;
    RunnerParts {
        spool: Arc::clone(spool),
        routing: Arc::clone(routing),
        observers: observers.clone(),
        schedule: Schedule {
            first: deliver.retry_first,
            most: deliver.retry_most,
            expiry: deliver.expire,
            warn_after: deliver.warn,
            ..Schedule::default()
        },
        limits: Limits {
            running: deliver.concurrency,
            site_most: deliver.concurrency_per_site,
            ..Limits::default()
        },
        hostname: config.hostname.as_ascii().to_owned(),
        now: system_time,
    }
}

/// Serves until SIGTERM or SIGINT; SIGHUP reloads.
async fn wait_for_stop(reloadable: &Reloadable) -> Result<(), Fatal> {
    let signals = |kind| signal(kind).map_err(Fatal::system("cannot listen for signals"));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => tokio::task::block_in_place(|| reloadable.reload()),
        }
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
