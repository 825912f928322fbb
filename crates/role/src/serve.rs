//! Serving: bind, drop privileges, open the spool, listen, run the queue, drain.

use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use merpati_config::RoleConfig;
use merpati_config::sections::{Admin as AdminConfig, LogFormat};
use merpati_deliver::{Runner, RunnerParts};
use merpati_dns::{DnssecState, HickoryResolver};
use merpati_ops::api::DnssecView;
use merpati_ops::{
    Activity, Admin, AdminSettings, Command, DnssecHealth, EventLog, Metrics, Phase, Readiness,
    Serving, Shedding, Signal, Signals, User, Vitals, log, privileges, state_dir,
};
use merpati_plugin::{Observer, Observers, Spool};
use merpati_policy::quota::Usage;
use merpati_policy::suppression::Suppression;
use merpati_server::limits::{ConnectionLimits, Gate};
use merpati_server::{Listener, Server, Service, listener};
use merpati_spool::DiskSpool;
use merpati_tlspolicy::{Results, StsSettings, StsStore};
use merpati_types::Timestamp;
use tokio::sync::watch;

use crate::alarm;
use crate::cli::{self, Fatal};
use crate::compose::{Composed, within};
use crate::explain::ExplainRecipient;
use crate::reload::Reloadable;
use crate::role::Role;
use crate::suppression;
use crate::tls_reports::{TlsReports, report};

/// How long attempts under way may take once the server is told to stop, beyond its drain.
const RUNNER_DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn serve(role: Role, path: &Path) -> Result<(), Fatal> {
    let composed = cli::read(&role, path)?;
    start_log(&composed.config);
    let user = match &composed.config.user {
        Some(user) => Some(User::find(&user.value)?),
        None => None,
    };
    privileges::check(user.as_ref())?;
    let mut sockets = Vec::new();
    for (number, address) in composed.addresses() {
        sockets.push((number, listener::bind(address)?));
    }
    privileges::restrict_files();
    let directory = &composed.config.state_dir.value;
    state_dir::prepare(directory, user.as_ref())?;
    if let Some(user) = &user {
        privileges::drop_to(user)?;
    }
    state_dir::check_writable(directory)?;
    let spool = open_spool(&composed)?;
    if let (Some(config), Some(suppression)) = (&composed.config.suppression, &composed.suppression)
    {
        suppression.connect(suppression::open(config)?);
    }
    let policies = open_policies(&composed)?;
    let results = composed.tls_reports.as_ref().map(TlsReports::open).transpose()?;
    let opened = Opened { spool, policies, results };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Fatal::system("cannot start the runtime"))?;
    runtime.block_on(run(role, path, composed, sockets, opened))
}

fn start_log(config: &RoleConfig) {
    let format = match config.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(format, &config.log.level);
}

fn open_spool(composed: &Composed) -> Result<DiskSpool, Fatal> {
    let config = &composed.config;
    let options = merpati_spool::Options {
        memory: usize::try_from(config.spool.memory.0).unwrap_or(usize::MAX),
        min_free: config.spool.min_free.0,
        index_cache: config.spool.index_cache.0,
        repeat_window: composed.repeat_window(),
        ..merpati_spool::Options::default()
    };
    let directory = &config.spool.path;
    DiskSpool::start(directory, options)
        .map_err(|error| Fatal::Spool(format!("spool {}: {error}", directory.display())))
}

/// The policies of MTA-STS that are known, if any are heeded.
fn open_policies(composed: &Composed) -> Result<Option<StsStore>, Fatal> {
    let Some(sts) = &composed.sts else { return Ok(None) };
    let config = &composed.config.mta_sts;
    let settings = StsSettings { port: config.port, ..StsSettings::default() };
    let resolver = Arc::new(composed.resolver.clone());
    let store = StsStore::open(&config.path, resolver, sts.client.clone(), &settings)
        .map_err(|error| Fatal::Refused(format!("MTA-STS policies: {error}")))?;
    sts.slot.connect(store.clone());
    Ok(Some(store))
}

/// What is open before anything runs.
struct Opened {
    spool: DiskSpool,
    policies: Option<StsStore>,
    results: Option<Results>,
}

async fn run(
    role: Role,
    path: &Path,
    composed: Composed,
    sockets: Vec<(usize, StdListener)>,
    Opened { spool, policies, results }: Opened,
) -> Result<(), Fatal> {
    let spool = Arc::new(spool);
    alarm::tell_what_is_there(Arc::clone(&spool));
    let spool: Arc<dyn Spool> = spool;
    let (metrics, activity) = (Arc::new(Metrics::new()), Arc::new(Activity::default()));
    let observers = observers(&role, &metrics, &activity);
    let services =
        composed.services(&spool, &observers).map_err(|error| Fatal::Refused(error.to_string()))?;
    let services: Vec<_> = services.into_iter().map(|s| Arc::new(ArcSwap::from(s))).collect();
    let usage = Arc::new(ArcSwap::from_pointee(composed.usage.clone()));
    let Composed { config, routing, resolver, suppression, tls_reports, .. } = composed;
    let (stop, stopped) = watch::channel(false);
    let reporter = report((tls_reports, results.clone()), &resolver, &spool, stopped.clone());
    let resolver = watched(resolver);
    let routing = Arc::new(ArcSwap::from_pointee(routing));
    let signals = Signals::listen().map_err(Fatal::system("cannot listen for signals"))?;
    let readiness = Readiness::default();
    let gate = gate(&config);
    let settings = AdminSettings {
        metrics,
        readiness: readiness.clone(),
        activity,
        spool: Arc::clone(&spool),
        shedding: shedding(&gate, config.limits.connections, &usage),
        dnssec: dnssec(&resolver),
        commands: commands(&config, &routing, &spool, suppression.as_ref()),
    };
    let vitals = Vitals::of(&settings);
    let admin = start_admin(&config.admin, settings).await?;
    let server = listen(Server::new(gate), &config, sockets, &services)?;
    let runner = Runner::new(runner_parts(&config, &spool, &routing, &observers));
    let runner = tokio::spawn(runner.run(stopped));
    let kind = role.kind;
    let reloadable = Reloadable {
        role,
        path: path.to_owned(),
        services,
        routing,
        resolver,
        usage,
        suppression,
        policies,
        results,
        spool: Arc::clone(&spool),
        observers,
    };
    tracing::info!(role = kind.binary(), hostname = %config.hostname, "serving");
    readiness.set(Phase::Serving);
    alarm::watch(vitals);
    wait_for_stop(signals, &reloadable).await;

    tracing::info!("draining");
    readiness.set(Phase::Draining);
    let left = server.drain(config.limits.drain).await;
    let _ = stop.send(true);
    let both = async { tokio::join!(runner, reporter) };
    let unfinished = tokio::time::timeout(RUNNER_DRAIN, both).await.is_err();
    for serving in admin {
        serving.stop().await;
    }
    spool.close().await;
    tracing::info!(connections = left, unfinished, "stopped");
    Ok(())
}

