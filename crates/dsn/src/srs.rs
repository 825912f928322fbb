//! Sender rewriting for forwarders (SRS).
//!
//! A forwarder that keeps the sender of a message fails the SPF check at the next host. It
//! writes the message under an address of its own instead, from which bounces find back:
//!
//! ```text
//! SRS0=HHHH=TT=sender.example=alice@forwarder.example          by the first forwarder
//! SRS1=HHHH=forwarder.example==HHHH=TT=sender.example=alice@…  by every later one
//! ```
//! `HHHH` begins the base64 of an HMAC-SHA1, `TT` is the day, modulo 1,024, in base 32. There is
//! no RFC: this is what Mail::SRS, libsrs2, postsrsd and the libraries for Python write, and they
//! read what is written here. The character after the tag may be `=`, `+` or `-`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use merpati_types::{Domain, Host, LocalPart, Mailbox, ReversePath, Secret, Timestamp};
use subtle::{Choice, ConstantTimeEq as _};

use crate::mac::{Keyring, day, hmac_sha1};

const SRS0: &str = "SRS0";
const SRS1: &str = "SRS1";
/// Between the fields, and by default after the tag.
const SEPARATOR: char = '=';
/// The digits of time stamps.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Time stamps repeat after so many days.
const CYCLE: i64 = 1_024;
/// The most octets of a local part.
const LOCAL_LIMIT: usize = 64;
/// Base64 of 20 octets without its `=`.
const HASH_LIMIT: usize = 27;
/// A host that shares our secret may be in tomorrow already.
const SKEW: i64 = 1;

/// What follows the tag `SRS0` or `SRS1`; `+` and `-` let a mailbox `srs0` with details take the
/// bounces on hosts that know no better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SrsSeparator {
    /// `=`.
    #[default]
    Equals,
    /// `+`.
    Plus,
    /// `-`.
    Minus,
}

impl SrsSeparator {
    fn as_char(self) -> char {
        match self {
            Self::Equals => '=',
            Self::Plus => '+',
            Self::Minus => '-',
        }
    }
}

/// How addresses are rewritten. The defaults are those of postsrsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrsOptions {
    /// What follows the tag in addresses that we write.
    pub separator: SrsSeparator,
    /// How many characters of the hash are written, 1 to 27; fewer are never accepted. The
    /// default is 4: addresses are to be short, and a bounce more is no disaster.
    pub hash_length: u8,
    /// For how many days after the rewriting bounces are taken, 0 to 1,022. The default is 21.
    pub max_age: u16,
}

impl Default for SrsOptions {
    fn default() -> Self {
        Self { separator: SrsSeparator::default(), hash_length: 4, max_age: 21 }
    }
}

/// A forwarder's rewriting of senders, and the way back.
#[derive(Clone, Debug)]
pub struct Srs {
    keys: Keyring,
    domain: Domain,
    options: SrsOptions,
}

/// Why a sender is not rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrsForwardError {
    /// The new local part has more than the 64 octets of RFC 5321 §4.5.3.1.1, which hosts may
    /// refuse. There is no shorter form that says as much: forward under an address of your own
    /// (the one that forwards, say), whose bounces then end there.
    #[error("the rewritten local part would exceed {limit} octets")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The sender's host is an address literal, which no SRS address can hold.
    #[error("the sender's host has no name")]
    Literal,
}

/// Why an address is not turned back into the one it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrsReverseError {
    /// It is an ordinary address, or one of another domain: nothing to do with us.
    #[error("not an SRS address of this domain")]
    NotSrs,
    /// It has the tag, but not the fields: no such recipient.
    #[error("malformed SRS address")]
    Malformed,
    /// None of our secrets has signed it: no such recipient, and nothing is relayed for it.
    #[error("SRS address with a wrong hash")]
    Forged,
    /// We have written it, too long ago.
    #[error("SRS address is {days} days old")]
    Expired {
        /// Its age.
        days: u16,
    },
}

