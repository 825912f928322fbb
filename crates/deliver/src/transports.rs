//! Which transport takes which mail.

use std::collections::BTreeMap;
use std::sync::Arc;

use merpati_plugin::deliver::{DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::{MessageInfo, Parcel};
use merpati_plugin::{
    Deliverer, ExplainHow, Failure, Finding, Job, Resolver, Route, Router, StsPolicies, Tables,
    TlsResults, async_trait,
};
use merpati_route::{Pattern, Table};
use merpati_types::{Domain, Host, Rejection};

use crate::config;
use crate::smtp::{Barred, Sources, TlsError, TlsSettings};

/// The name of the transport that mail takes when no row says otherwise.
pub(crate) const DEFAULT: &str = "mx";
/// The name of the transport that throws mail away.
pub(crate) const DISCARD: &str = "discard";

/// A row's effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the transport of this name.
    Transport(Arc<str>),
    /// To nobody: recipients fail with this.
    Error(Rejection),
}

/// Every configured transport, by name.
pub type Transports = BTreeMap<Arc<str>, Arc<dyn Deliverer>>;

/// Chooses a transport by the recipient's domain.
#[derive(Clone, Debug, Default)]
pub struct TransportTable {
    rows: Table<Destination>,
}

impl TransportTable {
    /// A table of these rows; the closest pattern counts.
    #[must_use]
    pub fn new(rows: Vec<(Pattern, Destination)>) -> Self {
        Self { rows: Table::new(rows) }
    }
}

#[async_trait]
impl Router for TransportTable {
    async fn route(&self, parcel: &Parcel) -> Result<Route, Failure> {
        let host = Host::parse(parcel.next_hop.as_str())?;
        Ok(match self.rows.find(&host) {
            Some((pattern, Destination::Transport(name))) => Route::Transport {
                name: Arc::clone(name),
                why: format!("transport for {pattern}").into(),
                source_pool: None,
            },
            Some((_, Destination::Error(rejection))) => Route::Refuse(rejection.clone()),
            None => {
                let (name, why) = (DEFAULT.into(), "no transport configured".into());
                Route::Transport { name, why, source_pool: None }
            }
        })
    }
}

/// A transport for mail that goes out from this source pool, whatever was chosen when it came.
#[must_use]
pub fn sent_from(transport: Arc<dyn Deliverer>, pool: Option<&str>) -> Arc<dyn Deliverer> {
    match pool {
        None => transport,
        Some(pool) => Arc::new(SentFrom { transport, pool: pool.to_owned() }),
    }
}

struct SentFrom {
    transport: Arc<dyn Deliverer>,
    pool: String,
}

impl SentFrom {
    fn chosen(&self, parcel: &Parcel) -> Parcel {
        let mut info = MessageInfo::clone(&parcel.info);
        info.message.attributes.source_pool = Some(self.pool.clone());
        Parcel { info: Arc::new(info), ..parcel.clone() }
    }
}

#[async_trait]
impl Deliverer for SentFrom {
    fn name(&self) -> &str {
        self.transport.name()
    }

    async fn site(&self, parcel: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        self.transport.site(parcel).await
    }

    async fn explain(&self, parcel: &Parcel, how: ExplainHow) -> Vec<Finding> {
        self.transport.explain(&self.chosen(parcel), how).await
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let parcel = Arc::new(self.chosen(&job.parcel));
        self.transport.deliver(Job { parcel, ..job }).await
    }
}

/// Throws mail away, and says so in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

#[async_trait]
impl Deliverer for Discard {
    fn name(&self) -> &str {
        DISCARD
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let discarded = DeliveryOutcome {
            result: DeliveryResult::Delivered(Handover::PassedOn),
            remote: None,
            source: None,
            diagnostic: "discarded by configuration".to_owned(),
        };
        vec![discarded; job.parcel.pending.len()]
    }
}

/// What stock transports need to know of their server.
#[derive(Clone)]
pub struct Surroundings {
    /// Our name.
    pub hostname: Domain,
    /// Other names by which an MX host is ourselves: mail goes to better ones only.
    pub own_names: Vec<Domain>,
    /// Addresses that no MX host has.
    pub barred: Barred,
    /// The port of mail exchangers; 25 but for tests.
    pub mx_port: u16,
    /// What TLS is to mail exchangers, and to hosts whose transport does not say.
    pub tls: TlsSettings,
    /// Who knows of MTA-STS policies; without it there are none.
    pub sts: Option<Arc<dyn StsPolicies>>,
    /// Who hears how sessions with mail exchangers went.
    pub tls_results: Option<Arc<dyn TlsResults>>,
    /// Where mail is sent from.
    pub sources: Arc<Sources>,
    /// The most recipients of one transaction.
    pub recipients: usize,
    /// Tables by name.
    pub tables: Tables,
    /// Asks the DNS.
    pub resolver: Arc<dyn Resolver>,
}

/// A stock transport: `smtp`, `lmtp`, `maildir` or `discard`, with its own options; `None` if the
/// name is another.
pub fn stock(
    kind: &str,
    name: &str,
    options: &Options,
    around: &Surroundings,
) -> Option<Result<Arc<dyn Deliverer>, Invalid>> {
    Some(match kind {
        "smtp" => config::smtp(name, options, around),
        "lmtp" => config::lmtp(name, options, around),
        "maildir" => config::maildir(name, options, around),
        "http" => config::http(name, options, around),
        "mbox" => config::mbox(name, options),
        "pipe" => config::pipe(name, options),
        "discard" => options.reader().finish().map(|()| Arc::new(Discard) as Arc<dyn Deliverer>),
        _ => return None,
    })
}

/// The transport by MX, which takes what no row of the table takes.
///
/// # Errors
/// When a configured file of roots or of our identity cannot be used.
pub fn by_mx(around: &Surroundings) -> Result<Arc<dyn Deliverer>, TlsError> {
    config::by_mx(around)
}