fn gate(config: &RoleConfig) -> Arc<Gate> {
    Gate::new(ConnectionLimits {
        total: config.limits.connections,
        per_address: config.limits.connections_per_address,
    })
}

fn observers(role: &Role, metrics: &Arc<Metrics>, activity: &Arc<Activity>) -> Observers {
    let mut observers: Vec<Arc<dyn Observer>> =
        vec![Arc::new(EventLog), Arc::clone(metrics) as _, Arc::clone(activity) as _];
    observers.extend(role.observers.iter().cloned());
    Observers::new(observers)
}

/// Serves every socket by the service of its `[[listen]]`.
fn listen(
    server: Server,
    config: &RoleConfig,
    sockets: Vec<(usize, StdListener)>,
    services: &[Arc<ArcSwap<Service>>],
) -> Result<Server, Fatal> {
    for (number, socket) in sockets {
        let listen = &config.listeners[number];
        server.listen(Listener {
            socket: listener::into_tokio(socket).map_err(Fatal::system("cannot listen"))?,
            service: Arc::clone(&services[number]),
            proxies: within(&listen.proxy_from),
            xclients: within(&listen.xclient_from),
        });
    }
    Ok(server)
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
        usual: crate::rules::usual(deliver),
        // `check` has told what is wrong.
        destinations: crate::rules::destinations(config, |_, _| {}),
        limits: crate::rules::limits(deliver),
        seed: u64::from(std::process::id()),
        hostname: config.hostname.as_ascii().to_owned(),
        now: system_time,
    }
}

/// What is added to the admin API.
fn commands(
    config: &RoleConfig,
    routing: &Arc<ArcSwap<merpati_deliver::Routing>>,
    spool: &Arc<dyn Spool>,
    suppression: Option<&Suppression>,
) -> Vec<(String, Arc<dyn Command>)> {
    let explain = ExplainRecipient {
        routing: Arc::clone(routing),
        spool: Arc::clone(spool),
        usual: crate::rules::usual(&config.deliver),
        destinations: crate::rules::destinations(config, |_, _| {}),
        now: system_time,
    };
    let mut commands = suppression::commands(suppression, system_time);
    commands.push(("explain/rcpt".to_owned(), Arc::new(explain)));
    commands
}

/// Why new mail is turned away, if it is.
fn shedding(gate: &Arc<Gate>, most: usize, usage: &Arc<ArcSwap<Usage>>) -> Shedding {
    let (gate, usage) = (Arc::clone(gate), Arc::clone(usage));
    Arc::new(move || {
        if gate.total() >= most {
            return Some(format!("{most} connections are open, the most allowed"));
        }
        let full = usage.load().is_full();
        full.then(|| "the queue holds as much as the quota lets it".to_owned())
    })
}

/// A resolver that looks whether the servers hand signatures on, until they do.
fn watched(resolver: HickoryResolver) -> Arc<ArcSwap<HickoryResolver>> {
    tokio::spawn(resolver.watch_dnssec());
    Arc::new(ArcSwap::from_pointee(resolver))
}

/// Whether answers of the DNS are validated.
fn dnssec(resolver: &Arc<ArcSwap<HickoryResolver>>) -> DnssecHealth {
    let resolver = Arc::clone(resolver);
    Arc::new(move || {
        let state = resolver.load().dnssec_state();
        let reason = state.reason().map(|why| match state {
            DnssecState::Stripped(_) => format!("{why}; there is no DANE"),
            _ => why.to_owned(),
        });
        DnssecView {
            state: state.name().to_owned(),
            reason,
            degraded: matches!(state, DnssecState::Untrusted(_)),
        }
    })
}

/// The admin socket, and the admin port if one is configured.
async fn start_admin(config: &AdminConfig, settings: AdminSettings) -> Result<Vec<Serving>, Fatal> {
    let admin = Admin::new(settings);
    let mut serving = vec![admin.serve_unix(&config.socket).await?];
    if let Some(tcp) = &config.tcp {
        serving.push(admin.serve_tcp(tcp.address, tcp.token.clone()).await?);
    }
    Ok(serving)
}

/// Serves until SIGTERM or SIGINT; SIGHUP reloads.
async fn wait_for_stop(mut signals: Signals, reloadable: &Reloadable) {
    while let Signal::Reload = signals.next().await {
        tokio::task::block_in_place(|| reloadable.reload());
    }
}

pub(crate) fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
