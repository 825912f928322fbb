//! Signatures of messages (RFC 6376, RFC 8463).

use std::time::Duration;

use bytes::Bytes;
use mail_auth::common::crypto::SigningKey as _;
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::Signature;
use merpati_types::{Domain, FieldName, HeaderSection, Timestamp};

use crate::body::{BodyHash, BodyHasher, Canonicalization, LineEnds};
use crate::key::{DkimKey, Selector};

/// What is signed where nothing else is configured: the fields of RFC 6376 §5.4.1, and those
/// besides that carry meaning to readers and programs.
const FIELDS: [&str; 25] = [
    "From",
    "Sender",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "To",
    "Cc",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Resent-Date",
    "Resent-From",
    "Resent-To",
    "Resent-Cc",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    // RFC 8058 §4: a one-click URI counts only if both fields are signed.
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
];

/// Why a message is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// It has no `From` field, which every signature must cover (RFC 6376 §5.4).
    #[error("the message has no From field")]
    NoFrom,
    /// It has a CR or LF that is no part of a CRLF: it will not arrive as it is
    /// (RFC 6376 §5.3).
    #[error("the message has a bare CR or LF")]
    BareLineEnd,
    /// The key failed.
    #[error("the key of selector {selector} cannot sign")]
    Key {
        /// Whose key.
        selector: Selector,
    },
}

/// Why fields cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// The name of no field, or with a semicolon, which ends a list of fields.
    #[error("`{name}` is no name of a header field")]
    Name {
        /// What was given.
        name: String,
    },
    /// A field that is removed or changed on the way by right, or that the signature is in
    /// (RFC 6376 §5.4).
    #[error("`{name}` does not stay as it is, and cannot be signed")]
    Fleeting {
        /// Its name.
        name: String,
    },
}

/// The names of fields to sign, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNames(Vec<FieldName>);

impl FieldNames {
    /// No fields.
    pub const NONE: Self = Self(Vec::new());

    /// Checks names. One that comes again, in whatever letter case, is dropped.
    ///
    /// # Errors
    /// [`FieldError`].
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, FieldError> {
        const FLEETING: [&str; 3] = ["DKIM-Signature", "Return-Path", "Bcc"];
        let mut checked = Self::NONE;
        for name in names {
            if FLEETING.iter().any(|fleeting| fleeting.eq_ignore_ascii_case(name)) {
                return Err(FieldError::Fleeting { name: name.to_owned() });
            }
            match FieldName::new(name) {
                Ok(field) if !name.contains(';') => checked.add(field),
                _ => return Err(FieldError::Name { name: name.to_owned() }),
            }
        }
        Ok(checked)
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(FieldName::as_str)
    }

    fn contains(&self, name: &str) -> bool {
        self.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn add(&mut self, name: FieldName) {
        if !self.contains(name.as_str()) {
            self.0.push(name);
        }
    }
}

/// What a signature covers, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRules {
    /// The fields that are signed, every one of a name that the message has. `From` is signed in
    /// any case.
    pub headers: FieldNames,
    /// Those that are named once more than the message has them, so that nobody can add another
    /// (RFC 6376 §8.15). They are signed too where [`Self::headers`] lacks them. By default
    /// `From`.
    pub oversign: FieldNames,
    /// How the header section is made canonical.
    pub header_canonicalization: Canonicalization,
    /// How the body is made canonical.
    pub body_canonicalization: Canonicalization,
    /// After what time the signature no longer counts, if ever.
    pub expire: Option<Duration>,
}

impl Default for SigningRules {
    fn default() -> Self {
        let known = "the names are well formed";
        Self {
            headers: FieldNames::new(FIELDS).expect(known),
            oversign: FieldNames::new(["From"]).expect(known),
            header_canonicalization: Canonicalization::Relaxed,
            body_canonicalization: Canonicalization::Relaxed,
            expire: None,
        }
    }
}

/// Signs for a domain, with one signature for each of its keys.
///
/// The body is hashed once for all keys, by [`DkimSigner::hash_body`]; then
/// [`DkimSigner::sign`] makes the signatures. Neither reads a clock nor does any I/O; `sign`
/// takes about 0.4 ms for each RSA key of 2,048 bits.
#[derive(Debug)]
pub struct DkimSigner {
    domain: Domain,
    rules: SigningRules,
    /// All names to sign, and whether each is oversigned.
    covered: Vec<(FieldName, Cover)>,
    keys: Vec<DkimKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    Existing,
    AndAbsent,
}

impl DkimSigner {
    /// A signer with one key.
    #[must_use]
    pub fn new(domain: Domain, key: DkimKey, rules: SigningRules) -> Self {
        let mut all = FieldNames::new(["From"]).expect("it is the name of a field");
        for name in rules.headers.0.iter().chain(&rules.oversign.0) {
            all.add(name.clone());
        }
        let cover = |name: FieldName| match rules.oversign.contains(name.as_str()) {
            true => (name, Cover::AndAbsent),
            false => (name, Cover::Existing),
        };
        let covered = all.0.into_iter().map(cover).collect();
        Self { domain, rules, covered, keys: vec![key] }
    }

