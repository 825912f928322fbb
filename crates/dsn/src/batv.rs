//! Signed senders, by which bounces of mail that we never sent are known (BATV).
//!
//! ```text
//! prvs=KDDDSSSSSS=alice@sender.example
//!      |  |  '- the first three octets of an HMAC-SHA1, in hexadecimal
//!      |  '---- the day on which the address expires, modulo 1,000
//!      '------- the number of the key
//! ```
//! `draft-levine-smtp-batv-01`, as Exim's `prvs` writes it. Mail from the null reverse path to an
//! address without such a tag, where all mail is sent with one, is no bounce of ours.

use merpati_types::{Host, LocalPart, Mailbox, Secret, Timestamp};
use subtle::ConstantTimeEq as _;

use crate::mac::{day, hmac_sha1};

const TAG: &str = "prvs";
/// The most octets of a local part (RFC 5321 §4.5.3.1.1).
const LOCAL_LIMIT: usize = 64;
/// Key number, day, signature.
const VALUE_LENGTH: usize = 10;
/// Days repeat after so many.
const CYCLE: i64 = 1_000;
/// For how many days an address is good: what the draft proposes, and Exim does.
const VALID_DAYS: i64 = 7;
/// A host that shares our keys may be in tomorrow already.
const SKEW: i64 = 1;

/// A key with its number, 0 to 9, which every address names.
#[derive(Clone, Debug)]
pub struct BatvKey {
    number: u8,
    secret: Secret<Vec<u8>>,
}

impl BatvKey {
    /// A secret and its number; of larger numbers the last digit counts.
    #[must_use]
    pub fn new(number: u8, secret: Secret<Vec<u8>>) -> Self {
        Self { number: number % 10, secret }
    }
}

/// The signing of senders, and the check of those who get bounces.
#[derive(Clone, Debug)]
pub struct Batv {
    current: BatvKey,
    older: Vec<BatvKey>,
}

/// Why a sender cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatvSignError {
    /// The local part would have more than 64 octets; the message goes with the sender as it is.
    #[error("the signed local part would exceed {limit} octets")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// Why the recipient of a bounce is not taken for a sender of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatvError {
    /// It has no tag. A bounce to it is about mail that we have not sent, if all is signed.
    #[error("address is not signed")]
    NotSigned,
    /// None of our keys has made the signature.
    #[error("address has a wrong signature")]
    Forged,
    /// We have signed it, too long ago, or it is to expire later than we ever say.
    #[error("signature of the address has expired")]
    Expired,
}

impl Batv {
    /// Signs with `current`.
    #[must_use]
    pub fn new(current: BatvKey) -> Self {
        Self { current, older: Vec::new() }
    }

    /// Accepts, besides, what this key has signed. Of two keys with one number both are tried.
    #[must_use]
    pub fn with_older(mut self, key: BatvKey) -> Self {
        self.older.push(key);
        self
    }

    /// The address to send under; good for seven days. One that has a tag already stays what it
    /// is.
    ///
    /// # Errors
    /// [`BatvSignError::TooLong`].
    pub fn sign(&self, sender: &Mailbox, now: Timestamp) -> Result<Mailbox, BatvSignError> {
        if parse(sender.local().as_str()).is_some() {
            return Ok(sender.clone());
        }
        let expiry = (day(now) + VALID_DAYS).rem_euclid(CYCLE);
        let head = format!("{}{expiry:03}", self.current.number);
        let signature = signature(&self.current.secret, &head, sender);
        let content = format!("{TAG}={head}{signature}={}", sender.local().as_str());
        let local = LocalPart::from_content(&content)
            .map_err(|_| BatvSignError::TooLong { limit: LOCAL_LIMIT })?;
        Ok(Mailbox::new(local, sender.host().clone()))
    }

    /// The sender that an address stands for, if we have signed it and it has not expired.
    ///
    /// # Errors
    /// [`BatvError`] says why the bounce is to be refused.
    pub fn verify(&self, address: &Mailbox, now: Timestamp) -> Result<Mailbox, BatvError> {
        let (value, sender) = cut(address).ok_or(BatvError::NotSigned)?;
        let (head, given) = value.split_at(4);
        let number = value.as_bytes()[0] - b'0';
        let given = given.to_ascii_lowercase();
        let mut is_ours = subtle::Choice::from(0);
        for key in std::iter::once(&self.current).chain(&self.older) {
            if key.number == number {
                let own = signature(&key.secret, head, &sender);
                is_ours |= own.as_bytes().ct_eq(given.as_bytes());
            }
        }
        if !bool::from(is_ours) {
            return Err(BatvError::Forged);
        }
        let expiry: i64 = head[1..].parse().unwrap_or(0);
        let left = (expiry - day(now)).rem_euclid(CYCLE);
        if left <= VALID_DAYS + SKEW { Ok(sender) } else { Err(BatvError::Expired) }
    }

    /// The sender that an address stands for, whoever has signed it and when: for what knows
    /// senders by their address, such as greylists and lists of subscribers, who would see a new
    /// one every day.
    #[must_use]
    pub fn strip(address: &Mailbox) -> Option<Mailbox> {
        cut(address).map(|(_, sender)| sender)
    }
}

fn cut(address: &Mailbox) -> Option<(&str, Mailbox)> {
    let (value, local) = parse(address.local().as_str())?;
    let local = LocalPart::from_content(local).ok()?;
    Some((value, Mailbox::new(local, address.host().clone())))
}

