//! XCLIENT and XFORWARD: what a trusted hop says of the client behind it (Postfix
//! `XCLIENT_README` and `XFORWARD_README`).

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use merpati_types::xtext;

use crate::command::CommandError;

/// Longest value, in octets after decoding.
const VALUE_LIMIT: usize = 255;

/// What is said of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute<T> {
    /// This value.
    Known(T),
    /// `[UNAVAILABLE]`: there is none.
    Unavailable,
    /// `[TEMPUNAVAIL]`: it could not be found out now.
    TemporarilyUnavailable,
}

impl<T> Attribute<T> {
    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Attribute::Known(value) => Some(value),
            Attribute::Unavailable | Attribute::TemporarilyUnavailable => None,
        }
    }
}

/// The protocol of the client behind a trusted hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardedProtocol {
    /// It said HELO.
    Smtp,
    /// It said EHLO.
    Esmtp,
}

/// Where XFORWARD says a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardedSource {
    /// From within the trusted hop's own site.
    Local,
    /// From elsewhere.
    Remote,
}

/// The attributes of XCLIENT: from now on the session is held with this client. What is `None` was
/// not said, and stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xclient {
    /// The client's host name.
    pub name: Option<Attribute<String>>,
    /// The client's address.
    pub addr: Option<Attribute<IpAddr>>,
    /// The client's port.
    pub port: Option<Attribute<u16>>,
    /// The client's protocol.
    pub proto: Option<Attribute<ForwardedProtocol>>,
    /// The name in its HELO or EHLO.
    pub helo: Option<Attribute<String>>,
    /// The user name it authenticated with.
    pub login: Option<Attribute<String>>,
    /// The address it connected to.
    pub destaddr: Option<Attribute<IpAddr>>,
    /// The port it connected to.
    pub destport: Option<Attribute<u16>>,
}

/// The attributes of XFORWARD: they are for logs alone. What is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xforward {
    /// The client's host name.
    pub name: Option<Attribute<String>>,
    /// The client's address.
    pub addr: Option<Attribute<IpAddr>>,
    /// The client's port.
    pub port: Option<Attribute<u16>>,
    /// The client's protocol.
    pub proto: Option<Attribute<ForwardedProtocol>>,
    /// The name in its HELO or EHLO.
    pub helo: Option<Attribute<String>>,
    /// The message's identifier at the trusted hop.
    pub ident: Option<Attribute<String>>,
    /// Where the message came from.
    pub source: Option<Attribute<ForwardedSource>>,
}

impl Xclient {
    /// The attributes' names, as `XCLIENT` advertises them after EHLO.
    pub const ATTRIBUTES: &[&str] =
        &["NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"];

    pub(crate) const USAGE: &str = "XCLIENT attribute=value ...";

    /// Reads what follows the verb.
    pub(crate) fn parse(arguments: &str) -> Result<Self, CommandError> {
        let mut read = Xclient::default();
        each_attribute(arguments, Self::USAGE, |name, value| match name {
            "NAME" => put(&mut read.name, value, text),
            "ADDR" => put(&mut read.addr, value, address),
            "PORT" => put(&mut read.port, value, port),
            "PROTO" => put(&mut read.proto, value, protocol),
            "HELO" => put(&mut read.helo, value, text),
            "LOGIN" => put(&mut read.login, value, text),
            "DESTADDR" => put(&mut read.destaddr, value, address),
            "DESTPORT" => put(&mut read.destport, value, port),
            _ => None,
        })?;
        Ok(read)
    }
}

/// As they follow the verb, each with a space before it.
impl Display for Xclient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_attribute(f, "NAME", &self.name, String::clone)?;
        write_attribute(f, "ADDR", &self.addr, address_text)?;
        write_attribute(f, "PORT", &self.port, u16::to_string)?;
        write_attribute(f, "PROTO", &self.proto, protocol_text)?;
        write_attribute(f, "HELO", &self.helo, String::clone)?;
        write_attribute(f, "LOGIN", &self.login, String::clone)?;
        write_attribute(f, "DESTADDR", &self.destaddr, address_text)?;
        write_attribute(f, "DESTPORT", &self.destport, u16::to_string)
    }
}

impl Xforward {
    /// The attributes' names, as `XFORWARD` advertises them after EHLO.
    pub const ATTRIBUTES: &[&str] = &["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"];