/// The local part of an SRS address, cut into what it says.
enum Parsed<'a> {
    /// `HHHH=TT=host=local` after the tag and its separator.
    Zero(&'a str),
    /// `HHHH=host=…` after the tag and its separator.
    One(&'a str),
}

impl Srs {
    /// Rewrites to addresses at `domain`. An option out of its range counts as the nearest one
    /// within.
    #[must_use]
    pub fn new(keys: Keyring, domain: Domain, options: SrsOptions) -> Self {
        let hash_length = options.hash_length.clamp(1, 27);
        let max_age = options.max_age.min(1_022);
        Self { keys, domain, options: SrsOptions { hash_length, max_age, ..options } }
    }

    /// The sender under which to forward; the null reverse path stays what it is.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_path(
        &self,
        sender: &ReversePath,
        now: Timestamp,
    ) -> Result<ReversePath, SrsForwardError> {
        match sender {
            ReversePath::Null => Ok(ReversePath::Null),
            ReversePath::Mailbox(sender) => self.forward(sender, now).map(ReversePath::Mailbox),
        }
    }

    /// The address under which to forward what `sender` has sent. A sender at our own domain
    /// stays what it is.
    ///
    /// # Errors
    /// [`SrsForwardError`] says why there is none.
    pub fn forward(&self, sender: &Mailbox, now: Timestamp) -> Result<Mailbox, SrsForwardError> {
        let host = sender.host().domain().ok_or(SrsForwardError::Literal)?;
        if *host == self.domain {
            return Ok(sender.clone());
        }
        let local = sender.local().as_str();
        let separator = self.options.separator.as_char();
        let rewritten = match parse(local) {
            // What the first forwarder wrote is his, down to the character after his tag.
            Some(Parsed::Zero(_)) => self.one(host.as_ascii(), &local[4..]),
            Some(Parsed::One(rest)) => match fields(rest) {
                Some([_, first, inner]) if first_hop(first, inner).is_ok() => {
                    self.one(first, inner)
                }
                // It only looks like one.
                _ => self.zero(host.as_ascii(), local, now),
            },
            None => self.zero(host.as_ascii(), local, now),
        };
        let (tag, rest) = rewritten;
        let content = format!("{tag}{separator}{rest}");
        LocalPart::from_content(&content)
            .map(|local| Mailbox::new(local, self.domain.clone()))
            .map_err(|_| SrsForwardError::TooLong { limit: LOCAL_LIMIT })
    }

    fn zero(&self, host: &str, local: &str, now: Timestamp) -> (&'static str, String) {
        let stamp = stamp(now);
        let hash = self.hash(self.keys.current(), &[&stamp, host, local]);
        (SRS0, format!("{hash}={stamp}={host}={local}"))
    }

    fn one(&self, first: &str, inner: &str) -> (&'static str, String) {
        let hash = self.hash(self.keys.current(), &[first, inner]);
        (SRS1, format!("{hash}={first}={inner}"))
    }

    /// Whether it looks like an address that we have written. It takes no secret to make one:
    /// only [`Self::reverse`] tells whether it counts.
    #[must_use]
    pub fn is_srs(&self, address: &Mailbox) -> bool {
        address.host().domain() == Some(&self.domain) && parse(address.local().as_str()).is_some()
    }

    /// Where mail to an address that we have written goes: to the sender, or, for SRS1, to the
    /// first forwarder.
    ///
    /// # Errors
    /// [`SrsReverseError`]; all but [`SrsReverseError::NotSrs`] mean that there is no such
    /// recipient.
    pub fn reverse(&self, address: &Mailbox, now: Timestamp) -> Result<Mailbox, SrsReverseError> {
        if address.host().domain() != Some(&self.domain) {
            return Err(SrsReverseError::NotSrs);
        }
        match parse(address.local().as_str()).ok_or(SrsReverseError::NotSrs)? {
            Parsed::Zero(rest) => {
                let [hash, stamp, host, local] = fields(rest).ok_or(SrsReverseError::Malformed)?;
                self.check(hash, &[stamp, host, local])?;
                self.check_age(stamp, now)?;
                mailbox(local, host)
            }
            Parsed::One(rest) => {
                let [hash, host, inner] = fields(rest).ok_or(SrsReverseError::Malformed)?;
                self.check(hash, &[host, inner])?;
                // He checks the age: his address holds the time stamp.
                first_hop(host, inner)
            }
        }
    }

    /// The characters of the hash that are written.
    fn hash(&self, secret: &Secret<Vec<u8>>, parts: &[&str]) -> String {
        let mut hash = full_hash(secret, parts);
        hash.truncate(usize::from(self.options.hash_length));
        hash
    }

    /// Whether one of the secrets has made the hash. Hosts on the way may have changed letters'
    /// case, so that it does not count. Takes the same time whatever differs.
    fn check(&self, hash: &str, parts: &[&str]) -> Result<(), SrsReverseError> {
        if hash.len() < usize::from(self.options.hash_length) || hash.len() > HASH_LIMIT {
            return Err(SrsReverseError::Forged);
        }
        let given = hash.to_ascii_lowercase();
        let mut is_ours = Choice::from(0);
        for secret in self.keys.all() {
            let mut own = full_hash(secret, parts);
            own.truncate(hash.len());
            is_ours |= own.to_ascii_lowercase().as_bytes().ct_eq(given.as_bytes());
        }
        if bool::from(is_ours) { Ok(()) } else { Err(SrsReverseError::Forged) }
    }

    fn check_age(&self, stamp: &str, now: Timestamp) -> Result<(), SrsReverseError> {
        let written = read_stamp(stamp).ok_or(SrsReverseError::Malformed)?;
        let days = (day(now) - written).rem_euclid(CYCLE);
        if days <= i64::from(self.options.max_age) || days >= CYCLE - SKEW {
            return Ok(());
        }
        Err(SrsReverseError::Expired { days: u16::try_from(days).unwrap_or(u16::MAX) })
    }
}

