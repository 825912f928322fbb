//! The options of the stock transports.

use std::path::PathBuf;
use std::sync::Arc;

use merpati_plugin::Deliverer;
use merpati_plugin::options::{Found, FromOption, Invalid, Options, Reader};
use merpati_session::client::Protocol;
use merpati_types::{Host, Secret};

use crate::maildir::{LineEnding, Maildir, MaildirConfig, Template};
use crate::smtp::{Credentials, Roots, RootsError, Smtp, SmtpConfig, Target, TlsPolicy};
use crate::transports::Surroundings;

type Built = Result<Arc<dyn Deliverer>, Invalid>;

#[derive(Clone, Copy)]
enum TlsChoice {
    Never,
    May,
    Encrypt,
    Verify,
    Implicit,
}

impl FromOption for TlsChoice {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::Never),
            ("opportunistic", Self::May),
            ("required", Self::Encrypt),
            ("verified", Self::Verify),
            ("implicit", Self::Implicit),
        ])
    }
}

impl FromOption for LineEnding {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("lf", Self::Lf), ("crlf", Self::CrLf)])
    }
}

/// `host`, `port`, `tls`, `ca`, `user`, `password`.
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
    let tls = tls_policy(&mut reader, around);
    let credentials = credentials(&mut reader);
    reader.finish()?;
    let target = host?;
    let default_port = match (&target, &tls) {
        (Target::Mx, _) => around.mx_port,
        (_, TlsPolicy::Implicit(_)) => 465,
        _ => 25,
    };
    let port = port.unwrap_or(default_port);
    build(name, Protocol::Smtp, target, port, tls, credentials?, around)
        .map_err(|error| options.reject(error))
}

/// `socket`, or `host` and `port`; `tls`, `ca`.
pub(crate) fn lmtp(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let socket: Option<PathBuf> = reader.optional("socket");
    let host: Option<String> = reader.optional("host");
    let port = reader.or("port", 24);
    let tls = if host.is_some() { tls_policy(&mut reader, around) } else { TlsPolicy::Never };
    let target = match (socket, host) {
        (Some(path), None) => Ok(Target::Unix(path)),
        (None, Some(text)) => match Host::parse(&text) {
            Ok(host) => Ok(Target::Host(host)),
            Err(error) => Err(reader.reject("host", error)),
        },
        _ => Err(options.reject("lmtp needs either `socket` or `host`")),
    };
    reader.finish()?;
    build(name, Protocol::Lmtp, target?, port, tls, None, around)
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

pub(crate) fn by_mx(around: &Surroundings) -> Result<Arc<dyn Deliverer>, RootsError> {
    let name = crate::transports::DEFAULT;
    build(name, Protocol::Smtp, Target::Mx, around.mx_port, around.tls.clone(), None, around)
}

fn build(
    name: &str,
    protocol: Protocol,
    target: Target,
    port: u16,
    tls: TlsPolicy,
    credentials: Option<Credentials>,
    around: &Surroundings,
) -> Result<Arc<dyn Deliverer>, RootsError> {
    let config = SmtpConfig {
        name: name.to_owned(),
        protocol,
        target,
        port,
        hello: around.hostname.as_ascii().to_owned(),
        tls,
        credentials,
        own_names: vec![around.hostname.clone()],
        source: around.source.clone(),
        recipients: around.recipients,
    };
    Ok(Arc::new(Smtp::new(config, Arc::clone(&around.resolver))?))
}

fn tls_policy(reader: &mut Reader<'_>, around: &Surroundings) -> TlsPolicy {
    let choice = reader.optional("tls");
    let roots = reader.optional::<PathBuf>("ca").map_or(Roots::BuiltIn, Roots::File);
    match choice {
        None => around.tls.clone(),
        Some(TlsChoice::Never) => TlsPolicy::Never,
        Some(TlsChoice::May) => TlsPolicy::Opportunistic,
        Some(TlsChoice::Encrypt) => TlsPolicy::Encrypt,
        Some(TlsChoice::Verify) => TlsPolicy::Verify(roots),
        Some(TlsChoice::Implicit) => TlsPolicy::Implicit(roots),
    }
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