/// `KDDDSSSSSS` and the local part after it.
fn parse(local: &str) -> Option<(&str, &str)> {
    let (tag, rest) = local.split_once('=')?;
    let (value, local) = rest.split_once('=')?;
    let is_value = value.len() == VALUE_LENGTH
        && value.bytes().take(4).all(|byte| byte.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    (tag.eq_ignore_ascii_case(TAG) && is_value).then_some((value, local))
}

/// Letter case of the local part counts, as it does for Exim.
fn signature(secret: &Secret<Vec<u8>>, head: &str, sender: &Mailbox) -> String {
    let host = match sender.host() {
        Host::Domain(domain) => domain.as_ascii().to_owned(),
        literal => literal.to_string(),
    };
    let address = format!("{}@{host}", sender.local());
    let mac = hmac_sha1(secret, [head.as_bytes(), address.as_bytes()]);
    mac[..3].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    /// Mon, 23 Nov 2026: day 20,780, so that addresses expire on 787.
    const NOW: i64 = 1_795_444_077_000;

    fn batv(number: u8, secret: &str) -> Batv {
        Batv::new(key(number, secret))
    }

    fn key(number: u8, secret: &str) -> BatvKey {
        BatvKey::new(number, Secret::new(secret.as_bytes().to_vec()))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn address(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    /// Exim 4.96 (Debian exim4-daemon-light), `exim4 -be '${prvs{SENDER}{SECRET}{KEY}}'`.
    #[test]
    fn signs_as_exim_does() {
        for (number, secret, sender, expected) in [
            (0, "tops3cret", "alice@sender.test", "prvs=078752fe19=alice@sender.test"),
            (3, "tops3cret", "Bob+tag@sender.test", "prvs=378709b74d=Bob+tag@sender.test"),
            (9, "second", "\"a b\"@sender.test", "\"prvs=9787dc93f6=a b\"@sender.test"),
        ] {
            let batv = batv(number, secret);
            let empty = batv.sign(&address("\"\"@sender.test"), at(NOW)).unwrap();
            assert_eq!(batv.verify(&empty, at(NOW)), Ok(address("\"\"@sender.test")));
            let signed = batv.sign(&address(sender), at(NOW)).unwrap();
            assert_eq!(signed.to_string(), expected);
            assert_eq!(batv.verify(&signed, at(NOW)), Ok(address(sender)));
            assert_eq!(Batv::strip(&signed), Some(address(sender)));
            assert_eq!(batv.sign(&signed, at(NOW)), Ok(signed));
        }
    }

    #[test]
    fn signatures_expire() {
        let batv = batv(0, "tops3cret");
        let signed = address("prvs=078752fe19=alice@sender.test");
        for (days, is_good) in
            [(-3, false), (-1, true), (0, true), (7, true), (8, false), (900, false), (1_000, true)]
        {
            let expected =
                if is_good { Ok(address("alice@sender.test")) } else { Err(BatvError::Expired) };
            assert_eq!(batv.verify(&signed, at(NOW + days * DAY)), expected, "{days} days");
        }
        // The days begin anew.
        let last = at(20_996 * DAY);
        let signed = batv.sign(&address("alice@sender.test"), last).unwrap();
        assert!(signed.to_string().starts_with("prvs=0003"), "{signed}");
        assert!(batv.verify(&signed, at(21_003 * DAY)).is_ok());
        assert!(batv.verify(&signed, at(21_004 * DAY)).is_err());
    }

    #[test]
    fn what_we_have_not_signed_is_known() {
        let batv = batv(0, "tops3cret");
        for (text, expected) in [
            ("PRVS=078752FE19=alice@SENDER.test", Ok(())),
            ("prvs=078752fe18=alice@sender.test", Err(BatvError::Forged)),
            ("prvs=078852fe19=alice@sender.test", Err(BatvError::Forged)),
            ("prvs=178752fe19=alice@sender.test", Err(BatvError::Forged)),
            ("prvs=078752fe19=alicf@sender.test", Err(BatvError::Forged)),
            ("prvs=078752fe19=alice@sender.tesu", Err(BatvError::Forged)),
            ("alice@sender.test", Err(BatvError::NotSigned)),
            ("prvs=alice@sender.test", Err(BatvError::NotSigned)),
            ("prvs=078752fe19@sender.test", Err(BatvError::NotSigned)),
            ("prvs=078752fe19=@sender.test", Err(BatvError::Forged)),
            ("prvs=078752fe1=alice@sender.test", Err(BatvError::NotSigned)),
            ("prvs=07a752fe19=alice@sender.test", Err(BatvError::NotSigned)),
            ("prvs=078752fé1=alice@sender.test", Err(BatvError::NotSigned)),
            ("xrvs=078752fe19=alice@sender.test", Err(BatvError::NotSigned)),
        ] {
            let found = batv.verify(&address(text), at(NOW)).map(|_| ());
            assert_eq!(found, expected, "{text}");
        }
        let long = address(&format!("{}@sender.test", "a".repeat(49)));
        assert_eq!(batv.sign(&long, at(NOW)), Err(BatvSignError::TooLong { limit: 64 }));
    }

    #[test]
    fn keys_are_changed_without_losing_bounces() {
        let signed = batv(1, "old").sign(&address("a@x.test"), at(NOW)).unwrap();
        let both = batv(2, "new").with_older(key(1, "older")).with_older(key(1, "old"));
        assert_eq!(both.verify(&signed, at(NOW)), Ok(address("a@x.test")));
        assert_eq!(batv(2, "new").verify(&signed, at(NOW)), Err(BatvError::Forged));
        // The number says which key it was; another one of the same secret is another key.
        let signed = batv(3, "new").sign(&address("a@x.test"), at(NOW)).unwrap();
        assert_eq!(both.verify(&signed, at(NOW)), Err(BatvError::Forged));
        let signed = both.sign(&address("a@x.test"), at(NOW)).unwrap();
        assert!(signed.to_string().starts_with("prvs=2787"), "{signed}");
    }
}
