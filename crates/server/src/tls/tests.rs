//! Handshakes over a pipe: which certificate is shown, and whose is believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use merpati_plugin::TlsFacts;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{CertificateFiles, TlsError, TlsFiles, TlsStore, dns_names, facts};

/// An authority, and what it has signed, in a directory.
struct Pki {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str) -> CertificateFiles {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = name.replace('*', "any");
        let (chain, key_file) =
            (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        fs::write(&chain, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        CertificateFiles { chain, key: key_file }
    }

    fn client(&self, certificate: Option<&CertificateFiles>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(read(&self.path("ca.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certificate {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
                builder.with_client_auth_cert(vec![read(&files.chain)], key).unwrap()
            }
        })
    }
}

fn read(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Answers the names of the certificate that was shown, and what the server learnt; an error where
/// either side gave up.
async fn handshake(
    store: &TlsStore,
    client: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<(Vec<String>, TlsFacts)> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let accept = TlsAcceptor::from(store.current()).accept(near);
    let connect = TlsConnector::from(client).connect(name, far);
    let (server, client) = tokio::join!(accept, connect);
    let (server, client) = (server?, client?);
    let shown = client.get_ref().1.peer_certificates().unwrap();
    Ok((dns_names(&shown[0]), facts(server.get_ref().1)))
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let pki = Pki::new();
    let certificates = ["mx.test", "*.lists.test"].map(|name| pki.issue(name));
    let files = TlsFiles { certificates: certificates.to_vec(), client_roots: None };
    let store = TlsStore::load(&files).unwrap();
    let shown = async |name: &str| {
        let (names, facts) = handshake(&store, pki.client(None), name).await.unwrap();
        assert_eq!(facts.server_name.as_deref(), Some(name));
        assert!(facts.version == "TLSv1.3" && facts.cipher.starts_with("TLS_"), "{facts:?}");
        names
    };
    assert_eq!(shown("mx.test").await, ["mx.test"]);
    assert_eq!(shown("a.lists.test").await, ["*.lists.test"]);
    // A stranger sees the first one, which is not for the name it wants.
    assert!(handshake(&store, pki.client(None), "other.test").await.is_err());

    // After a reload new connections see the new certificates; a mistake changes nothing.
    let renewed = TlsFiles { certificates: vec![pki.issue("new.test")], client_roots: None };
    store.reload(&renewed).unwrap();
    let (names, _) = handshake(&store, pki.client(None), "new.test").await.unwrap();
    assert_eq!(names, ["new.test"]);
    let nothing = store.reload(&TlsFiles::default());
    assert!(matches!(nothing, Err(TlsError::None)));
    handshake(&store, pki.client(None), "new.test").await.unwrap();
}

#[tokio::test]
async fn a_client_is_known_by_a_certificate_from_our_roots_only() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let files = TlsFiles {
        certificates: vec![pki.issue("mx.test")],
        client_roots: Some(pki.path("ca.pem")),
    };
    let store = TlsStore::load(&files).unwrap();
    let names = async |certificate: Option<&CertificateFiles>| {
        let handshake = handshake(&store, pki.client(certificate), "mx.test").await;
        handshake.map(|(_, facts)| facts.client_names)
    };
    let host = pki.issue("Host.Client.test");
    assert_eq!(names(Some(&host)).await.unwrap(), ["host.client.test"]);
    assert_eq!(names(None).await.unwrap(), Vec::<String>::new());
    let forged = stranger.issue("host.client.test");
    assert!(names(Some(&forged)).await.is_err(), "a stranger's certificate was believed");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let pki = Pki::new();
    let good = pki.issue("mx.test");
    let other = pki.issue("other.test");
    let load = |chain: &Path, key: &Path| {
        let pair = CertificateFiles { chain: chain.to_owned(), key: key.to_owned() };
        let files = TlsFiles { certificates: vec![pair], client_roots: None };
        TlsStore::load(&files).map(drop).unwrap_err().to_string()
    };
    fs::write(pki.path("empty.pem"), "").unwrap();
    assert!(load(&pki.path("missing.pem"), &good.key).contains("missing.pem"));
    assert!(load(&pki.path("empty.pem"), &good.key).contains("empty.pem"));
    assert!(load(&good.chain, &other.key).contains("other.test.key"));
}