    pub(crate) const USAGE: &str = "XFORWARD attribute=value ...";

    /// Reads what follows the verb.
    pub(crate) fn parse(arguments: &str) -> Result<Self, CommandError> {
        let mut read = Xforward::default();
        each_attribute(arguments, Self::USAGE, |name, value| match name {
            "NAME" => put(&mut read.name, value, text),
            "ADDR" => put(&mut read.addr, value, address),
            "PORT" => put(&mut read.port, value, port),
            "PROTO" => put(&mut read.proto, value, protocol),
            "HELO" => put(&mut read.helo, value, text),
            "IDENT" => put(&mut read.ident, value, text),
            "SOURCE" => put(&mut read.source, value, source),
            _ => None,
        })?;
        Ok(read)
    }
}

/// As they follow the verb, each with a space before it.
impl Display for Xforward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_attribute(f, "NAME", &self.name, String::clone)?;
        write_attribute(f, "ADDR", &self.addr, address_text)?;
        write_attribute(f, "PORT", &self.port, u16::to_string)?;
        write_attribute(f, "PROTO", &self.proto, protocol_text)?;
        write_attribute(f, "HELO", &self.helo, String::clone)?;
        write_attribute(f, "IDENT", &self.ident, String::clone)?;
        write_attribute(f, "SOURCE", &self.source, |source| {
            match source {
                ForwardedSource::Local => "LOCAL",
                ForwardedSource::Remote => "REMOTE",
            }
            .to_owned()
        })
    }
}

/// Cuts `name=xtext` pairs apart, and gives each to `put`, which answers `None` to what it does not
/// take.
fn each_attribute(
    arguments: &str,
    usage: &'static str,
    mut put: impl FnMut(&str, &str) -> Option<()>,
) -> Result<(), CommandError> {
    if arguments.is_empty() {
        return Err(CommandError::Syntax { usage });
    }
    for pair in arguments.split(' ').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(CommandError::Syntax { usage })?;
        let name = name.to_ascii_uppercase();
        let decoded = xtext::decode(value).filter(|value| {
            !value.is_empty() && value.len() <= VALUE_LIMIT && !value.chars().any(char::is_control)
        });
        if decoded.and_then(|value| put(&name, &value)).is_none() {
            return Err(CommandError::Syntax { usage });
        }
    }
    Ok(())
}

/// Fills an empty slot.
fn put<T>(
    slot: &mut Option<Attribute<T>>,
    value: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(if value.eq_ignore_ascii_case("[UNAVAILABLE]") {
        Attribute::Unavailable
    } else if value.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        Attribute::TemporarilyUnavailable
    } else {
        Attribute::Known(read(value)?)
    });
    Some(())
}

fn write_attribute<T>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    attribute: &Option<Attribute<T>>,
    write: impl FnOnce(&T) -> String,
) -> fmt::Result {
    match attribute {
        None => Ok(()),
        Some(Attribute::Known(value)) => write!(f, " {name}={}", xtext::encode(&write(value))),
        Some(Attribute::Unavailable) => write!(f, " {name}=[UNAVAILABLE]"),
        Some(Attribute::TemporarilyUnavailable) => write!(f, " {name}=[TEMPUNAVAIL]"),
    }
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn address(value: &str) -> Option<IpAddr> {
    match value.split_at_checked("IPV6:".len()) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPV6:") => {
            rest.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => value.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn address_text(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("IPV6:{address}"),
    }
}

fn port(value: &str) -> Option<u16> {
    value.bytes().all(|octet| octet.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

fn protocol(value: &str) -> Option<ForwardedProtocol> {
    [("SMTP", ForwardedProtocol::Smtp), ("ESMTP", ForwardedProtocol::Esmtp)]
        .into_iter()
        .find_map(|(name, protocol)| value.eq_ignore_ascii_case(name).then_some(protocol))
}

fn protocol_text(protocol: &ForwardedProtocol) -> String {
    match protocol {
        ForwardedProtocol::Smtp => "SMTP",
        ForwardedProtocol::Esmtp => "ESMTP",
    }
    .to_owned()
}

fn source(value: &str) -> Option<ForwardedSource> {
    [("LOCAL", ForwardedSource::Local), ("REMOTE", ForwardedSource::Remote)]
        .into_iter()
        .find_map(|(name, source)| value.eq_ignore_ascii_case(name).then_some(source))
}
