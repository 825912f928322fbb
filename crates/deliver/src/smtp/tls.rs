//! TLS towards other servers: opportunistic, or verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use merpati_plugin::PeerTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What a transport wants of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No TLS.
    Never,
    /// Encrypt where it is offered, to whoever answers; where the handshake fails, send in the
    /// clear (RFC 7435).
    #[default]
    Opportunistic,
    /// Encrypt, to whoever answers.
    Encrypt,
    /// Encrypt, to whoever has a certificate for the host's name from one of these roots.
    Verify(Roots),
    /// As [`Self::Verify`], with TLS from the first byte (RFC 8314).
    Implicit(Roots),
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

/// Roots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct RootsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl TlsPolicy {
    /// The rustls configuration; `None` where there is no TLS.
    pub(crate) fn client_config(&self) -> Result<Option<Arc<ClientConfig>>, RootsError> {
        Ok(match self {
            Self::Never => None,
            Self::Opportunistic | Self::Encrypt => Some(unverified()),
            Self::Verify(roots) | Self::Implicit(roots) => Some(verified(roots)?),
        })
    }
}

/// What outbound policies are told of a connection.
pub(crate) fn facts(connection: &rustls::ClientConnection, policy: &TlsPolicy) -> PeerTls {
    let version = connection.protocol_version();
    let suite = connection.negotiated_cipher_suite();
    PeerTls {
        // rustls writes `TLSv1_3` and `TLS13_` where everybody else writes `TLSv1.3` and `TLS_`.
        version: version.map_or_else(String::new, |v| format!("{v:?}").replace('_', ".")),
        cipher: suite
            .map_or_else(String::new, |s| format!("{:?}", s.suite()).replace("TLS13_", "TLS_")),
        authenticated: matches!(policy, TlsPolicy::Verify(_) | TlsPolicy::Implicit(_)),
    }
}

fn verified(roots: &Roots) -> Result<Arc<ClientConfig>, RootsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::BuiltIn => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::File(path) => add_file(&mut store, path)?,
    }
    let config = builder().with_root_certificates(store).with_no_client_auth();
    Ok(Arc::new(config))
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), RootsError> {
    let unusable = |reason: String| RootsError { path: path.to_owned(), reason };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(())
}

fn unverified() -> Arc<ClientConfig> {
    let provider = aws_lc_rs::default_provider();
    let verifier = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config =
        builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Arc::new(config)
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
}

/// Believes every certificate: against somebody who only listens, a stranger's key is as good as
/// any, and mail that would have gone in the clear is not refused one (RFC 7435 §3). That the
/// peer holds the key is checked all the same.
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
