//! A private certificate authority and the servers' certificates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Where the authority's certificate is, and who may ask it for more.
pub(crate) struct Authority {
    /// PEM.
    pub(crate) certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Merpati demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?;
        let certificate = dir.join("ca.pem");
        fs::write(&certificate, root.pem())?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Makes a certificate for `name`, `localhost` and 127.0.0.1; answers its chain and key.
    pub(crate) fn issue(&self, dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let names = [name, "localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (chain_file, key_file) =
            (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&chain_file, certificate.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        owner_only(&key_file)?;
        Ok((chain_file, key_file))
    }
}

/// Takes every right from everybody but the owner.
pub(crate) fn owner_only(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}
