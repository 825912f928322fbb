//! From configuration to parts: plugins found by name, built from their own options.
//!
//! Nothing here listens, writes or starts; files of users, recipients and certificates are read,
//! so that `check` finds what is wrong with them. Mistakes are recorded at their place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use merpati_auth::FileAuthenticator;
use merpati_config::sections::{self, AuthRule, ListenTls, OfferRule, Plugin};
use merpati_config::{ConfigFile, RoleConfig};
use merpati_deliver::smtp::{Barred, Identity, Roots, TlsSettings};
use merpati_deliver::{
    Destination, Reporting, Routing, Surroundings, TransportTable, Transports, by_mx,
    stock as stock_transport,
};
use merpati_dns::{DnsConfig, DnsError, HickoryResolver, Validation};
use merpati_http::{Client, Roots as HttpRoots};
use merpati_mailauth::DkimPolicy;
use merpati_plugin::chain::DEFAULT_TIME_LIMIT;
use merpati_plugin::options::{Errors, Invalid, Located, Options};
use merpati_plugin::{
    Authenticator, Chain, ChainError, Observers, OutboundChain, OutboundPolicy, PolicyFactory,
    Spool, StsPolicies, TlsResults,
};
use merpati_policy::quota::Usage;
use merpati_policy::suppression::Suppression;
use merpati_policy::{Environment, STOCK, STOCK_OUTBOUND, Stock, Tell, find_outbound};
use merpati_route::Pattern;
use merpati_server::tls::{CertificateFiles, TlsFiles, TlsStore};
use merpati_server::{Repeats, Service, ServiceSettings, SystemClock, TlsMode};
use merpati_session::server::{self as session, ServerConfig};
use merpati_tlspolicy::StsSlot;
use merpati_types::{Rejection, Status};

use crate::role::Role;
use crate::tls_reports::TlsReports;

/// The outbound policy that signs.
const DKIM: &str = "dkim";

/// The kinds of transport that need no plugin of one's own.
const STOCK_TRANSPORTS: [&str; 8] =
    ["discard", "error", "http", "lmtp", "maildir", "mbox", "pipe", "smtp"];

/// Everything a role's server is made of, short of sockets and spool.
pub(crate) struct Composed {
    pub(crate) config: RoleConfig,
    chain: Vec<(Arc<dyn PolicyFactory>, Duration)>,
    authenticator: Option<Arc<dyn Authenticator>>,
    tls: Option<Arc<TlsStore>>,
    pub(crate) routing: Routing,
    /// What routing asks the DNS by.
    pub(crate) resolver: HickoryResolver,
    kind: crate::Kind,
    /// What policies count by; connected with the queue once there is one.
    pub(crate) usage: Usage,
    /// Connected with the list once it is open.
    pub(crate) suppression: Option<Suppression>,
    /// Connected with the policies once they are open.
    pub(crate) sts: Option<Sts>,
    /// Connected with the counts once they are open.
    pub(crate) tls_reports: Option<TlsReports>,
    /// Connected with the observers.
    tell: Tell,
}

/// Builds the parts. `None` where a part could not be built, with the reason among the errors of
/// the file.
pub(crate) fn compose(role: &Role, file: &ConfigFile) -> Option<Composed> {
    let config = RoleConfig::read(file.options());
    let errors = file.errors();
    let reporting = crate::reports::reporting(&config.report, errors);
    let environment = environment(role, &config, &reporting, errors);
    let chain = policies(role, &config, &environment, errors);
    let authenticator = authenticator(&config, errors);
    let tls = tls(&config, errors);
    let resolver = resolver(&config, errors);
    let sts = resolver.as_ref().and_then(|resolver| sts(&config, resolver, errors));
    let tls_reports = resolver
        .as_ref()
        .and_then(|resolver| crate::tls_reports::prepare(&config, resolver, errors));
    let routing = resolver.clone().and_then(|resolver| {
        let around = Surroundings {
            sts: sts.as_ref().map(|sts| Arc::new(sts.slot.clone()) as Arc<dyn StsPolicies>),
            tls_results: tls_reports
                .as_ref()
                .map(|reports| Arc::new(reports.slot.clone()) as Arc<dyn TlsResults>),
            ..surroundings(role, &config, &environment, resolver, errors)
        };
        routing(role, &config, &environment, reporting, around, errors)
    });
    check_listeners(role, &config, authenticator.is_some(), errors);
    if !errors.is_empty() {
        return None;
    }
    let (routing, resolver) = (routing?, resolver?);
    let Environment { usage, suppression, tell, .. } = environment;
    let kind = role.kind;
    Some(Composed {
        config,
        chain,
        authenticator,
        tls,
        routing,
        resolver,
        kind,
        usage,
        suppression,
        sts,
        tls_reports,
        tell,
    })
}

