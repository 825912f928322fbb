//! Certificates by server name, and the rustls configuration that serves them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use merpati_plugin::TlsFacts;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the server's own certificate first.
    pub chain: PathBuf,
    /// PEM, unencrypted.
    pub key: PathBuf,
}

/// What a role's TLS is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The first one also serves clients that name no server, or one we do not know.
    pub certificates: Vec<CertificateFiles>,
    /// Roots of client certificates, PEM. Without them none is asked for.
    pub client_roots: Option<PathBuf>,
}

/// A file that cannot be used. One line says which and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file is missing, unreadable, or no PEM.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the PEM reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("{}: there is no certificate in it", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The pieces do not fit: key and certificate, or an algorithm that is not supported.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// TLS is wanted and there is no certificate.
    #[error("no certificate is configured")]
    None,
}

/// The TLS configuration in force; a reload replaces it for connections to come.
pub struct TlsStore {
    current: ArcSwap<ServerConfig>,
}

impl TlsStore {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], for the first file that cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::from(configuration(files)?) })
    }

    /// Reads the files again. On an error what was in force stays in force.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.current.store(configuration(files)?);
        Ok(())
    }

    /// The configuration for a connection that begins now.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn configuration(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Certificates::load(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3");
    let builder = match &files.client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable = |reason: String| TlsError::Unusable { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for root in read_chain(path)? {
                roots.add(root).map_err(|error| unusable(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(certificates))))
}

/// Chooses a certificate by the name the client asks for.
#[derive(Debug)]
struct Certificates {
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut by_name = BTreeMap::new();
        let mut default = None;
        for pair in &files.certificates {
            let certified = Arc::new(read_pair(pair, provider)?);
            let certificate = certified.end_entity_cert().map_err(|error| TlsError::Unusable {
                path: pair.chain.clone(),
                reason: error.to_string(),
            })?;
            for name in dns_names(certificate) {
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
            default.get_or_insert(certified);
        }
        Ok(Self { by_name, default: default.ok_or(TlsError::None)? })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            };
            self.by_name.get(&name).or_else(wildcard)
        });
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

fn read_pair(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::File { path: files.key.clone(), source })?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| TlsError::Unusable { path: files.key.clone(), reason: error.to_string() })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(file)?
        .collect::<Result<_, _>>()
        .map_err(file)?;
    if chain.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(chain)
}

/// The DNS names a certificate is for, lower case.
fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// What the handshake of `connection` established.
#[must_use]
pub fn facts(connection: &ServerConnection) -> TlsFacts {
    let version = connection.protocol_version().map_or_else(String::new, |version| {
        // rustls writes `TLSv1_3` where everybody else writes `TLSv1.3`.
        format!("{version:?}").replace('_', ".")
    });
    let cipher = connection
        .negotiated_cipher_suite()
        .map_or_else(String::new, |suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"));
    let client_names = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(dns_names)
        .unwrap_or_default();
    TlsFacts {
        version,
        cipher,
        server_name: connection.server_name().map(str::to_owned),
        client_names,
    }
}

#[cfg(test)]
mod tests;
