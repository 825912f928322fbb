//! MTA-STS (RFC 8461): a domain's word, by HTTPS, on which hosts take its mail and that they
//! have valid certificates.
//!
//! Nothing here asks anybody: whoever fetches hands in what the DNS and the policy host said.
//! The policy domain is the recipient's domain, or the smarthost's name (RFC 8461 §3.4); a
//! parent's policy says nothing about its children.

mod cache;
mod policy;

use std::time::Duration;

use merpati_types::Domain;

use crate::txt::{NoRecord, fields};

pub use cache::{
    CachedPolicy, DamagedPolicy, FetchFault, Memory, REFRESH_EVERY, RETRY_AFTER, Step, Sts,
    TxtAnswer,
};
pub use policy::{Mode, MxPattern, Policy, PolicyError};

/// Where the policy is on its host.
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";

/// The media type a policy must have (RFC 8461 §3.2).
pub const MEDIA_TYPE: &str = "text/plain";

/// Whether a `Content-Type` is that of a policy; parameters such as a charset may follow.
#[must_use]
pub fn is_policy(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE)
}

/// The most octets of a policy that are read (RFC 8461 §3.3 suggests 64 KB).
pub const POLICY_LIMIT: usize = 65_536;

/// The longest time a policy counts, about a year (RFC 8461 §3.2).
pub const MAX_AGE_LIMIT: Duration = Duration::from_secs(31_557_600);

/// Where the domain's record is; `None` where that would be too long a name.
#[must_use]
pub fn record_name(domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("_mta-sts.{}", domain.as_ascii())).ok()
}

/// The host that serves the domain's policy; `None` where that would be too long a name. Its
/// certificate must be valid for this name, and a redirect is not followed (RFC 8461 §3.3).
#[must_use]
pub fn policy_host(domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("mta-sts.{}", domain.as_ascii())).ok()
}

/// The name of a version of a policy: one to 32 letters and digits, which count as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyId(Box<str>);

impl PolicyId {
    /// Reads the value of `id`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = (1..=32).contains(&text.len())
            && text.bytes().all(|octet| octet.is_ascii_alphanumeric());
        allowed.then(|| Self(text.into()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id in the `_mta-sts` record among the TXT records of that name, each joined from its
/// strings (RFC 8461 §3.1). Unknown fields are ignored, and of several ids the first counts.
///
/// # Errors
/// [`NoRecord`]: the domain has no policy.
pub fn find_id<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<PolicyId, NoRecord> {
    let fields = fields(texts, "STSv1")?;
    let id = fields.iter().find(|(name, _)| *name == "id").ok_or(NoRecord::Malformed)?;
    PolicyId::parse(id.1).ok_or(NoRecord::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_record_of_the_version_has_the_id() {
        let check = |texts: &[&str], expected: Result<&str, NoRecord>| {
            let found = find_id(texts.iter().map(|text| text.as_bytes()));
            assert_eq!(
                found.as_ref().map(PolicyId::as_str),
                expected.as_ref().copied(),
                "{texts:?}"
            );
        };
        use NoRecord::{Absent, Malformed, Several};
        check(&["v=STSv1; id=20160831085700Z;"], Ok("20160831085700Z"));
        check(&["v=STSv1;id=1"], Ok("1"));
        check(&["v=STSv1 \t;\t id=1 ; "], Ok("1"));
        check(&["v=STSv1; a=b; id=1; x-y.z=%41/*"], Ok("1"));
        check(&["v=STSv1; id=1; id=2"], Ok("1"));
        check(&["v=spf1 -all", "v=STSv1; id=aZ9", "v=STSv2; id=2"], Ok("aZ9"));
        check(&[], Err(Absent));
        check(&["V=STSv1; id=1"], Err(Absent));
        check(&["v=stsv1; id=1"], Err(Absent));
        check(&["v=STSv1"], Err(Absent));
        check(&[" v=STSv1; id=1"], Err(Absent));
        check(&["id=1; v=STSv1;"], Err(Absent));
        check(&["v=STSv1; id=1", "v=STSv1; id=1"], Err(Several));
        check(&["v=STSv1; id=1", "v=STSv1;"], Err(Several));
        check(&["v=STSv1;"], Err(Malformed));
        check(&["v=STSv1; a=b"], Err(Malformed));
        check(&["v=STSv1; ID=1"], Err(Malformed));
        check(&["v=STSv1; id="], Err(Malformed));
        check(&["v=STSv1; id = 1"], Err(Malformed));
        check(&["v=STSv1; id=1-2"], Err(Malformed));
        check(&["v=STSv1; id=1;; a=b"], Err(Malformed));
        check(&["v=STSv1; id=1; a"], Err(Malformed));
        check(&["v=STSv1; id=1; _a=b"], Err(Malformed));
        let long = "1".repeat(33);
        check(&[&format!("v=STSv1; id={}", &long[1..])], Ok(&long[1..]));
        check(&[&format!("v=STSv1; id={long}")], Err(Malformed));
        check(&[&format!("v=STSv1; id=1; {long}=a")], Err(Malformed));
        check(&[&format!("v=STSv1; id=1; a={}", "b".repeat(5_000))], Err(Malformed));
        assert_eq!(find_id([b"v=STSv1; id=1; a=\xff".as_slice()]), Err(Malformed));
    }

    #[test]
    fn policies_are_plain_text() {
        for good in ["text/plain", "Text/Plain; charset=utf-8", " text/plain ;x"] {
            assert!(is_policy(good), "{good}");
        }
        for wrong in ["", "text/html", "text/plain2", "application/octet-stream; text/plain"] {
            assert!(!is_policy(wrong), "{wrong}");
        }
    }

    #[test]
    fn names_are_below_the_domain() {
        let domain = Domain::parse("Bücher.example").unwrap();
        let text = |name: Option<Domain>| name.map(|name| name.as_ascii().to_owned());
        assert_eq!(text(record_name(&domain)).unwrap(), "_mta-sts.xn--bcher-kva.example");
        assert_eq!(text(policy_host(&domain)).unwrap(), "mta-sts.xn--bcher-kva.example");
        let long = Domain::parse(&"a.".repeat(127)[..253]).unwrap();
        assert_eq!((record_name(&long), policy_host(&long)), (None, None));
    }
}
