//! TLS towards other servers: what is configured, and what servers present.
//!
//! The handshake itself believes every certificate whose key the server holds. What a host must
//! present is judged afterwards, by [`merpati_route::security`]: policies differ in what counts,
//! and reports want to know what else was wrong.

mod presented;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use merpati_plugin::PeerTls;
use merpati_route::Table;
use merpati_route::security::{Need, Override, Presented, Security};
use merpati_route::tlsa::Tlsa;
use merpati_types::Domain;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The most policies whose sessions are kept apart.
const POLICIES: usize = 500;
/// Sessions that may be resumed under such a policy: it is one host's.
const SESSIONS: usize = 8;

/// What a transport wants of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// What every host needs, whatever policies say; `None` leaves it to them.
    pub wanted: Option<Override>,
    /// The same for some destinations; the closest pattern counts.
    pub destinations: Table<Override>,
    /// TLS from the first byte (RFC 8314).
    pub implicit: bool,
    /// Whose certificates are believed, where names count.
    pub roots: Roots,
    /// What we present to servers that ask.
    pub identity: Option<Identity>,
}

impl TlsSettings {
    /// The same for every host.
    #[must_use]
    pub fn wanting(wanted: Override) -> Self {
        Self { wanted: Some(wanted), ..Self::default() }
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's list, as built in.
    #[default]
    BuiltIn,
    /// The certificates in this PEM file.
    File(PathBuf),
}

/// A certificate of ours with its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those that lead to its root.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A public key that a server must have, as the hexadecimal SHA-256 of its
/// `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin(pub Tlsa);

/// The text is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pin: the 64 hexadecimal digits of a public key's SHA-256 are expected")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(PinError);
        }
        for (octet, place) in hash.iter_mut().zip((0..64).step_by(2)) {
            *octet = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| PinError)?;
        }
        Ok(Self(Tlsa::pin(hash)))
    }
}

/// A file of roots or of our identity that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Makes rustls configurations, and reads what servers present.
pub(super) struct Tls {
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// By source. A session that is resumed tells the server that two connections are of one
    /// client: sources are there to be told apart, and what one of them is known for is not to
    /// follow the others.
    configs: Mutex<HashMap<Option<Arc<str>>, Configs>>,
}

/// Sessions are resumed only under the policy they began under: what was presented then would be
/// judged by what is asked for now.
struct Configs {
    /// For hosts of which nothing is asked but TLS.
    anyone: Arc<ClientConfig>,
    /// For names: a session is resumed only under the name it began with.
    named: Arc<ClientConfig>,
    /// For keys.
    keys: HashMap<Need, Arc<ClientConfig>>,
}

impl Tls {
    /// # Errors
    /// [`TlsError`], when a configured file cannot be used.
    pub(super) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match &settings.roots {
            Roots::BuiltIn => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::File(path) => add_file(&mut roots, path)?,
        }
        let identity = settings.identity.as_ref().map(load).transpose()?;
        Ok(Self { roots, identity, configs: Mutex::default() })
    }

    /// The configuration for hosts of this need, and connections from this source.
    pub(super) fn config(&self, need: &Need, source: Option<&str>) -> Arc<ClientConfig> {
        let mut all = self.configs();
        let source: Option<Arc<str>> = source.map(Into::into);
        let configs = all.entry(source).or_insert_with(|| Configs {
            anyone: config(self.identity.as_ref(), Resumption::default()),
            named: config(self.identity.as_ref(), Resumption::default()),
            keys: HashMap::new(),
        });
        match need {
            Need::Dane { .. } | Need::Pinned { .. } => {
                if let Some(config) = configs.keys.get(need) {
                    return Arc::clone(config);
                }
                if configs.keys.len() >= POLICIES {
                    configs.keys.clear();
                }
                let made = config(self.identity.as_ref(), Resumption::in_memory_sessions(SESSIONS));
                configs.keys.insert(need.clone(), Arc::clone(&made));
                made
            }
            Need::WebPki(_) => Arc::clone(&configs.named),
            Need::Clear | Need::Opportunistic | Need::Encrypted | Need::SkipHost(_) => {
                Arc::clone(&configs.anyone)
            }
        }
    }

    /// Resumes no session of this need that there was: its certificate may be out of date.
    pub(super) fn forget(&self, need: &Need, source: Option<&str>) {
        let mut all = self.configs();
        let source: Option<Arc<str>> = source.map(Into::into);
        let Some(configs) = all.get_mut(&source) else { return };
        match need {
            Need::Dane { .. } | Need::Pinned { .. } => drop(configs.keys.remove(need)),
            Need::WebPki(_) => {
                configs.named = config(self.identity.as_ref(), Resumption::default());
            }
            Need::Clear | Need::Opportunistic | Need::Encrypted | Need::SkipHost(_) => {}
        }
    }

    /// What a server has presented.
    pub(super) fn presented(
        &self,
        connection: &rustls::ClientConnection,
        security: &Security,
    ) -> Presented {
        let chain = connection.peer_certificates().unwrap_or_default();
        presented::presented(chain, security, &self.roots.roots, UnixTime::now())
    }

    fn configs(&self) -> MutexGuard<'_, HashMap<Option<Arc<str>>, Configs>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What outbound policies are told of a connection.
