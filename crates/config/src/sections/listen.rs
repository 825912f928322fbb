//! `[[listen]]` and `[tls]`: where and how mail comes in.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use merpati_plugin::options::{Found, FromOption, Invalid, Located, OneOrMany, Options, Place};

/// The longest that mail may be held by its sender.
const LONGEST_HOLD: Duration = Duration::from_secs(365 * 86_400);

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

impl FromOption for Protocol {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("smtp", Self::Smtp), ("lmtp", Self::Lmtp)])
    }
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTls {
    /// `none`: never.
    None,
    /// `starttls`: if the client wants.
    StartTls,
    /// `starttls-required`: by STARTTLS, and no mail before it.
    StartTlsRequired,
    /// `implicit`: with the first byte (RFC 8314).
    Implicit,
}

impl FromOption for ListenTls {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("starttls", Self::StartTls),
            ("starttls-required", Self::StartTlsRequired),
            ("implicit", Self::Implicit),
        ])
    }
}

/// Whether clients authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRule {
    /// `none`: AUTH is not offered.
    None,
    /// `optional`: offered over TLS.
    Optional,
    /// `required`: offered over TLS, and no mail before it.
    Required,
}

impl FromOption for AuthRule {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("optional", Self::Optional),
            ("required", Self::Required),
        ])
    }
}

/// To whom an extension is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferRule {
    /// `none`: to nobody.
    None,
    /// `authenticated`: to whoever has authenticated.
    Authenticated,
    /// `anybody`: to every client.
    Anybody,
}

impl FromOption for OfferRule {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("authenticated", Self::Authenticated),
            ("anybody", Self::Anybody),
        ])
    }
}

/// `[[listen]]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// `address`: one `"192.0.2.1:25"`, or an array of them. Needed.
    pub addresses: Vec<SocketAddr>,
    /// `name`: in logs and metrics; default the first address.
    pub name: String,
    /// `protocol = "smtp" | "lmtp"`, default smtp.
    pub protocol: Protocol,
    /// `tls = "none" | "starttls" | "starttls-required" | "implicit"`; default `starttls` if
    /// `[tls]` has a certificate, else `none`.
    pub tls: ListenTls,
    /// `auth = "none" | "optional" | "required"`; the default is the role's.
    pub auth: Option<AuthRule>,
    /// `proxy_from`: networks whose connections begin with a PROXY header; default none.
    pub proxy_from: Vec<IpNet>,
    /// `xclient_from`: networks that may speak for others by XCLIENT; default none.
    pub xclient_from: Vec<IpNet>,
    /// `greet_delay`: how long to wait with the greeting, to see who talks too early, at most
    /// 1 minute; default none.
    pub greet_delay: Duration,
    /// `future_release`: how long clients that have authenticated may have mail held
    /// (FUTURERELEASE, RFC 4865), at most 365 days, none if zero; the default is the role's.
    pub future_release: Option<Duration>,
    /// `deliver_by = "none" | "authenticated" | "anybody"`: to whom DELIVERBY (RFC 2852) is
    /// offered; the default is the role's.
    pub deliver_by: Option<OfferRule>,
    /// `mt_priority = "none" | "authenticated" | "anybody"`: to whom MT-PRIORITY (RFC 6710) is
    /// offered; the default is the role's.
    pub mt_priority: Option<OfferRule>,
    /// Where the section stands.
    pub place: Place,
}

impl Listen {
    pub(crate) fn read(options: &Options, tls: &Tls) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let addresses = reader.required::<OneOrMany<SocketAddr>>("address").map(|read| read.0);
        let first = addresses.iter().flatten().next().map(ToString::to_string);
        let default_tls =
            if tls.certificates.is_empty() { ListenTls::None } else { ListenTls::StartTls };
        let networks = |read: Option<Vec<Network>>| {
            read.unwrap_or_default().into_iter().map(|network| network.0).collect()
        };
        let read = Self {
            name: reader.or("name", first.unwrap_or_default()),
            addresses: addresses.clone().unwrap_or_default(),
            protocol: reader.or("protocol", Protocol::default()),
            tls: reader.or("tls", default_tls),
            auth: reader.optional("auth"),
            proxy_from: networks(reader.optional("proxy_from")),
            xclient_from: networks(reader.optional("xclient_from")),
            greet_delay: reader.ranged(
                "greet_delay",
                Duration::ZERO..=Duration::from_secs(60),
                Duration::ZERO,
            ),
            future_release: reader.optional("future_release"),
            deliver_by: reader.optional("deliver_by"),
            mt_priority: reader.optional("mt_priority"),
            place: options.place().clone(),
        };
        if read.future_release.is_some_and(|longest| longest > LONGEST_HOLD) {
            reader.reject("future_release", "mail cannot be held for more than 365d");
        }
        if read.tls != ListenTls::None && tls.certificates.is_empty() {
            reader.reject("tls", "TLS is wanted and [tls] has no certificate");
        }
        if addresses.is_ok() && read.addresses.is_empty() {
            reader.reject("address", "there is no address");
        }
        reader.finish()?;
        Ok(read)
    }
}

/// `192.0.2.0/24`, or one address.
struct Network(IpNet);

impl FromOption for Network {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let text = found.text()?;
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self(network.trunc()));
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(IpNet::from(address))),
            Err(_) => Err(found.reject(format_args!("`{text}` is no network"))),
        }
    }
}

/// `[tls]`
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `[[tls.certificate]]`: chosen by the name a client asks for, among the names they are
    /// for; the first one serves everybody else.
    pub certificates: Vec<Certificate>,
    /// `client_ca`: a PEM file of roots; clients may show a certificate that chains to one.
    /// Default: none is asked for.
    pub client_ca: Option<Located<PathBuf>>,
}

/// `[[tls.certificate]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `cert`: a PEM file, the server's own certificate first. Needed.
    pub cert: Located<PathBuf>,
    /// `key`: a PEM file. Needed.
    pub key: Located<PathBuf>,
}

impl Tls {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let Some(options) = options else { return Self::default() };
        let mut reader = options.reader();
        let certificates = reader.tables("certificate");
        let read = Self {
            certificates: certificates.iter().filter_map(|o| Certificate::read(o).ok()).collect(),
            client_ca: reader.optional("client_ca"),
        };
        let _ = reader.finish();
        read
    }
}

impl Certificate {
    fn read(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let cert = reader.required("cert");
        let key = reader.required("key");
        reader.finish()?;
        Ok(Self { cert: cert?, key: key? })
    }
}