/// How policies of MTA-STS come in.
pub(crate) struct Sts {
    pub(crate) slot: StsSlot,
    pub(crate) client: Client,
}

fn sts(config: &RoleConfig, resolver: &HickoryResolver, errors: &Errors) -> Option<Sts> {
    if !config.mta_sts.enabled {
        return None;
    }
    let client = http_client(config.mta_sts.ca.as_ref(), resolver, errors)?;
    Some(Sts { slot: StsSlot::default(), client })
}

/// A client that believes these roots, or else the built-in ones.
pub(crate) fn http_client(
    ca: Option<&Located<PathBuf>>,
    resolver: &HickoryResolver,
    errors: &Errors,
) -> Option<Client> {
    let roots = ca.map_or(HttpRoots::BuiltIn, |ca| HttpRoots::File(ca.value.clone()));
    match Client::new(Arc::new(resolver.clone()), &roots) {
        Ok(client) => Some(client),
        Err(error) => {
            match ca {
                Some(ca) => drop(errors.report(&ca.place, error)),
                None => tracing::error!(%error, "built-in roots cannot be used"),
            }
            None
        }
    }
}

/// What policies take from outside.
fn environment(
    role: &Role,
    config: &RoleConfig,
    reporting: &Reporting,
    errors: &Errors,
) -> Environment {
    let rules = |config| crate::suppression::rules(config, errors);
    Environment {
        tables: crate::tables::tables(role, config, errors),
        classifier: reporting.classifier.clone(),
        suppression: config.suppression.as_ref().map(rules).map(Suppression::new),
        ..Environment::new(config.hostname.clone())
    }
}

fn policies(
    role: &Role,
    config: &RoleConfig,
    environment: &Environment,
    errors: &Errors,
) -> Vec<(Arc<dyn PolicyFactory>, Duration)> {
    let mut chain = Vec::new();
    let named = |name: &str| config.policies.iter().any(|policy| policy.name.value == name);
    for name in role.kind.implied().iter().filter(|name| !named(name)) {
        let options = match *name {
            "trusted" => Options::new([("authenticated", true.into())]),
            _ => Options::new([]),
        };
        if let Some(Ok(stock)) = Stock::find(name, &options, environment) {
            chain.push((stock.factory, DEFAULT_TIME_LIMIT));
        }
    }
    let implied = chain.len();
    for plugin in &config.policies {
        let limit = plugin.time_limit.unwrap_or(DEFAULT_TIME_LIMIT);
        if let Some(policy) = policy(role, plugin, environment) {
            chain.push((policy, limit));
        }
    }
    if let Err(ChainError::Missing { place, policy, fact }) =
        Chain::new(chain.clone(), Observers::default()).map(drop)
        && let Some(plugin) = place.checked_sub(implied).and_then(|at| config.policies.get(at))
    {
        let message = format_args!("`{policy}` needs `{fact}`, which no earlier policy provides");
        errors.report(&plugin.name.place, message);
    }
    chain
}

fn policy(
    role: &Role,
    plugin: &Plugin,
    environment: &Environment,
) -> Option<Arc<dyn PolicyFactory>> {
    let name = plugin.name.value.as_str();
    if let Some(make) = role.policies.get(name) {
        return make(&plugin.options).ok();
    }
    match Stock::find(name, &plugin.options, environment) {
        Some(stock) => stock.ok().map(|stock| stock.factory),
        None => {
            let own = role.policies.keys().map(String::as_str);
            let known: Vec<_> = STOCK.into_iter().chain(own).collect();
            plugin.unknown(&known);
            None
        }
    }
}

