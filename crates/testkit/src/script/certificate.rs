//! A certificate for `mail.test`, and a client that trusts it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client: Arc<ClientConfig>,
}

impl Certificate {
    /// Writes `chain.pem` and `key.pem`.
    pub(super) fn write(directory: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let certified = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()])?;
        let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
        std::fs::write(&chain, certified.cert.pem())?;
        std::fs::write(&key, certified.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { chain, key, client: Arc::new(client) })
    }
}