    /// One more key. Its signature follows those of the others: RSA and Ed25519 side by side
    /// serve verifiers old and new (RFC 8463 §3).
    #[must_use]
    pub fn with_key(mut self, key: DkimKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Who signs: the `d=` of the signatures, as A-labels.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// What it covers, and for how long.
    #[must_use]
    pub fn rules(&self) -> &SigningRules {
        &self.rules
    }

    /// The keys, at least one.
    #[must_use]
    pub fn keys(&self) -> &[DkimKey] {
        &self.keys
    }

    /// Begins to hash a body in the way this signer needs it.
    #[must_use]
    pub fn hash_body(&self) -> BodyHasher {
        BodyHasher::new(self.rules.body_canonicalization)
    }

    /// The `DKIM-Signature` fields, one for each key in order, with their line ends: to be put
    /// before all others. `header` is the header section as it is sent.
    ///
    /// # Errors
    /// [`SignError`]. No key has signed then.
    pub fn sign(
        &self,
        header: &HeaderSection,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Bytes, SignError> {
        let covered = Covered::of(self, header)?;
        let seconds = u64::try_from(now.as_millis() / 1_000).unwrap_or(0);
        let mut signature = Signature {
            v: 1,
            d: self.domain.as_ascii().to_owned(),
            h: covered.names,
            bh: body.digest.to_vec(),
            t: seconds,
            x: self.rules.expire.map_or(0, |expire| seconds.saturating_add(expire.as_secs())),
            ch: covered.canonicalization.theirs(),
            cb: body.canonicalization.theirs(),
            ..Signature::default()
        };
        let mut fields = Vec::with_capacity(1_024 * self.keys.len());
        for key in &self.keys {
            signature.a = key.half.algorithm();
            key.selector().as_str().clone_into(&mut signature.s);
            signature.b.clear();
            let input = Input { header: &covered.canonical, signature: &signature };
            let failed = |_| SignError::Key { selector: key.selector().clone() };
            signature.b = key.half.sign(input).map_err(failed)?;
            signature.write(&mut fields, true);
        }
        Ok(fields.into())
    }
}

/// The fields of a message that are signed.
struct Covered {
    /// The `h=` list: from the last field of a name to the first, then what is oversigned.
    names: Vec<String>,
    canonicalization: Canonicalization,
    canonical: Vec<u8>,
}

impl Covered {
    fn of(signer: &DkimSigner, header: &HeaderSection) -> Result<Self, SignError> {
        let mut line_ends = LineEnds::default();
        line_ends.count(header.raw());
        if !line_ends.are_paired() || !header.raw().ends_with(b"\r\n") {
            return Err(match header.raw().is_empty() {
                true => SignError::NoFrom,
                false => SignError::BareLineEnd,
            });
        }
        if header.find("From").is_none() {
            return Err(SignError::NoFrom);
        }
        let mut names = Vec::with_capacity(signer.covered.len() + 4);
        let mut fields = Vec::with_capacity(signer.covered.len() + 4);
        for (name, cover) in &signer.covered {
            let named = header.fields().rev();
            for field in named.filter(|field| field.name().eq_ignore_ascii_case(name.as_str())) {
                let colon = memchr::memchr(b':', field.raw()).unwrap_or(field.raw().len());
                let (name_as_sent, value) = field.raw().split_at(colon);
                fields.push((name_as_sent, value.get(1..).unwrap_or_default()));
                names.push(name.as_str().to_owned());
            }
            if *cover == Cover::AndAbsent {
                names.push(name.as_str().to_owned());
            }
        }
        // The library takes form feeds for white space, which they are not in RFC 6376 §2.8.
        // As they are written, nobody has to agree about them.
        let form_feed = fields.iter().any(|(_, value)| memchr::memchr(b'\x0c', value).is_some());
        let canonicalization = match form_feed {
            true => Canonicalization::Simple,
            false => signer.rules.header_canonicalization,
        };
        let mut canonical = Vec::with_capacity(header.raw().len());
        canonicalization.theirs().canonicalize_headers(fields.into_iter(), &mut canonical);
        Ok(Self { names, canonicalization, canonical })
    }
}

/// What a key signs: the fields, then the signature's own without its value
/// (RFC 6376 §3.7).
struct Input<'a> {
    header: &'a [u8],
    signature: &'a Signature,
}

impl Writable for Input<'_> {
    fn write(self, writer: &mut impl Writer) {
        writer.write(self.header);
        self.signature.write(writer, false);
    }
}

#[cfg(test)]
mod tests;
