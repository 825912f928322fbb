//! The options of a table in a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ldap3::Scope;
use merpati_plugin::options::{Found, FromOption, Invalid, Options, Reader};
use merpati_types::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::connection::{Account, Server, Tls};
use super::filter::Filter;
use super::{LdapTable, Values};
use crate::pool::Pool;

/// How far below the base entries are sought.
struct Depth(Scope);

impl FromOption for Depth {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found
            .choice(&[("base", Scope::Base), ("one", Scope::OneLevel), ("subtree", Scope::Subtree)])
            .map(Self)
    }
}

/// How connections are protected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    None,
    Verified,
}

impl FromOption for Protection {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("none", Self::None), ("verified", Self::Verified)])
    }
}

pub(super) fn read(options: &Options) -> Result<LdapTable, Invalid> {
    let mut reader = options.reader();
    let url = reader.required::<String>("url").and_then(|url| checked(url, &reader));
    let base = reader.required("base");
    let scope = reader.or("scope", Depth(Scope::Subtree)).0;
    let filter = reader
        .required::<String>("filter")
        .and_then(|filter| Filter::parse(&filter).map_err(|error| reader.reject("filter", error)));
    let attribute = reader.required("attribute");
    let values = if reader.or("multiple", false) { Values::Several } else { Values::One };
    let account = account(&mut reader);
    let ca = reader.optional::<PathBuf>("ca");
    let protection = reader.or("tls", Protection::Verified);
    let connections = reader.ranged("connections", 1..=100, 4);
    let times = Duration::from_millis(100)..=Duration::from_secs(60);
    let timeout = reader.ranged("timeout", times, Duration::from_secs(5));
    let server = url.and_then(|url| {
        let tls = tls(&url, ca.as_deref(), protection, &reader)?;
        Ok(Server { url, tls, account, pool: Pool::new(connections) })
    });
    reader.finish()?;
    Ok(LdapTable {
        server: server?,
        base: base?,
        scope,
        filter: filter?,
        attribute: attribute?,
        values,
        timeout,
    })
}

/// The library takes what else may stand in a URL for granted.
fn checked(url: String, reader: &Reader<'_>) -> Result<String, Invalid> {
    let schemes = ["ldap://", "ldaps://", "ldapi://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.trim_end_matches('/'));
    match host {
        None | Some("") => {
            Err(reader.reject("url", "expected ldap://, ldaps:// or ldapi:// and a host"))
        }
        Some(host) if host.contains(['/', '@', '?', '#']) => {
            Err(reader.reject("url", "only a host and perhaps a port stand in it"))
        }
        Some(_) => Ok(url),
    }
}

fn account(reader: &mut Reader<'_>) -> Option<Account> {
    let dn = reader.optional::<String>("bind_dn");
    let password = reader.optional::<Secret<String>>("password");
    match (dn, password) {
        (None, None) => None,
        (Some(_), Some(password)) if password.expose().is_empty() => {
            reader.reject("password", "the password is empty: such a bind succeeds for everybody");
            None
        }
        (Some(dn), Some(password)) => Some(Account { dn, password }),
        _ => {
            reader.reject("bind_dn", "`bind_dn` and `password` go together");
            None
        }
    }
}

fn tls(
    url: &str,
    ca: Option<&Path>,
    protection: Protection,
    reader: &Reader<'_>,
) -> Result<Tls, Invalid> {
    if url.starts_with("ldapi:") {
        return Ok(Tls::None);
    }
    let implicit = url.starts_with("ldaps:");
    if protection == Protection::None {
        if implicit {
            return Err(reader.reject("tls", "an ldaps:// URL has TLS"));
        }
        return Ok(Tls::None);
    }
    let config = client_config(ca).map_err(|error| reader.reject("ca", error))?;
    Ok(if implicit { Tls::Implicit(config) } else { Tls::Upgraded(config) })
}

fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let shown = path.display();
            let unusable = |error: String| format!("{shown} cannot be used: {error}");
            let read =
                CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("there is no certificate in it".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