fn outbound(role: &Role, config: &RoleConfig, environment: &Environment) -> OutboundChain {
    let mut chain = Vec::new();
    for plugin in &config.outbound {
        let name = plugin.name.value.as_str();
        let made = match role.outbound.get(name) {
            Some(make) => Some(make(&plugin.options)),
            None if name == DKIM => Some(dkim(&plugin.options, environment)),
            None => find_outbound(name, &plugin.options, environment),
        };
        let Some(made) = made else {
            let own = role.outbound.keys().map(String::as_str);
            plugin
                .unknown(&STOCK_OUTBOUND.into_iter().chain([DKIM]).chain(own).collect::<Vec<_>>());
            continue;
        };
        if let Ok(policy) = made {
            chain.push((policy, plugin.time_limit.unwrap_or(DEFAULT_TIME_LIMIT)));
        }
    }
    OutboundChain::new(chain)
}

fn dkim(options: &Options, environment: &Environment) -> Result<Arc<dyn OutboundPolicy>, Invalid> {
    Ok(Arc::new(DkimPolicy::from_options(options, environment.now)?))
}

fn authenticator(config: &RoleConfig, _errors: &Errors) -> Option<Arc<dyn Authenticator>> {
    let plugin = config.auth.as_ref()?;
    if plugin.name.value != "file" {
        plugin.unknown(&["file"]);
        return None;
    }
    let users = FileAuthenticator::from_options(&plugin.options).ok()?;
    Some(Arc::new(users))
}

fn tls(config: &RoleConfig, errors: &Errors) -> Option<Arc<TlsStore>> {
    let first = config.tls.certificates.first()?;
    let pair = |pair: &sections::Certificate| CertificateFiles {
        chain: pair.cert.value.clone(),
        key: pair.key.value.clone(),
    };
    let files = TlsFiles {
        certificates: config.tls.certificates.iter().map(pair).collect(),
        client_roots: config.tls.client_ca.as_ref().map(|ca| ca.value.clone()),
    };
    match TlsStore::load(&files) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            errors.report(&first.cert.place, error);
            None
        }
    }
}

fn routing(
    role: &Role,
    config: &RoleConfig,
    environment: &Environment,
    reporting: Reporting,
    around: Surroundings,
    errors: &Errors,
) -> Option<Routing> {
    let mut transports = Transports::new();
    match by_mx(&around) {
        Ok(transport) => {
            transports.insert("mx".into(), transport);
        }
        Err(error) => {
            let deliver = &config.deliver;
            let identity = deliver.identity.iter().flat_map(|files| [&files.cert, &files.key]);
            let files: Vec<_> = deliver.ca.iter().chain(identity).collect();
            match files.iter().find(|file| file.value == error.path) {
                Some(file) => drop(errors.report(&file.place, error)),
                None => tracing::error!(%error, "built-in roots cannot be used"),
            }
        }
    }
    let mut rows = Vec::new();
    for (number, row) in config.transports.iter().enumerate() {
        let Some(destination) = destination(role, row, number, &around, &mut transports) else {
            continue;
        };
        for pattern in &row.patterns {
            match pattern.value.parse::<Pattern>() {
                Ok(parsed) => rows.push((parsed, destination.clone())),
                Err(error) => drop(errors.report(&pattern.place, error)),
            }
        }
    }
    crate::rules::destinations(config, |place, error| {
        errors.report(place, error);
    });
    let outbound = outbound(role, config, environment);
    let otherwise = TransportTable::new(rows);
    let router = crate::routes::router(config, &around, &mut transports, otherwise).ok()?;
    Some(Routing { router, transports, outbound, reporting })
}

