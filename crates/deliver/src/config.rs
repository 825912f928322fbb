//! The options of the stock transports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use merpati_plugin::Deliverer;
use merpati_plugin::options::{
    Found, FromOption, Invalid, Located, OneOrMany, Options, Parsed, Reader,
};
use merpati_route::Table;
use merpati_route::security::Override;
use merpati_session::client::Protocol;
use merpati_types::{Domain, Host, Secret};

use crate::maildir::{LineEnding, Maildir, MaildirConfig, Template};
use crate::mbox::{Mbox, MboxConfig};
use crate::pipe::{Argument, Argv, Pipe, PipeConfig};
use crate::post::{Form, Post, PostConfig};
use crate::smtp::{
    Account, Credentials, Identity, InClear, Login, Mechanism, OAuth, OAuthConfig, Pin, RelayHost,
    Roots, Smtp, SmtpConfig, Target, TlsError, TlsSettings,
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

/// `host` or `mx`, `port`, `tls`, `ca`, `pins`, `certificate`, `key`, `user`, `password`, `token`,
/// `oauth`, `credentials`, `mechanisms`, `auth_in_clear`.
pub(crate) fn smtp(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let hosts = reader.optional::<OneOrMany<Parsed<RelayHost>>>("host");
    let target = match (hosts, reader.optional::<Domain>("mx")) {
        (None, None) => Ok(Target::Mx),
        (None, Some(domain)) => Ok(Target::MxOf(domain)),
        (Some(OneOrMany(hosts)), None) if !hosts.is_empty() => {
            Ok(Target::Hosts(hosts.into_iter().map(|host| host.0).collect()))
        }
        (Some(_), None) => Err(reader.reject("host", "one at least")),
        (Some(_), Some(_)) => Err(reader.reject("mx", "either `host` or `mx`")),
    };
    let port = reader.optional("port");
    let tls = tls_settings(&mut reader, around);
    let login = login(&mut reader, options, around);
    reader.finish()?;
    let (target, tls) = (target?, tls?);
    let default_port = match &target {
        Target::Mx | Target::MxOf(_) => around.mx_port,
        _ if tls.implicit => 465,
        _ => 25,
    };
    let port = port.unwrap_or(default_port);
    build(name, Protocol::Smtp, target, port, tls, login?, around)
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
            Ok(host) => Ok(Target::Hosts(vec![RelayHost { host, port: None }])),
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
    let path = template(&mut reader);
    let line_ending = reader.or("line_ending", LineEnding::default());
    reader.finish()?;
    Ok(Arc::new(Maildir::new(MaildirConfig {
        name: name.to_owned(),
        path: path?,
        line_ending,
        hostname: around.hostname.as_ascii().to_owned(),
    })))
}

impl FromOption for Form {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("raw", Self::Raw), ("json", Self::Json)])
    }
}

/// `url`, `form`, `token`, `time_limit`, `ca`, `plain`.
pub(crate) fn http(name: &str, options: &Options, around: &Surroundings) -> Built {
    let mut reader = options.reader();
    let url = reader.required::<String>("url");
    let form = reader.or("form", Form::default());
    let token = reader.optional::<Secret<String>>("token");
    let seconds = Duration::from_secs;
    let time_limit = reader.ranged("time_limit", seconds(1)..=seconds(3_600), seconds(300));
    let roots =
        reader.optional("ca").map_or(merpati_http::Roots::BuiltIn, merpati_http::Roots::File);
    let plain = reader.or("plain", false);
    let url = url.and_then(|url| {
        let known = url.starts_with("https://") || plain && url.starts_with("http://");
        known.then_some(url).ok_or_else(|| reader.reject("url", "it does not begin with https://"))
    });
    reader.finish()?;
    let client = merpati_http::Client::new(Arc::clone(&around.resolver), &roots)
        .map_err(|error| options.reject(error))?;
    let name = name.to_owned();
    let config = PostConfig { name, url: url?, form, token, time_limit, plain };
    Ok(Arc::new(Post::new(config, client)))
}

/// `path`: which place belongs to which recipient.
fn template(reader: &mut Reader<'_>) -> Result<Template, Invalid> {
    match reader.required::<PathBuf>("path") {
        Ok(path) => {
            Template::new(&path.to_string_lossy()).map_err(|error| reader.reject("path", error))
        }
        Err(invalid) => Err(invalid),
    }
}

/// `path`, `lock_timeout`.
pub(crate) fn mbox(name: &str, options: &Options) -> Built {
    let mut reader = options.reader();
    let path = template(&mut reader);
    let seconds = Duration::from_secs;
    let lock_timeout = reader.ranged("lock_timeout", seconds(1)..=seconds(600), seconds(30));
    reader.finish()?;
    let name = name.to_owned();
    Ok(Arc::new(Mbox::new(MboxConfig { name, path: path?, lock_timeout })))
}

/// `argv`, `directory`, `time_limit`, `line_ending`.
pub(crate) fn pipe(name: &str, options: &Options) -> Built {
    let mut reader = options.reader();
    let argv = match reader.required::<Vec<Parsed<Argument>>>("argv") {
        Ok(argv) => Argv::new(argv.into_iter().map(|argument| argument.0).collect())
            .map_err(|error| reader.reject("argv", error)),
        Err(invalid) => Err(invalid),
    };
    let directory = reader.or("directory", PathBuf::from("/"));
    let time_limit = reader.ranged(
        "time_limit",
        Duration::from_secs(1)..=Duration::from_secs(3_600),
        Duration::from_secs(300),
    );
    let line_ending = reader.or("line_ending", LineEnding::default());
    reader.finish()?;
    let name = name.to_owned();
    Ok(Arc::new(Pipe::new(PipeConfig { name, argv: argv?, directory, time_limit, line_ending })))
}

