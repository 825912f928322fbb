//! A signed zone, servers, MTA-STS policies, and our transport among them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use merpati_deliver::smtp::{Barred, Roots, TlsSettings};
use merpati_deliver::{Surroundings, by_mx};
use merpati_dns::{DnsConfig, HickoryResolver};
use merpati_plugin::deliver::{AttemptNotes, DeliveryOutcome, DeliveryResult, MessageSource};
use merpati_plugin::spool::SpoolError;
use merpati_plugin::{
    BodyReader, Deliverer, Job, OutboundChain, StsPolicies, TLS_REPORT_TAG, Tables, TlsResults,
    TlsSession, async_trait,
};
use merpati_route::mta_sts::{FetchFault, Memory, Policy, PolicyId};
use merpati_testkit::dns::{DnsServer, Zone, ZoneKey};
use merpati_testkit::spool_contract::parcel;
use merpati_types::{Domain, Timestamp};
use tempfile::TempDir;

use super::expected::Sts;
use super::made::{Shown, Workshop};
use super::sink::{Came, Inbox, Offer, Sink};

/// Who answers where: one address for each kind of server, all at one port.
const SERVERS: [(Shown, bool); 10] = [
    (Shown::Good, true),
    (Shown::WrongName, true),
    (Shown::Expired, true),
    (Shown::SelfSigned, true),
    (Shown::NoTls, true),
    (Shown::Good, false),
    (Shown::WrongName, false),
    (Shown::Expired, false),
    (Shown::SelfSigned, false),
    (Shown::NoTls, false),
];

/// The servers, and what came to them.
pub(super) struct Servers {
    pub(super) workshop: Workshop,
    pub(super) port: u16,
    pub(super) inbox: Inbox,
    _sinks: Vec<Sink>,
}

impl Servers {
    pub(super) async fn start() -> Self {
        let workshop = Workshop::open();
        let inbox = Inbox::default();
        let (mut port, mut sinks) = (0, Vec::new());
        for (shown, requiretls) in SERVERS {
            let tls = workshop.config(shown);
            let offer = Offer { tls, requiretls, inbox: Arc::clone(&inbox) };
            let address = (address(shown, requiretls), port).into();
            let (sink, at) = Sink::start(address, offer).await.unwrap();
            port = at;
            sinks.push(sink);
        }
        Self { workshop, port, inbox, _sinks: sinks }
    }

    /// What came for a recipient.
    pub(super) fn came(&self, recipient: &str) -> Vec<Came> {
        let inbox = self.inbox.lock().unwrap();
        let path = format!("<{recipient}>");
        inbox.iter().filter(|(to, _)| *to == path).map(|(_, came)| came.clone()).collect()
    }
}

/// Where a server of this kind listens.
pub(super) fn address(shown: Shown, requiretls: bool) -> IpAddr {
    let place = SERVERS.iter().position(|server| *server == (shown, requiretls)).unwrap();
    Ipv4Addr::new(127, 0, 1, u8::try_from(place + 1).unwrap()).into()
}

/// Policies by domain.
#[derive(Default)]
pub(super) struct Policies(pub(super) BTreeMap<String, Memory>);

#[async_trait]
impl StsPolicies for Policies {
    async fn policy(&self, domain: &Domain) -> Memory {
        self.0.get(domain.as_ascii()).cloned().unwrap_or_default()
    }
}

/// A policy of this kind that allows `hosts`.
pub(super) fn policy(sts: Sts, hosts: &str) -> Memory {
    let mut memory = Memory::default();
    let id = PolicyId::parse("1").unwrap();
    let (mode, age) = match sts {
        Sts::Unfetchable => {
            memory.handle_failure(id, FetchFault::Unreachable, now());
            return memory;
        }
        Sts::Enforce => ("enforce", 86_400),
        Sts::Testing => ("testing", 86_400),
        Sts::None => ("none", 86_400),
        Sts::Expired => ("enforce", 0),
    };
    let text = format!("version: STSv1\nmode: {mode}\nmx: {hosts}\nmax_age: {age}\n");
    memory.handle_policy(id, Policy::parse(text.as_bytes()).unwrap(), now());
    memory
}

/// What was told of sessions, by domain.
#[derive(Default)]
pub(super) struct Results(Mutex<Vec<TlsSession>>);

