//! What a test's servers share: a directory, a zone, a certificate authority.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use merpati_testkit::dns::{DnsServer, Zone};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The user nobody, whom mailboxes and our servers' files belong to.
pub(crate) const NOBODY: u32 = 65_534;

/// Everybody's mail goes to this host, at the port the servers are told.
const ZONE: &str = "\
receiver.test MX 10 mx.receiver.test
mx.receiver.test A 127.0.0.1
";

/// A directory that is removed, and a DNS server that ends, when this is dropped.
pub(crate) struct Room {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    dns: DnsServer,
    _runtime: Runtime,
}

impl Room {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("merpati-peers-").tempdir().unwrap();
        // Servers that have dropped their privileges are to reach what is theirs.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let dns = runtime.block_on(DnsServer::start(Zone::parse(ZONE).unwrap())).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key), dns, _runtime: runtime }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    pub(crate) fn dns(&self) -> SocketAddr {
        self.dns.address()
    }

    /// A new directory that belongs to `user`.
    pub(crate) fn directory(&self, name: &str, user: u32) -> PathBuf {
        let directory = self.path().join(name);
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(user), None).unwrap();
        directory
    }

    /// Writes `chain.pem` and `key.pem`, for `host` and readable by `user`, into `directory`.
    pub(crate) fn certificate(&self, directory: &Path, host: &str, user: u32) {
        let names = [host.to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.join("chain.pem"), certificate.pem()).unwrap();
        let file = directory.join("key.pem");
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(user), None).unwrap();
    }
}

/// An address that is free now: configuration files name concrete ports.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