pub(super) fn facts(connection: &rustls::ClientConnection, need: &Need) -> PeerTls {
    let version = connection.protocol_version();
    let suite = connection.negotiated_cipher_suite();
    PeerTls {
        // rustls writes `TLSv1_3` and `TLS13_` where everybody else writes `TLSv1.3` and `TLS_`.
        version: version.map_or_else(String::new, |v| format!("{v:?}").replace('_', ".")),
        cipher: suite
            .map_or_else(String::new, |s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
        authenticated: matches!(need, Need::Dane { .. } | Need::WebPki(_) | Need::Pinned { .. }),
    }
}

/// Which name to ask a host for in the handshake: a host's own, but for DANE the name of its
/// records (RFC 7672 §8.1).
pub(super) fn name_for<'a>(security: &'a Security, host: &'a str) -> std::borrow::Cow<'a, str> {
    match &security.need {
        Need::Dane { names, .. } => match names.first().and_then(merpati_types::Host::domain) {
            Some(domain) => Domain::as_ascii(domain).into(),
            None => host.into(),
        },
        _ => host.into(),
    }
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let unusable = |reason: String| TlsError { path: path.to_owned(), reason };
    for certificate in read_certificates(path)? {
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |reason: String| TlsError { path: path.to_owned(), reason };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    let read: Result<Vec<_>, _> = certificates.collect();
    let read = read.map_err(|error| unusable(error.to_string()))?;
    if read.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(read)
}

fn load(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let unusable = |path: &PathBuf, reason: String| TlsError { path: path.clone(), reason };
    let chain = read_certificates(&identity.chain)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)
        .map_err(|error| unusable(&identity.key, error.to_string()))?;
    builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(|error| unusable(&identity.chain, error.to_string()))?;
    Ok((chain, key))
}

fn config(
    identity: Option<&(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    resumption: Resumption,
) -> Arc<ClientConfig> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let verifier = Arc::new(AnyCertificate(algorithms));
    let builder = builder().dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .expect("the two were tried together"),
    };
    config.resumption = resumption;
    Arc::new(config)
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
}

/// Believes every certificate, since all are judged later: against somebody who only listens, a
/// stranger's key is as good as any (RFC 7435 §3). That the peer holds the key is checked here.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration has the sessions that can be resumed in it.
    #[test]
    fn sessions_are_resumed_from_their_source_alone() {
        let tls = Tls::new(&TlsSettings::default()).unwrap();
        let same = |a: Option<&str>, b: Option<&str>| {
            let config = |source| tls.config(&Need::Opportunistic, source);
            Arc::ptr_eq(&config(a), &config(b))
        };
        assert!(same(None, None) && same(Some("a"), Some("a")));
        assert!(!same(None, Some("a")) && !same(Some("b"), Some("a")));
    }
}
