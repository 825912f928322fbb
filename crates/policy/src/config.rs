//! Reading the options of the stock policies. What they mean is on each policy's page.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use merpati_plugin::Failure;
use merpati_plugin::options::{Found, FromOption, Invalid, Options, Size};
use merpati_types::HeaderSection;

use crate::hold::HoldConfig;
use crate::loops::LoopsConfig;
use crate::quota::{Bound, QuotaConfig, WhenFull};
use crate::recipients::{Recipients, RecipientsConfig, RecipientsError};
use crate::sender::SenderConfig;
use crate::stock::Environment;
use crate::trusted::TrustedConfig;

/// A network, or an address as a network of its own.
struct Network(IpNet);

impl FromOption for Network {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let text = found.text()?;
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map(Self).map_err(|_| {
            found.reject_with(
                format_args!("`{text}` is neither an address nor a network"),
                "write \"192.0.2.0/24\", \"192.0.2.1\" or \"2001:db8::/32\"",
            )
        })
    }
}

/// One character, or none.
struct Separator(Option<char>);

impl FromOption for Separator {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        match found.text()? {
            "" => Ok(Self(None)),
            _ => char::from_option(found).map(|separator| Self(Some(separator))),
        }
    }
}

impl FromOption for Bound {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let options = found.table()?;
        let mut reader = options.reader();
        let messages = reader.optional("messages");
        let bytes = reader.optional("bytes").map(|Size(octets)| octets);
        reader.finish()?;
        if messages.is_none() && bytes.is_none() {
            return Err(found.reject("expected `messages`, `bytes`, or both"));
        }
        Ok(Self { messages, bytes })
    }
}

impl FromOption for WhenFull {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("defer", Self::Defer), ("close", Self::Close)])
    }
}

impl QuotaConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let mut bound = |key: &str| reader.or(key, Bound::default());
        let config = Self {
            whole: bound("whole"),
            account: bound("account"),
            sender: bound("sender"),
            sender_domain: bound("sender_domain"),
            recipient_domain: bound("recipient_domain"),
            when_full: reader.or("when_full", WhenFull::default()),
        };
        reader.finish()?;
        if config.is_empty() {
            return Err(options.reject("nothing is bounded: set a bound, such as `whole`"));
        }
        Ok(config)
    }
}

impl TrustedConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let networks: Vec<Network> = reader.or("networks", Vec::new());
        let config = Self {
            networks: networks.into_iter().map(|network| network.0).collect(),
            certificates: reader.or("certificates", Vec::new()),
            authenticated: reader.or("authenticated", false),
        };
        reader.finish()?;
        if config.is_empty() {
            return Err(options
                .reject("nobody is trusted: set `networks`, `certificates` or `authenticated`"));
        }
        Ok(config)
    }
}

impl Recipients {
    /// Reads the options and the file.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, environment: &Environment) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let domains = reader.required("domains");
        let file = reader.required::<PathBuf>("file");
        let separator = reader.or("separator", Separator(Some('+'))).0;
        let postmaster = reader.optional("postmaster");
        let opened = match (domains, file) {
            (Ok(domains), Ok(file)) => {
                let config = RecipientsConfig { domains, file, separator, postmaster };
                Self::open(config, environment).map_err(|error| {
                    let key = match error {
                        RecipientsError::NoDomains => "domains",
                        RecipientsError::UnknownTarget { .. } => "postmaster",
                        _ => "file",
                    };
                    reader.reject(key, Failure::from(error))
                })
            }
            _ => Err(Invalid),
        };
        reader.finish()?;
        opened
    }
}

impl SenderConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let allow_null = reader.or("allow_null", false);
        reader.finish()?;
        Ok(Self { allow_null })
    }
}

impl HoldConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let default = Self::default();
        let config = Self {
            domains: reader.or("domains", default.domains),
            reason: reader.or("reason", default.reason),
        };
        reader.finish()?;
        Ok(config)
    }
}

impl LoopsConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        // A message with more fields is refused before it comes here.
        let most = HeaderSection::FIELD_LIMIT;
        let limit = reader.ranged("limit", 1..=most, Self::default().limit);
        reader.finish()?;
        Ok(Self { limit })
    }
}
