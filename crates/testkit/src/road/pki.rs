//! A private certificate authority and the servers' certificates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Where the authority's certificate is, and who may ask it for more.
pub(super) struct Authority {
    /// PEM.
    pub(super) certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority in `dir`.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Merpati demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let root = params.self_signed(&key).map_err(io::Error::other)?;
        let certificate = dir.join("ca.pem");
        fs::write(&certificate, root.pem())?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Makes a certificate for `name`, `localhost` and 127.0.0.1; answers its chain and key.
    pub(super) fn issue(&self, dir: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let names = [name, "localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let (chain_file, key_file) =
            (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&chain_file, certificate.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        owner_only(&key_file)?;
        Ok((chain_file, key_file))
    }
}

/// Takes every right from everybody but the owner.
pub(super) fn owner_only(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
}