pub(crate) fn by_mx(around: &Surroundings) -> Result<Arc<dyn Deliverer>, TlsError> {
    let name = crate::transports::DEFAULT;
    build(name, Protocol::Smtp, Target::Mx, around.mx_port, around.tls.clone(), None, around)
}

/// To hosts that are named without more: everything else is as around.
pub(crate) fn to(
    name: &str,
    target: Target,
    around: &Surroundings,
) -> Result<Arc<dyn Deliverer>, TlsError> {
    let port = match target {
        Target::Mx | Target::MxOf(_) => around.mx_port,
        Target::Hosts(_) | Target::Unix(_) => 25,
    };
    build(name, Protocol::Smtp, target, port, around.tls.clone(), None, around)
}

fn build(
    name: &str,
    protocol: Protocol,
    target: Target,
    port: u16,
    tls: TlsSettings,
    login: Option<Login>,
    around: &Surroundings,
) -> Result<Arc<dyn Deliverer>, TlsError> {
    let own_names = [&around.hostname].into_iter().chain(&around.own_names);
    let own_names = own_names.chain(around.sources.hellos());
    let config = SmtpConfig {
        name: name.to_owned(),
        protocol,
        target,
        port,
        hello: around.hostname.as_ascii().to_owned(),
        tls,
        sts: around.sts.clone(),
        tls_results: around.tls_results.clone(),
        login,
        barred: around.barred.clone(),
        own_names: own_names.cloned().collect(),
        sources: Arc::clone(&around.sources),
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

/// `user` with `password`, `token` or `oauth`, `credentials`, `mechanisms`, `auth_in_clear`.
fn login(
    reader: &mut Reader<'_>,
    options: &Options,
    around: &Surroundings,
) -> Result<Option<Login>, Invalid> {
    let account = account(reader, around)?;
    let by_sender = match reader.optional::<Located<String>>("credentials") {
        Some(name) => Some(around.tables.named(&name, options.errors())?),
        None => None,
    };
    let mechanisms: Vec<Parsed<Mechanism>> = reader.or("mechanisms", Vec::new());
    let mechanisms: Vec<_> = mechanisms.into_iter().map(|mechanism| mechanism.0).collect();
    let in_clear = match reader.or("auth_in_clear", false) {
        true => InClear::Challenges,
        false => InClear::Nothing,
    };
    match account.is_some() || by_sender.is_some() {
        true => Ok(Some(Login { by_sender, account, mechanisms, in_clear })),
        false if !mechanisms.is_empty() => {
            Err(reader.reject("mechanisms", "there is no `user` and there are no `credentials`"))
        }
        false => Ok(None),
    }
}

fn account(reader: &mut Reader<'_>, around: &Surroundings) -> Result<Option<Account>, Invalid> {
    let user = reader.optional::<String>("user");
    let password = reader.optional::<Secret<String>>("password");
    let token = reader.optional::<Secret<String>>("token");
    let oauth = reader.table("oauth").map(|options| oauth(&options, around)).transpose()?;
    let Some(user) = user else {
        return match (password, token, oauth) {
            (None, None, None) => Ok(None),
            (Some(_), ..) => Err(reader.reject("password", "a password needs a `user`")),
            (_, Some(_), _) => Err(reader.reject("token", "a token needs a `user`")),
            (.., Some(_)) => Err(reader.reject("oauth", "tokens need a `user`")),
        };
    };
    let credentials = match (password, token, oauth) {
        (Some(password), None, None) => Credentials::password(&user, password),
        (None, Some(token), None) => Credentials::token(&user, token),
        (None, None, Some(tokens)) => return Ok(Some(Account::Renewed { user, tokens })),
        (None, None, None) => {
            let message = "a user needs a `password`, a `token` or `oauth`";
            return Err(reader.reject("user", message));
        }
        _ => {
            let message = "only one of `password`, `token` and `oauth`";
            return Err(reader.reject("user", message));
        }
    };
    let account = credentials.map(|credentials| Some(Account::Fixed(credentials)));
    account.map_err(|error| reader.reject("user", error))
}

/// `url`, `client_id`, `client_secret`, `refresh_token`, `scope`, `ca`.
fn oauth(options: &Options, around: &Surroundings) -> Result<Arc<OAuth>, Invalid> {
    let mut reader = options.reader();
    let (url, client_id) = (reader.required("url"), reader.required("client_id"));
    let refresh_token = reader.required("refresh_token");
    let client_secret = reader.optional("client_secret");
    let scope = reader.optional("scope");
    let roots =
        reader.optional("ca").map_or(merpati_http::Roots::BuiltIn, merpati_http::Roots::File);
    let client = merpati_http::Client::new(Arc::clone(&around.resolver), &roots)
        .map_err(|error| reader.reject("ca", error));
    reader.finish()?;
    let (url, client_id, refresh_token) = (url?, client_id?, refresh_token?);
    let limits = merpati_http::Limits::default();
    let config = OAuthConfig { url, client_id, client_secret, refresh_token, scope, limits };
    Ok(Arc::new(OAuth::new(config, client?)))
}
