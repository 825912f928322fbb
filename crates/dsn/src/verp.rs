//! A reverse path for each recipient (VERP).
//!
//! A bounce that says nothing else names, by the address it comes to, the recipient it is about:
//! `list+bob=receiver.example@lists.example` is where bounces of mail from
//! `list@lists.example` to `bob@receiver.example` go. There is no RFC; this is the form that
//! Postfix (XVERP), qmail, ezmlm and Mailman write.

use merpati_types::{Host, LocalPart, Mailbox};

/// The most octets of a local part (RFC 5321 §4.5.3.1.1).
const LOCAL_LIMIT: usize = 64;
/// What may stand between; a domain has none of them, so that the way back is clear.
const ALLOWED: &str = "!#$%&'*+/=?^`{|}~";
/// What may stand before the recipient, besides.
const ALLOWED_FIRST: &str = "-_.";

/// The addresses that bounces about one sender's mail go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verp {
    owner: Mailbox,
    delimiters: VerpDelimiters,
}

/// The two characters that part an address: `owner` *detail* `local` *at* `domain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerpDelimiters {
    detail: char,
    at: char,
}

/// Why characters are no delimiters, or an address cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerpError {
    /// A character that addresses cannot have, or that domains may have.
    #[error("{0:?} cannot part VERP addresses")]
    Delimiter(char),
    /// The local part would have more than 64 octets; send with the sender as it is, and tell
    /// recipients apart by what the bounce says.
    #[error("the local part would exceed {limit} octets")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

impl Default for VerpDelimiters {
    /// `+` and `=`.
    fn default() -> Self {
        Self { detail: '+', at: '=' }
    }
}

impl VerpDelimiters {
    /// `detail` stands between owner and recipient, `at` for the `@` of the recipient.
    ///
    /// # Errors
    /// [`VerpError::Delimiter`], for what would need quotes, and for an `at` that a domain may
    /// have.
    pub fn new(detail: char, at: char) -> Result<Self, VerpError> {
        if !ALLOWED.contains(detail) && !ALLOWED_FIRST.contains(detail) {
            return Err(VerpError::Delimiter(detail));
        }
        if !ALLOWED.contains(at) {
            return Err(VerpError::Delimiter(at));
        }
        Ok(Self { detail, at })
    }
}

impl Verp {
    /// For mail whose sender is `owner`.
    #[must_use]
    pub fn new(owner: Mailbox, delimiters: VerpDelimiters) -> Self {
        Self { owner, delimiters }
    }

    /// The reverse path for mail to `recipient`. A domain beyond ASCII is written with A-labels.
    ///
    /// # Errors
    /// [`VerpError::TooLong`].
    pub fn encode(&self, recipient: &Mailbox) -> Result<Mailbox, VerpError> {
        let VerpDelimiters { detail, at } = self.delimiters;
        let host = match recipient.host() {
            Host::Domain(domain) => domain.as_ascii().to_owned(),
            literal => literal.to_string(),
        };
        let (owner, local) = (self.owner.local().as_str(), recipient.local().as_str());
        let content = format!("{owner}{detail}{local}{at}{host}");
        let local = LocalPart::from_content(&content)
            .map_err(|_| VerpError::TooLong { limit: LOCAL_LIMIT })?;
        Ok(Mailbox::new(local, self.owner.host().clone()))
    }

    /// The recipient that a bounce to `address` is about; `None` if we have not made it. Letter
    /// case of the owner does not count, since hosts on the way may change it.
    #[must_use]
    pub fn decode(&self, address: &Mailbox) -> Option<Mailbox> {
        if address.host() != self.owner.host() {
            return None;
        }
        let owner = self.owner.local().as_str();
        let (prefix, rest) = address.local().as_str().split_at_checked(owner.len())?;
        if !prefix.eq_ignore_ascii_case(owner) {
            return None;
        }
        let rest = rest.strip_prefix(self.delimiters.detail)?;
        // The recipient's local part may have the delimiter, too; its host has not.
        let (local, host) = rest.rsplit_once(self.delimiters.at)?;
        let local = LocalPart::from_content(local).ok()?;
        Some(Mailbox::new(local, Host::parse(host).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    fn verp(owner: &str, delimiters: &str) -> Verp {
        let mut chars = delimiters.chars();
        let delimiters = VerpDelimiters::new(chars.next().unwrap(), chars.next().unwrap()).unwrap();
        Verp::new(address(owner), delimiters)
    }

    #[test]
    fn recipients_go_into_addresses_and_come_out() {
        let check = |owner: &str, delimiters: &str, recipient: &str, expected: &str| {
            let verp = verp(owner, delimiters);
            let written = verp.encode(&address(recipient)).unwrap();
            assert_eq!(written.to_string(), expected);
            assert_eq!(verp.decode(&address(expected)), Some(address(recipient)), "{expected}");
        };
        let owner = "list@lists.test";
        check(owner, "+=", "bob@receiver.test", "list+bob=receiver.test@lists.test");
        check(owner, "-=", "bob@receiver.test", "list-bob=receiver.test@lists.test");
        check(owner, ".%", "bob@receiver.test", "list.bob%receiver.test@lists.test");
        check(owner, "==", "bob@receiver.test", "list=bob=receiver.test@lists.test");
        check(owner, "+=", "b+tag=x@receiver.test", "list+b+tag=x=receiver.test@lists.test");
        check("l+a@lists.test", "+=", "b+c@x.test", "l+a+b+c=x.test@lists.test");
        check(owner, "+=", "\"a b\"@x.test", "\"list+a b=x.test\"@lists.test");
        check(owner, "+=", "\"\"@x.test", "list+=x.test@lists.test");
        check(owner, "+=", "a@[192.0.2.1]", "\"list+a=[192.0.2.1]\"@lists.test");
        check(owner, "+=", "a@bücher.test", "list+a=xn--bcher-kva.test@lists.test");
        assert_eq!(Verp::new(address(owner), VerpDelimiters::default()), verp(owner, "+="));
    }

    #[test]
    fn other_addresses_are_not_ours() {
        let verp = verp("list@lists.test", "+=");
        for other in [
            "list@lists.test",
            "list+@lists.test",
            "list+bob@lists.test",
            "list+bob=@lists.test",
            "list+bob=a_-.test@lists.test",
            "list+bob=receiver.test@other.test",
            "lisp+bob=receiver.test@lists.test",
            "li@lists.test",
            "lisé+b=x.test@lists.test",
            "list-bob=receiver.test@lists.test",
        ] {
            assert_eq!(verp.decode(&address(other)), None, "{other}");
        }
        let folded = address("LIST+Bob=receiver.test@lists.test");
        assert_eq!(verp.decode(&folded), Some(address("Bob@receiver.test")));
        let long = address(&format!("{}@receiver.test", "b".repeat(50)));
        assert_eq!(verp.encode(&long), Err(VerpError::TooLong { limit: 64 }));
    }

    #[test]
    fn delimiters_leave_no_doubt() {
        for (detail, at, wrong) in
            [('+', '-', '-'), ('+', '.', '.'), ('+', 'a', 'a'), ('@', '=', '@'), (' ', '=', ' ')]
        {
            assert_eq!(VerpDelimiters::new(detail, at), Err(VerpError::Delimiter(wrong)));
        }
    }
}
