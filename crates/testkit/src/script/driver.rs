//! Runs scripts against the driver over a pipe in memory, with real TLS.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use merpati_plugin::chain::DEFAULT_TIME_LIMIT;
use merpati_plugin::{Authenticator, Chain, Connection, Observers, PolicyFactory, Protocol};
use merpati_server::tls::{CertificateFiles, TlsFiles, TlsStore};
use merpati_server::{Repeats, Service, ServiceSettings, SystemClock, TlsMode, TraceClient};
use merpati_session::server::{self as session, Channel, StartTls};
use merpati_types::Domain;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::watch;

use super::certificate::Certificate;
use super::fixture::{Keep, Rules};
use super::play::play;
use super::rules::Setup;
use super::wire::StreamPeer;
use super::{Case, Cutting, ScriptError};

/// How much may be under way in one direction: a script writes all of a step before it reads.
const PIPE: usize = 16 * 1024 * 1024;

/// The pieces in which the peer writes; that every cutting is the same to the machine is
/// [`run_machine`](super::run_machine)'s to show.
const PIECES: [usize; 2] = [7, usize::MAX];

/// Runs scripts against [`merpati_server::run`].
///
/// The scripts' time is the runtime's: without a paused clock they take as long as they say.
pub struct DriverRunner {
    store: Arc<TlsStore>,
    client: Arc<ClientConfig>,
}

impl DriverRunner {
    /// A runner with a certificate of its own.
    ///
    /// # Errors
    /// The certificate cannot be made, or not be written to the directory for temporary files.
    pub fn new() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let directory = tempfile::tempdir()?;
        let Certificate { chain, key, client } = Certificate::write(directory.path())?;
        let certificates = vec![CertificateFiles { chain, key }];
        let store = Arc::new(TlsStore::load(&TlsFiles { certificates, client_roots: None })?);
        Ok(Self { store, client })
    }

    /// Runs `case` with the peer's bytes written whole, and in small pieces unless the case
    /// forbids that.
    ///
    /// # Errors
    /// [`ScriptError`], at the first step that went another way.
    pub async fn run(&self, case: &Case) -> Result<(), ScriptError> {
        for piece in PIECES {
            if case.cutting == Cutting::Free || piece == usize::MAX {
                self.run_in(case, piece).await?;
            }
        }
        Ok(())
    }

    async fn run_in(&self, case: &Case, piece: usize) -> Result<(), ScriptError> {
        let keep = Keep::default();
        let service = Arc::new(self.service(&case.setup, keep.clone()));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let connection = Connection {
            id: 1,
            listener: Arc::from("script"),
            protocol: match case.setup.config.protocol {
                session::Protocol::Smtp => Protocol::Smtp,
                session::Protocol::Lmtp => Protocol::Lmtp,
            },
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 25)),
            peer: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        };
        // Whoever holds the sender decides when to drain: nobody does.
        let (_running, drain) = watch::channel(false);
        let right = case.setup.start.xclient;
        let server = tokio::spawn(merpati_server::run(theirs, service, connection, right, drain));
        let name = ServerName::try_from("mail.test").expect("the name is a constant");
        let client = Arc::clone(&self.client);
        let mut peer = StreamPeer::new(ours, client, name, piece, move || Some(keep.take()));
        let played = play(case, &mut peer).await;
        drop(peer);
        match server.await {
            Ok(()) => played,
            Err(error) => Err(case.fails(0, format!("the driver failed: {error}"))),
        }
    }

    fn service(&self, setup: &Setup, keep: Keep) -> Service {
        let rules = Arc::new(Rules(Arc::new(setup.clone())));
        let policies: Vec<(Arc<dyn PolicyFactory>, _)> =
            vec![(Arc::clone(&rules) as _, DEFAULT_TIME_LIMIT)];
        let chain = Chain::new(policies, Observers::default()).expect("the policy needs no facts");
        let users = !setup.config.mechanisms.is_empty();
        let authenticator = users.then_some(rules as Arc<dyn Authenticator>);
        Service::new(ServiceSettings {
            listener: Arc::from("script"),
            hostname: Domain::parse(&setup.config.hostname).expect("profiles have good names"),
            session: setup.config.clone(),
            tls_mode: match (setup.start.channel, setup.config.starttls) {
                (Channel::Encrypted, _) => TlsMode::Implicit,
                (Channel::Plain, StartTls::Absent) => TlsMode::None,
                (Channel::Plain, StartTls::Offered) => TlsMode::StartTls,
                (Channel::Plain, StartTls::Required) => TlsMode::StartTlsRequired,
            },
            tls: Some(Arc::clone(&self.store)),
            chain,
            authenticator,
            spool: Arc::new(keep),
            observers: Observers::default(),
            repeats: Repeats::default(),
            trace_client: TraceClient::default(),
            clock: Arc::new(SystemClock),
        })
    }
}
