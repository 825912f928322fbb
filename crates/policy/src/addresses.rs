//! The options that rewritten addresses share: those who write them and those who read them must
//! agree.

use std::time::Duration;

use merpati_dsn::{Batv, BatvKey, Keyring, Srs, SrsOptions, SrsSeparator, Verp, VerpDelimiters};
use merpati_plugin::options::{Found, FromOption, Invalid, OneOrMany, Reader};
use merpati_types::{Domain, Mailbox, Secret};

const DAY: Duration = Duration::from_secs(86_400);

/// Senders whose recipients have addresses of their own.
pub(crate) type Owners = Vec<(Mailbox, Verp)>;

struct Separator(SrsSeparator);

impl FromOption for Separator {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let choices =
            [("=", SrsSeparator::Equals), ("+", SrsSeparator::Plus), ("-", SrsSeparator::Minus)];
        found.choice(&choices).map(Self)
    }
}

struct Delimiters(VerpDelimiters);

impl FromOption for Delimiters {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let mut characters = found.text()?.chars();
        let (Some(detail), Some(at), None) =
            (characters.next(), characters.next(), characters.next())
        else {
            return Err(found.reject("expected two characters, such as \"+=\""));
        };
        VerpDelimiters::new(detail, at).map(Self).map_err(|error| found.reject(error))
    }
}

/// The secrets at `keys`, the one that signs first.
fn keys(reader: &mut Reader<'_>) -> Result<Vec<Secret<Vec<u8>>>, Invalid> {
    let OneOrMany(keys) = reader.required::<OneOrMany<Secret<String>>>("keys")?;
    if keys.is_empty() || keys.iter().any(|key| key.expose().is_empty()) {
        return Err(reader.reject("keys", "there must be a key, and none may be empty"));
    }
    let bytes = |key: &Secret<String>| Secret::new(key.expose().as_bytes().to_vec());
    Ok(keys.iter().map(bytes).collect())
}

/// `domain`, `keys`, `hash_length`, `max_age`; for who writes them `separator`.
pub(crate) fn read_srs(reader: &mut Reader<'_>, writes: Writes) -> Result<Srs, Invalid> {
    let default = SrsOptions::default();
    let domain = reader.required::<Domain>("domain");
    let keys = keys(reader);
    let usual = DAY * u32::from(default.max_age);
    let max_age = reader.ranged("max_age", DAY..=1_022 * DAY, usual).as_secs() / DAY.as_secs();
    let options = SrsOptions {
        separator: match writes {
            Writes::Yes => reader.or("separator", Separator(default.separator)).0,
            Writes::No => default.separator,
        },
        hash_length: reader.ranged("hash_length", 1..=27, default.hash_length),
        max_age: u16::try_from(max_age).unwrap_or(default.max_age),
    };
    let mut keys = keys?.into_iter();
    let mut ring = Keyring::new(keys.next().ok_or(Invalid)?);
    for older in keys {
        ring = ring.with_older(older);
    }
    Ok(Srs::new(ring, domain?, options))
}

/// Whether addresses are made, or only read.
#[derive(Clone, Copy)]
pub(crate) enum Writes {
    Yes,
    No,
}

/// `domains`, `keys`, `number`.
pub(crate) fn read_batv(reader: &mut Reader<'_>) -> Result<(Vec<Domain>, Batv), Invalid> {
    let domains = reader.required::<Vec<Domain>>("domains");
    let number = reader.ranged("number", 0..=9, 0);
    let mut keys = keys(reader)?.into_iter().map(|key| BatvKey::new(number, key));
    let batv = Batv::new(keys.next().ok_or(Invalid)?);
    Ok((domains?, keys.fold(batv, Batv::with_older)))
}

/// `senders`, `delimiters`.
pub(crate) fn read_verp(reader: &mut Reader<'_>) -> Result<Owners, Invalid> {
    let senders = reader.required::<Vec<Mailbox>>("senders");
    let delimiters = reader.or("delimiters", Delimiters(VerpDelimiters::default())).0;
    let verp = |owner: Mailbox| (owner.clone(), Verp::new(owner, delimiters));
    Ok(senders?.into_iter().map(verp).collect())
}

/// Whether two addresses are one: letter case does not count.
pub(crate) fn is_same(one: &Mailbox, other: &Mailbox) -> bool {
    one.host() == other.host() && one.local().as_str().eq_ignore_ascii_case(other.local().as_str())
}
