//! The keys that sign, and the files they are in.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mail_auth::common::crypto::{DkimKey as Library, Ed25519Key, RsaKey};
use merpati_types::Secret;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};

use crate::der::{self, Kind};

/// The longest file, in octets: one RSA key of 4,096 bits takes 3,300.
const SIZE_LIMIT: u64 = 64 * 1024;
/// Signers should use at least this (RFC 8301 §3.2), and the library refuses less.
const LEAST_BITS: usize = 2_048;
/// Verifiers need to be able to check no more (RFC 8301 §3.2).
const MOST_BITS: usize = 4_096;

/// Why a file of a key is not taken. Nothing of the file's content is in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others on the machine could sign with the key.
    #[error(
        "{} can be read or written by others than its owner (mode {mode:o}); use mode 600 or 400",
        path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is longer than 64 KiB.
    #[error("{} is longer than {limit} octets", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// What is in the file is no key that can sign.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: BadKey,
    },
}

/// Why a key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKey {
    /// There is no section of a private key, or only an encrypted one.
    #[error("there is no unencrypted private key in PEM form (PKCS #8, or PKCS #1 for RSA)")]
    Missing,
    /// Neither RSA nor Ed25519.
    #[error("the key is neither RSA nor Ed25519")]
    Algorithm,
    /// An RSA key that is too easily factored.
    #[error("the RSA key has {bits} bits; at least {LEAST_BITS} are needed (RFC 8301)")]
    Weak {
        /// The length of its modulus.
        bits: usize,
    },
    /// An RSA key that verifiers need not be able to use.
    #[error(
        "the RSA key has {bits} bits; verifiers need not take more than {MOST_BITS} (RFC 8301)"
    )]
    Long {
        /// The length of its modulus.
        bits: usize,
    },
    /// Not what a private key looks like, or its parts do not belong together.
    #[error("the private key is damaged")]
    Damaged,
}

/// The name of a key within its domain.
///
/// ```text
/// selector = sub-domain *( "." sub-domain )      RFC 6376 §3.1
/// ```
/// Lower-case letters, digits, hyphens and underscores; a label has at most 63 octets and the
/// whole at most 128.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<str>);

/// A text that is no selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a selector such as 2026a or s1.mail")]
pub struct SelectorError;

impl Selector {
    /// The selector.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        let good = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 128 || !text.split('.').all(good) {
            return Err(SelectorError);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// `rsa-sha256` (RFC 6376 §3.3.2), which every verifier knows.
    RsaSha256,
    /// `ed25519-sha256` (RFC 8463), which not every verifier knows yet.
    Ed25519Sha256,
}

/// A private key and its selector. `Debug` shows nothing of the key.
pub struct DkimKey {
    selector: Selector,
    pub(crate) half: Library,
}

impl DkimKey {
    /// Reads a key from a file that only its owner can read. It is in PEM form, RSA as PKCS #1 or
    /// PKCS #8, Ed25519 as PKCS #8; of several the first is taken.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(selector: Selector, path: &Path) -> Result<Self, KeyError> {
        let pem = read(path)?;
        Self::from_pem(selector, &pem)
            .map_err(|error| KeyError::Unusable { path: path.to_owned(), error })
    }

    /// Reads a key from text in PEM form.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_pem(selector: Selector, pem: &Secret<Vec<u8>>) -> Result<Self, BadKey> {
        let private = |section: &SectionKind| {
            use SectionKind::{EcPrivateKey, PrivateKey, RsaPrivateKey};
            matches!(section, PrivateKey | RsaPrivateKey | EcPrivateKey)
        };
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.expose());
        let sections = sections.map_while(Result::ok);
        let sections = sections.map(|(section, der)| (section, Secret::new(der)));
        let mut keys = sections.filter(|(section, _)| private(section));
        let (section, der) = keys.next().ok_or(BadKey::Missing)?;
        let half = match section {
            SectionKind::PrivateKey => {
                let kind = der::pkcs8(der.expose()).ok_or(BadKey::Damaged)?;
                read_key(kind, PrivatePkcs8KeyDer::from(der.expose().as_slice()).into())?
            }
            SectionKind::RsaPrivateKey => {
                let kind = der::pkcs1(der.expose()).ok_or(BadKey::Damaged)?;
                read_key(kind, PrivatePkcs1KeyDer::from(der.expose().as_slice()).into())?
            }
            _ => return Err(BadKey::Algorithm),
        };
        Ok(Self { selector, half })
    }

    /// The selector.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.half {
            Library::Rsa(_) => Algorithm::RsaSha256,
            Library::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// What the TXT record at `SELECTOR._domainkey.DOMAIN` has to say for signatures of this key
    /// to be found good (RFC 6376 §3.6.1).
    #[must_use]
    pub fn record(&self) -> String {
        match &self.half {
            Library::Rsa(key) => {
                format!("v=DKIM1; k=rsa; p={}", der::rsa_record(&key.public_key()))
            }
            Library::Ed25519(key) => {
                format!("v=DKIM1; k=ed25519; p={}", der::ed25519_record(&key.public_key()))
            }
        }
    }
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKey")
            .field("selector", &self.selector)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

fn read_key(kind: Kind, der: PrivateKeyDer<'_>) -> Result<Library, BadKey> {
    match kind {
        Kind::Rsa { bits } if bits < LEAST_BITS => Err(BadKey::Weak { bits }),
        Kind::Rsa { bits } if bits > MOST_BITS => Err(BadKey::Long { bits }),
        Kind::Rsa { .. } => {
            let key = RsaKey::from_key_der(der).map_err(|_| BadKey::Damaged)?;
            Ok(Library::Rsa(key))
        }
        Kind::Ed25519 => {
            // OpenSSL writes keys without their public half, which is "maybe unchecked" here.
            let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_der());
            Ok(Library::Ed25519(key.map_err(|_| BadKey::Damaged)?))
        }
        Kind::Other => Err(BadKey::Algorithm),
    }
}

fn read(path: &Path) -> Result<Secret<Vec<u8>>, KeyError> {
    let unreadable = |source| KeyError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Permissions { path: path.to_owned(), mode });
    }
    // With room for all of it, so that growing leaves no copies behind.
    let mut pem = Vec::with_capacity(usize::try_from(SIZE_LIMIT).unwrap_or_default() + 1);
    let read = file.by_ref().take(SIZE_LIMIT + 1).read_to_end(&mut pem);
    let pem = Secret::new(pem);
    if read.map_err(unreadable)? as u64 > SIZE_LIMIT {
        return Err(KeyError::TooLong { path: path.to_owned(), limit: SIZE_LIMIT });
    }
    Ok(pem)
}

#[cfg(test)]
mod tests;
