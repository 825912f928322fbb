//! The options of a table in a database.

use std::path::PathBuf;
use std::time::Duration;

use merpati_plugin::options::{Excerpt, Found, FromOption, Invalid, Located, OptionError, Options};
use merpati_types::Secret;

use super::query::Query;
use super::target::Target;
use super::{Rows, SqlTable};

/// How connections to a server are protected. Those by Unix sockets are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    None,
    /// Whatever the certificate.
    Required,
    /// The certificate must be the host's.
    Verified,
}

impl FromOption for Tls {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[
            ("none", Self::None),
            ("required", Self::Required),
            ("verified", Self::Verified),
        ])
    }
}

/// Where the database is, and how it is reached.
#[allow(dead_code, reason = "each driver needs some of it")]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) password: Option<Secret<String>>,
    pub(super) tls: Tls,
    /// Roots besides the public ones.
    pub(super) ca: Option<PathBuf>,
    pub(super) timeout: Duration,
    pub(super) connections: u8,
}

pub(super) fn read(options: &Options) -> Result<SqlTable, Invalid> {
    let mut reader = options.reader();
    let url =
        reader.required::<Located<String>>("url").and_then(|url| without_password(url, options));
    let query = reader.required::<Located<String>>("query");
    let password = reader.optional("password");
    let tls = reader.or("tls", Tls::Verified);
    let ca = reader.optional("ca");
    let rows = if reader.or("multiple", false) { Rows::Several } else { Rows::One };
    let connections = reader.ranged("connections", 1..=100, 4);
    let times = Duration::from_millis(100)..=Duration::from_secs(60);
    let timeout = reader.ranged("timeout", times, Duration::from_secs(5));
    let target = url.and_then(|Located { value: url, place }| {
        Target::new(&Source { url, password, tls, ca, timeout, connections })
            .map_err(|error| options.errors().report(&place, error))
    });
    let query = match (&target, query) {
        (Ok(target), Ok(query)) => Query::parse(&query.value, target.placeholder())
            .map_err(|error| options.errors().report(&query.place, error)),
        _ => Err(Invalid),
    };
    reader.finish()?;
    Ok(SqlTable { target: target?, query: query?, rows, timeout })
}

/// A password has an option of its own, from where it is never shown.
fn without_password(url: Located<String>, options: &Options) -> Result<Located<String>, Invalid> {
    let rest = url.value.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let in_authority = authority.rsplit_once('@').is_some_and(|(who, _)| who.contains(':'));
    if !in_authority && !url.value.contains("password=") {
        return Ok(url);
    }
    Err(options.errors().push(OptionError {
        place: url.place,
        message: "a secret does not stand in the configuration itself".to_owned(),
        help: Some("write password = { file = \"…\" } or { env = \"…\" }".to_owned()),
        excerpt: Excerpt::Nothing,
    }))
}
