//! The options of the signer.

use std::path::PathBuf;
use std::time::Duration;

use merpati_plugin::options::{Found, FromOption, Invalid, OneOrMany, Options, Parsed, Reader};
use merpati_types::Domain;

use crate::body::Canonicalization;
use crate::key::{DkimKey, Selector};
use crate::signer::{DkimSigner, FieldNames, SigningRules};
use crate::signers::{DkimSigners, Scope};

/// Shorter, and mail that waits at the far end is found expired; longer says nothing.
const EXPIRE_LEAST: Duration = Duration::from_secs(60 * 60);
const EXPIRE_MOST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl DkimSigners {
    /// Reads the options, which the crate's documentation lists, and the files of the keys.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let rules = read_rules(&mut reader);
        let mut signers = Self::default();
        let tables = reader.tables("domains");
        if tables.is_empty()
            && let Ok((signer, scope)) = read_domain(&mut reader, &rules)
        {
            signers.insert(signer, scope);
        }
        if !tables.is_empty() {
            refuse_beside(&mut reader, "domains", &["domain", "selector", "key_file", "keys"]);
        }
        for table in tables {
            let mut reader = table.reader();
            let read = read_domain(&mut reader, &rules);
            // What is wrong is recorded, which the outer reader sees.
            let _ = reader.finish();
            let Ok((signer, scope)) = read else { continue };
            if let Some(before) = signers.insert(signer, scope) {
                table.reject(format_args!("`{}` has a table already", before.domain()));
            }
        }
        reader.finish()?;
        Ok(signers)
    }
}

/// Any value at all.
struct Given;

impl FromOption for Given {
    fn from_option(_found: &Found<'_>) -> Result<Self, Invalid> {
        Ok(Self)
    }
}

/// `header/body`.
#[derive(Clone, Copy)]
struct Canonicalizations(Canonicalization, Canonicalization);

impl FromOption for Canonicalizations {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        use Canonicalization::{Relaxed, Simple};
        found.choice(&[
            ("relaxed/relaxed", Self(Relaxed, Relaxed)),
            ("relaxed/simple", Self(Relaxed, Simple)),
            ("simple/relaxed", Self(Simple, Relaxed)),
            ("simple/simple", Self(Simple, Simple)),
        ])
    }
}

impl FromOption for FieldNames {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let OneOrMany(names) = OneOrMany::<String>::from_option(found)?;
        Self::new(names.iter().map(String::as_str)).map_err(|error| found.reject(error))
    }
}

fn read_rules(reader: &mut Reader<'_>) -> SigningRules {
    let mut rules = SigningRules::default();
    rules.headers = reader.or("headers", rules.headers);
    rules.oversign = reader.or("oversign", rules.oversign);
    let both = Canonicalizations(rules.header_canonicalization, rules.body_canonicalization);
    let Canonicalizations(header, body) = reader.or("canonicalization", both);
    rules.header_canonicalization = header;
    rules.body_canonicalization = body;
    let given = reader.ranged("expire", EXPIRE_LEAST..=EXPIRE_MOST, Duration::ZERO);
    rules.expire = (!given.is_zero()).then_some(given);
    rules
}

/// Reads `domain`, `subdomains`, and either `selector` and `key_file` or `keys`.
fn read_domain(
    reader: &mut Reader<'_>,
    rules: &SigningRules,
) -> Result<(DkimSigner, Scope), Invalid> {
    let domain = reader.required::<Domain>("domain");
    let scope = if reader.or("subdomains", false) { Scope::Subdomains } else { Scope::Exact };
    let tables = reader.tables("keys");
    let mut keys = Vec::new();
    if tables.is_empty() {
        keys.push(read_key(reader));
    } else {
        refuse_beside(reader, "keys", &["selector", "key_file"]);
    }
    for table in &tables {
        let mut reader = table.reader();
        let key = read_key(&mut reader);
        keys.push(reader.finish().and(key));
    }
    let keys: Vec<_> = keys.into_iter().collect::<Result<_, _>>()?;
    for (place, key) in keys.iter().enumerate() {
        let same = |other: &DkimKey| other.selector() == key.selector();
        if keys[..place].iter().any(same) {
            let why = format_args!("selector `{}` has two keys", key.selector());
            return Err(reader.reject("keys", why));
        }
    }
    let mut keys = keys.into_iter();
    let first = keys.next().ok_or(Invalid)?;
    let signer = DkimSigner::new(domain?, first, rules.clone());
    Ok((keys.fold(signer, DkimSigner::with_key), scope))
}

/// Options for one thing make no sense beside the tables for several.
fn refuse_beside(reader: &mut Reader<'_>, tables: &str, singles: &[&str]) {
    for single in singles.iter().copied() {
        if reader.optional::<Given>(single).is_some() {
            reader.reject(single, format_args!("belongs into the tables of `{tables}`"));
        }
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<DkimKey, Invalid> {
    let selector = reader.required::<Parsed<Selector>>("selector");
    let file = reader.required::<PathBuf>("key_file");
    let (Parsed(selector), file) = (selector?, file?);
    DkimKey::open(selector, &file).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        reader.reject("key_file", format_args!("{error}{}", source.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests;
