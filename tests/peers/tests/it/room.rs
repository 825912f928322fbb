//! What a test's servers share: a directory, a zone, a certificate authority.

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use merpati_testkit::dns::{DnsServer, Zone, ZoneKey};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    PublicKeyData as _, date_time_ymd,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The user nobody, whom mailboxes and our servers' files belong to.
pub(crate) const NOBODY: u32 = 65_534;

/// Everybody's mail goes to this host, at the port the servers are told.
const ZONE: &str = "\
receiver.test MX 10 mx.receiver.test
mx.receiver.test A 127.0.0.1
";

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// It is for another host.
    Name,
    /// It expired in 2021.
    Dates,
    /// Nobody has signed it but its own key.
    Issuer,
}

/// A directory that is removed, and a DNS server that ends, when this is dropped.
pub(crate) struct Room {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    authority: Certificate,
    dns: DnsServer,
    /// What validates the zone, if it is signed.
    anchor: Option<PathBuf>,
    runtime: Runtime,
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
        let authority = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { dir, issuer, authority, dns, anchor: None, runtime }
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

    /// Serves these records instead, signed.
    pub(crate) fn sign(&mut self, records: &str) {
        let key = ZoneKey::new().into();
        self.dns.set_zone(Zone::parse(records).unwrap().signed(&key));
        let anchor = self.path().join("anchor");
        fs::write(&anchor, key.trust_anchor()).unwrap();
        self.anchor = Some(anchor);
    }

    pub(crate) fn anchor(&self) -> Option<&Path> {
        self.anchor.as_deref()
    }

    /// Has a task run until this is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Waits for something asynchronous.
    pub(crate) fn block_on<T>(&self, task: impl Future<Output = T>) -> T {
        self.runtime.block_on(task)
    }

    /// A new directory that belongs to `user`.
    pub(crate) fn directory(&self, name: &str, user: u32) -> PathBuf {
        let directory = self.path().join(name);
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(user), None).unwrap();
        directory
    }

    /// Writes `chain.pem` and `key.pem`, for `host` and its siblings and readable by `user`, into
    /// `directory`.
    pub(crate) fn certificate(&self, directory: &Path, host: &str, user: u32) {
        self.flawed_certificate(directory, host, user, Flaw::None);
    }

    /// The same, with a flaw.
    pub(crate) fn flawed_certificate(&self, directory: &Path, host: &str, user: u32, flaw: Flaw) {
        let host = if flaw == Flaw::Name { "mx.other.test" } else { host };
        let (_, parent) = host.split_once('.').unwrap();
        let names = [host.to_owned(), format!("*.{parent}"), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.use_authority_key_identifier_extension = flaw != Flaw::Issuer;
        if flaw == Flaw::Dates {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        // RFC 7672 §3.1.2: a chain that a DANE-TA record ends has the authority in it.
        let chain = match flaw {
            Flaw::Issuer => params.self_signed(&key).unwrap().pem(),
            _ => params.signed_by(&key, &self.issuer).unwrap().pem() + &self.authority.pem(),
        };
        fs::write(directory.join("chain.pem"), chain).unwrap();
        let file = directory.join("key.pem");
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(user), None).unwrap();
    }

    /// The TLSA record of our authority: `2 0 1`.
    pub(crate) fn trust_anchor(&self) -> String {
        format!("2 0 1 {}", sha256(self.authority.der()))
    }
}

/// The TLSA record of the key in `directory`: `3 1 1`.
pub(crate) fn end_entity(directory: &Path) -> String {
    let key = KeyPair::from_pem(&fs::read_to_string(directory.join("key.pem")).unwrap()).unwrap();
    format!("3 1 1 {}", sha256(&key.subject_public_key_info()))
}

fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// An address that is free now: configuration files name concrete ports.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
