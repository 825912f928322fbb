//! The options of the stock transports.

use std::path::PathBuf;
use std::sync::Arc;

use merpati_plugin::Deliverer;
use merpati_plugin::options::{Found, FromOption, Invalid, Options, Parsed, Reader};
use merpati_route::Table;
use merpati_route::security::Override;
use merpati_session::client::Protocol;
use merpati_types::{Host, Secret};

use crate::maildir::{LineEnding, Maildir, MaildirConfig, Template};
use crate::smtp::{
    Credentials, Identity, Pin, Roots, Smtp, SmtpConfig, Target, TlsError, TlsSettings,
};
use crate::transports::Surroundings;

type Built = Result<Arc<dyn Deliverer>, Invalid>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsChoice {
    Never,
    May,
    Encrypt,
    Dane,
    Verify,
    Pinned,
    Implicit,
}

impl FromOption for TlsChoice {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::Never),
            ("may", Self::May),
            ("encrypt", Self::Encrypt),
            ("dane", Self::Dane),
            ("verify", Self::Verify),
            ("pinned", Self::Pinned),
            ("implicit", Self::Implicit),
        ])
    }
}

impl FromOption for LineEnding {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("lf", Self::Lf), ("crlf", Self::CrLf)])
    }
}

/// `host`, `port`, `tls`, `ca`, `pins`, `certificate`, `key`, `user`, `password`.
pub(crate) fn smtp(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let host = match reader.optional::<String>("host") {
        None => Ok(Target::Mx),
        Some(text) => match Host::parse(&text) {
            Ok(host) => Ok(Target::Host(host)),
            Err(error) => Err(reader.reject("host", error)),
        },
    };
    let port = reader.optional("port");
    let tls = tls_settings(&mut reader, around);
    let credentials = credentials(&mut reader);
    reader.finish()?;
    let (target, tls) = (host?, tls?);
    let default_port = match &target {
        Target::Mx => around.mx_port,
        _ if tls.implicit => 465,
        _ => 25,
    };
    let port = port.unwrap_or(default_port);
    build(name, Protocol::Smtp, target, port, tls, credentials?, around)
        .map_err(|error| options.reject(error))
}

/// `socket`, or `host` and `port`; `tls`, `ca`, `pins`, `certificate`, `key`.
pub(crate) fn lmtp(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let socket: Option<PathBuf> = reader.optional("socket");
    let host: Option<String> = reader.optional("host");
    let port = reader.or("port", 24);
    let tls = match host {
        Some(_) => tls_settings(&mut reader, around),
        None => Ok(TlsSettings::wanting(Override::None)),
    };
    let target = match (socket, host) {
        (Some(path), None) => Ok(Target::Unix(path)),
        (None, Some(text)) => match Host::parse(&text) {
            Ok(host) => Ok(Target::Host(host)),
            Err(error) => Err(reader.reject("host", error)),
        },
        _ => Err(options.reject("lmtp needs either `socket` or `host`")),
    };
    reader.finish()?;
    build(name, Protocol::Lmtp, target?, port, tls?, None, around)
        .map_err(|error| options.reject(error))
}

/// `path`, `line_ending`.
pub(crate) fn maildir(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let path = match reader.required::<PathBuf>("path") {
        Ok(path) => {
            Template::new(&path.to_string_lossy()).map_err(|error| reader.reject("path", error))
        }
        Err(invalid) => Err(invalid),
    };
    let line_ending = reader.or("line_ending", LineEnding::default());
    reader.finish()?;
    Ok(Arc::new(Maildir::new(MaildirConfig {
        name: name.to_owned(),
        path: path?,
        line_ending,
        hostname: around.hostname.as_ascii().to_owned(),
    })))
}

pub(crate) fn by_mx(around: &Surroundings) -> Result<Arc<dyn Deliverer>, TlsError> {
    let name = crate::transports::DEFAULT;
    build(name, Protocol::Smtp, Target::Mx, around.mx_port, around.tls.clone(), None, around)
}

fn build(
    name: &str,
    protocol: Protocol,
    target: Target,
    port: u16,
    tls: TlsSettings,
    credentials: Option<Credentials>,
    around: &Surroundings,
) -> Result<Arc<dyn Deliverer>, TlsError> {
    let config = SmtpConfig {
        name: name.to_owned(),
        protocol,
        target,
        port,
        hello: around.hostname.as_ascii().to_owned(),
        tls,
        sts: around.sts.clone(),
        tls_results: around.tls_results.clone(),
        credentials,
        own_names: vec![around.hostname.clone()],
        source: around.source.clone(),
        recipients: around.recipients,
    };
    Ok(Arc::new(Smtp::new(config, Arc::clone(&around.resolver))?))
}

/// `tls`, `ca`, `pins`, `certificate`, `key`; what is not said is as around.
fn tls_settings(reader: &mut Reader<'_>, around: &Surroundings) -> Result<TlsSettings, Invalid> {
    let mut tls = around.tls.clone();
    let choice = reader.optional("tls");
    if let Some(file) = reader.optional("ca") {
        tls.roots = Roots::File(file);
    }
    let pins: Option<Vec<Parsed<Pin>>> = reader.optional("pins");
    let pins = pins.map(|pins| pins.into_iter().map(|Parsed(Pin(pin))| pin).collect());
    match (reader.optional("certificate"), reader.optional("key")) {
        (None, None) => {}
        (Some(chain), Some(key)) => tls.identity = Some(Identity { chain, key }),
        _ => return Err(reader.reject("key", "a certificate and its `key` go together")),
    }
    if pins.is_some() && choice != Some(TlsChoice::Pinned) {
        return Err(reader.reject("pins", "they count with tls = \"pinned\" only"));
    }
    let Some(choice) = choice else { return Ok(tls) };
    tls.implicit = choice == TlsChoice::Implicit;
    tls.wanted = Some(match choice {
        TlsChoice::Never => Override::None,
        TlsChoice::May => Override::May,
        TlsChoice::Encrypt => Override::Encrypt,
        TlsChoice::Dane => Override::Dane,
        TlsChoice::Verify | TlsChoice::Implicit => Override::Verify,
        TlsChoice::Pinned => match pins {
            Some(pins) => Override::Pinned(pins),
            None => return Err(reader.reject("tls", "there are no `pins`")),
        },
    });
    // What is said of a transport holds for all that it takes.
    tls.destinations = Table::default();
    Ok(tls)
}

fn credentials(reader: &mut Reader<'_>) -> Result<Option<Credentials>, Invalid> {
    let user = reader.optional::<String>("user");
    let password = reader.optional::<Secret<String>>("password");
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some(Credentials { user, password })),
        (Some(_), None) => Err(reader.reject("user", "a user needs a `password`")),
        (None, Some(_)) => Err(reader.reject("password", "a password needs a `user`")),
    }
}