impl TlsResults for Results {
    fn tried(&self, session: TlsSession) {
        self.0.lock().unwrap().push(session);
    }
}

impl Results {
    /// `policy result` each, of all sessions with a domain.
    pub(super) fn of(&self, domain: &str) -> Vec<String> {
        let sessions = self.0.lock().unwrap();
        let of_domain = sessions.iter().filter(|session| session.domain.as_ascii() == domain);
        let faults = of_domain.flat_map(|session| &session.faults);
        let mut faults: Vec<_> = faults
            .map(|fault| format!("{} {}", fault.policy.as_str(), fault.result.as_str()))
            .collect();
        faults.sort_unstable();
        faults
    }
}

/// Our transport, in a world of these records and policies.
pub(super) struct World {
    transport: Arc<dyn Deliverer>,
    pub(super) results: Arc<Results>,
    _dns: DnsServer,
    _files: TempDir,
}

impl World {
    pub(super) async fn new(
        servers: &Servers,
        records: &str,
        policies: Policies,
        change: impl FnOnce(&mut TlsSettings),
    ) -> Self {
        let key = Arc::new(ZoneKey::new());
        let zone = Zone::parse(records).unwrap().signed(&key);
        let dns = DnsServer::start(zone).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let (anchor, roots) = (files.path().join("anchor"), files.path().join("roots.pem"));
        std::fs::write(&anchor, key.trust_anchor()).unwrap();
        std::fs::write(&roots, &servers.workshop.authority).unwrap();
        let config = DnsConfig {
            servers: vec![dns.address()],
            trust_anchor: Some(anchor),
            ..DnsConfig::default()
        };
        let resolver = HickoryResolver::new(&config).unwrap();
        let results = Arc::new(Results::default());
        let mut tls = TlsSettings { roots: Roots::File(roots), ..TlsSettings::default() };
        change(&mut tls);
        let transport = by_mx(&Surroundings {
            hostname: Domain::parse("relay.test").unwrap(),
            own_names: Vec::new(),
            barred: Barred::default(),
            mx_port: servers.port,
            tls,
            sts: Some(Arc::new(policies)),
            tls_results: Some(Arc::<Results>::clone(&results)),
            sources: Arc::default(),
            recipients: 100,
            resolver: Arc::new(resolver),
            tables: Tables::default(),
        });
        Self { transport: transport.unwrap(), results, _dns: dns, _files: files }
    }

    /// Sends a message to somebody, a TLS report if that is `reports`: `waits 4.x.y text`, `bounces 5.x.y text` or `delivered`.
    pub(super) async fn send(&self, recipient: &str, header: &str, requiretls: bool) -> String {
        let domain = recipient.rsplit('@').next().unwrap();
        let mut parcel = parcel(1, &[recipient], domain);
        let mut info = (*parcel.info).clone();
        info.message.envelope.requiretls = requiretls;
        if recipient.starts_with("reports@") {
            info.message.attributes.tags.insert(TLS_REPORT_TAG.to_owned(), String::new());
        }
        parcel.info = Arc::new(info);
        let content = Bytes::from(format!("{header}Subject: x\r\n\r\nCoo.\r\n"));
        let job = Job {
            parcel: Arc::new(parcel),
            message: Arc::new(Content(content)),
            notes: Arc::new(NoNotes),
            outbound: OutboundChain::default(),
        };
        let outcomes = self.transport.deliver(job).await;
        let DeliveryOutcome { result, diagnostic, .. } = &outcomes[0];
        match result {
            DeliveryResult::Delivered(_) => "delivered".to_owned(),
            DeliveryResult::Deferred { status, .. } => format!("waits {status} {diagnostic}"),
            DeliveryResult::Failed { status } => format!("bounces {status} {diagnostic}"),
        }
    }
}

/// `name TYPE value` lines of a domain that one host serves.
pub(super) fn records(out: &mut String, domain: &str, host: &str, address: IpAddr) {
    let _ = writeln!(out, "{domain} MX 10 {host}\n{host} A {address}");
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

struct Content(Bytes);

#[async_trait]
impl MessageSource for Content {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(Once(Some(self.0.clone()))))
    }
}

struct Once(Option<Bytes>);

#[async_trait]
impl BodyReader for Once {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

struct NoNotes;

#[async_trait]
impl AttemptNotes for NoNotes {
    async fn final_dot(&self, _: &str) {}
}