/// What follows the tag and its separator, if there are any.
fn parse(local: &str) -> Option<Parsed<'_>> {
    let (tag, rest) = local.split_at_checked(4)?;
    let rest = rest.strip_prefix(['=', '+', '-'])?;
    if tag.eq_ignore_ascii_case(SRS0) {
        Some(Parsed::Zero(rest))
    } else if tag.eq_ignore_ascii_case(SRS1) {
        Some(Parsed::One(rest))
    } else {
        None
    }
}

/// The fields, none of them empty but the last, which is a local part, and has what separators
/// are left.
fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut parts = text.splitn(N, SEPARATOR);
    let mut fields = [""; N];
    for (place, field) in (1..).zip(&mut fields) {
        *field = parts.next().filter(|part| place == N || !part.is_empty())?;
    }
    Some(fields)
}

/// Letter case does not count in what is hashed, either.
fn full_hash(secret: &Secret<Vec<u8>>, parts: &[&str]) -> String {
    let lower: Vec<_> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    STANDARD.encode(hmac_sha1(secret, lower.iter().map(String::as_bytes)))
}

fn stamp(now: Timestamp) -> String {
    let day = day(now);
    let digit = |value: i64| {
        let digit = usize::try_from(value & 31).unwrap_or(0);
        char::from(BASE32[digit])
    };
    [digit(day >> 5), digit(day)].iter().collect()
}

fn read_stamp(stamp: &str) -> Option<i64> {
    let digit = |byte: u8| {
        let place = BASE32.iter().position(|digit| *digit == byte.to_ascii_uppercase())?;
        i64::try_from(place).ok()
    };
    match stamp.as_bytes() {
        [high, low] => Some(digit(*high)? << 5 | digit(*low)?),
        _ => None,
    }
}

/// The address that the first forwarder has written.
fn first_hop(host: &str, inner: &str) -> Result<Mailbox, SrsReverseError> {
    if !inner.starts_with(['=', '+', '-']) {
        return Err(SrsReverseError::Malformed);
    }
    mailbox(&format!("{SRS0}{inner}"), host)
}

fn mailbox(local: &str, host: &str) -> Result<Mailbox, SrsReverseError> {
    let local = LocalPart::from_content(local).map_err(|_| SrsReverseError::Malformed)?;
    let domain = Domain::parse(host).map_err(|_| SrsReverseError::Malformed)?;
    Ok(Mailbox::new(local, Host::Domain(domain)))
}

#[cfg(test)]
mod tests;
