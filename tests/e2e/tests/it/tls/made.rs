//! Certificates, good and bad, and the TLSA records that speak of them.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::PublicKeyData as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a server presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    Good,
    WrongName,
    Expired,
    SelfSigned,
    NoTls,
}

impl Shown {
    pub(super) const ALL: [Self; 5] =
        [Self::Good, Self::WrongName, Self::Expired, Self::SelfSigned, Self::NoTls];
}

/// One authority, and a certificate of each kind for the hosts below `hosts.test`.
pub(super) struct Workshop {
    /// The authority, PEM.
    pub(super) authority: String,
    authority_der: CertificateDer<'static>,
    made: Vec<(Shown, Made)>,
}

struct Made {
    config: Arc<ServerConfig>,
    public_key: Vec<u8>,
}

impl Workshop {
    pub(super) fn open() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let authority_der = CertificateDer::from(authority.der().to_vec());
        let make = |shown| {
            let name = if shown == Shown::WrongName { "*.other.test" } else { "*.hosts.test" };
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            if shown == Shown::Expired {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let (certificate, above) = match shown {
                Shown::SelfSigned => (params.self_signed(&key).unwrap(), None),
                _ => (params.signed_by(&key, &issuer).unwrap(), Some(authority_der.clone())),
            };
            let chain = std::iter::once(certificate.der().clone()).chain(above).collect();
            (shown, Made { config: server(chain, &key), public_key: key.subject_public_key_info() })
        };
        let made = Shown::ALL.into_iter().filter(|&shown| shown != Shown::NoTls).map(make);
        let made = made.collect();
        Self { authority: authority.pem(), authority_der, made }
    }

    /// For servers that present this; `None` without TLS.
    pub(super) fn config(&self, shown: Shown) -> Option<Arc<ServerConfig>> {
        Some(Arc::clone(&self.find(shown)?.config))
    }

    /// `3 1 1`: the key of who presents this. A server without TLS has the good key.
    pub(super) fn end_entity(&self, shown: Shown) -> String {
        let made = self.find(shown).or_else(|| self.find(Shown::Good)).unwrap();
        format!("3 1 1 {}", hash(&made.public_key))
    }

    /// `2 0 1`: the authority.
    pub(super) fn trust_anchor(&self) -> String {
        format!("2 0 1 {}", hash(&self.authority_der))
    }

    fn find(&self, shown: Shown) -> Option<&Made> {
        self.made.iter().find(|(kind, _)| *kind == shown).map(|(_, made)| made)
    }
}

fn server(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// In hexadecimal digits.
pub(super) fn hash(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