fn resolver(config: &RoleConfig, errors: &Errors) -> Option<HickoryResolver> {
    let dns = DnsConfig {
        servers: config.dns.servers.clone(),
        timeout: config.dns.timeout,
        attempts: config.dns.attempts,
        limit: config.dns.limit,
        cache: config.dns.cache,
        dnssec: match config.dns.dnssec {
            sections::Dnssec::Validate => Validation::Validate,
            sections::Dnssec::Off => Validation::Off,
        },
        trust_anchor: config.dns.trust_anchor.as_ref().map(|path| path.value.clone()),
        ..DnsConfig::default()
    };
    let error = match HickoryResolver::new(&dns) {
        Ok(resolver) => return Some(resolver),
        Err(error) => error,
    };
    match &config.dns.trust_anchor {
        Some(path) if matches!(error, DnsError::TrustAnchor { .. }) => {
            errors.report(&path.place, error);
        }
        _ => {
            errors.report(&config.state_dir.place, format_args!("the resolver: {error}"));
        }
    }
    None
}

fn surroundings(
    role: &Role,
    config: &RoleConfig,
    environment: &Environment,
    resolver: HickoryResolver,
    errors: &Errors,
) -> Surroundings {
    let deliver = &config.deliver;
    let roots = deliver.ca.as_ref().map_or(Roots::BuiltIn, |ca| Roots::File(ca.value.clone()));
    Surroundings {
        hostname: config.hostname.clone(),
        own_names: deliver.own_names.clone(),
        barred: Barred {
            networks: deliver.ignore.clone(),
            listening: config
                .listeners
                .iter()
                .flat_map(|listen| &listen.addresses)
                .copied()
                .collect(),
        },
        mx_port: deliver.port,
        tls: TlsSettings {
            wanted: deliver.tls.and_then(|choice| crate::rules::wanted(choice, &[])),
            destinations: crate::rules::tls(config, errors),
            implicit: false,
            roots,
            identity: deliver.identity.as_ref().map(|files| Identity {
                chain: files.cert.value.clone(),
                key: files.key.value.clone(),
            }),
        },
        sts: None,
        tls_results: None,
        sources: Arc::new(crate::sources::sources(config).resting(Arc::clone(&role.rests))),
        recipients: deliver.recipients as usize,
        tables: environment.tables.clone(),
        resolver: Arc::new(resolver),
    }
}

fn destination(
    role: &Role,
    row: &sections::Transport,
    number: usize,
    around: &Surroundings,
    transports: &mut Transports,
) -> Option<Destination> {
    let kind = row.kind.value.as_str();
    if kind == "error" {
        let mut reader = row.options.reader();
        let text = reader.or("text", "mail for this domain is not accepted".to_owned());
        reader.finish().ok()?;
        return Some(Destination::Error(Rejection::permanent(Status::POLICY, &text)));
    }
    let name = row.name.clone().unwrap_or_else(|| format!("{kind}-{}", number + 1));
    let built = match role.transports.get(kind) {
        Some(make) => make(&row.options),
        None => match stock_transport(kind, &name, &row.options, around) {
            Some(built) => built,
            None => {
                let own = role.transports.keys().map(String::as_str);
                let known: Vec<_> = STOCK_TRANSPORTS.into_iter().chain(own).collect();
                row.unknown(&known);
                return None;
            }
        },
    };
    let name: Arc<str> = name.into();
    if transports.insert(Arc::clone(&name), built.ok()?).is_some() {
        let message = format_args!("there are two transports named `{name}`");
        row.options.errors().report(&row.kind.place, message);
    }
    Some(Destination::Transport(name))
}

fn check_listeners(role: &Role, config: &RoleConfig, has_users: bool, errors: &Errors) {
    for listen in &config.listeners {
        let rule = listen.auth.unwrap_or_else(|| role.kind.auth());
        if rule != AuthRule::None && !has_users && config.auth.is_none() {
            errors.report(&listen.place, "clients are to authenticate, and there is no [auth]");
        }
        if rule == AuthRule::Required && listen.tls == ListenTls::None {
            errors.report(&listen.place, "AUTH is required, and only ever offered over TLS");
        }
    }
}

impl Composed {
    /// One service for each `[[listen]]`.
    pub(crate) fn services(
        &self,
        spool: &Arc<dyn Spool>,
        observers: &Observers,
    ) -> Result<Vec<Arc<Service>>, ChainError> {
        let queue = Arc::clone(spool);
        self.usage.connect(move |share| queue.queued(share));
        self.tell.connect(observers.clone());
        let chain = Chain::new(self.chain.clone(), observers.clone())?;
        let service = |listen: &sections::Listen| {
            let rule = listen.auth.unwrap_or_else(|| self.kind.auth());
            Arc::new(Service::new(ServiceSettings {
                listener: listen.name.as_str().into(),
                hostname: self.config.hostname.clone(),
                session: self.session(listen, rule),
                tls_mode: match listen.tls {
                    ListenTls::None => TlsMode::None,
                    ListenTls::StartTls => TlsMode::StartTls,
                    ListenTls::StartTlsRequired => TlsMode::StartTlsRequired,
                    ListenTls::Implicit => TlsMode::Implicit,
                },
                tls: self.tls.clone(),
                chain: chain.clone(),
                authenticator: self.authenticator.clone().filter(|_| rule != AuthRule::None),
                spool: Arc::clone(spool),
                observers: observers.clone(),
                repeats: if self.repeat_window().is_zero() {
                    Repeats::Ignored
                } else {
                    Repeats::Sought
                },
                trace_client: self.kind.trace_client(),
                clock: Arc::new(SystemClock),
            }))
        };
        Ok(self.config.listeners.iter().map(service).collect())
    }

    /// How long repeated transactions are known again.
    pub(crate) fn repeat_window(&self) -> Duration {
        self.config.spool.repeat_window.unwrap_or_else(|| self.kind.repeat_window())
    }

    fn session(&self, listen: &sections::Listen, rule: AuthRule) -> ServerConfig {
        let limits = &self.config.limits;
        let octets =
            |size: merpati_plugin::options::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        ServerConfig {
            protocol: match listen.protocol {
                sections::Protocol::Smtp => session::Protocol::Smtp,
                sections::Protocol::Lmtp => session::Protocol::Lmtp,
            },
            auth: match rule {
                AuthRule::Required => session::Auth::Required,
                AuthRule::None | AuthRule::Optional => session::Auth::Optional,
            },
            greet_delay: listen.greet_delay,
            extensions: self.extensions(listen),
            limits: session::Limits {
                line: octets(limits.line),
                message: limits.message.0,
                recipients: limits.recipients,
                transactions: limits.transactions,
                errors: limits.errors,
                refused_recipients: limits.refused_recipients,
                idle: limits.idle,
                body: limits.body,
                session: limits.session,
                pipelined: octets(limits.pipelined),
            },
            ..ServerConfig::default()
        }
    }

    fn extensions(&self, listen: &sections::Listen) -> session::Extensions {
        let offer = |rule: Option<OfferRule>| match rule.unwrap_or_else(|| self.kind.offer()) {
            OfferRule::None => session::Offer::Nobody,
            OfferRule::Authenticated => session::Offer::Authenticated,
            OfferRule::Anybody => session::Offer::Anybody,
        };
        let longest = listen.future_release.unwrap_or_else(|| self.kind.future_release());
        session::Extensions {
            future_release: (!longest.is_zero()).then_some(longest),
            deliver_by: offer(listen.deliver_by),
            mt_priority: offer(listen.mt_priority),
        }
    }

    /// Every address to listen on, with the number of its `[[listen]]`.
    pub(crate) fn addresses(&self) -> Vec<(usize, SocketAddr)> {
        let each = |(number, listen): (usize, &sections::Listen)| {
            listen.addresses.iter().map(move |&address| (number, address)).collect::<Vec<_>>()
        };
        self.config.listeners.iter().enumerate().flat_map(each).collect()
    }
}

/// Whether an address is in one of the networks.
pub(crate) fn within(networks: &[IpNet]) -> merpati_server::PeerTest {
    let networks = networks.to_vec();
    Arc::new(move |address| {
        let address = address.to_canonical();
        networks.iter().any(|network| network.contains(&address))
    })
}
