//! What TLS reports name (RFC 8460): kinds of failures and policies, and where a domain wants its
//! reports.

use merpati_types::{Domain, Mailbox};

use crate::txt::{NoRecord, fields};

/// What failed, as a report names it (RFC 8460 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResultType {
    /// The server does not offer STARTTLS, or takes it back.
    StarttlsNotSupported,
    /// The certificate is for other names.
    CertificateHostMismatch,
    /// The certificate is not valid any more, or not yet.
    CertificateExpired,
    /// Nobody who is trusted vouches for the certificate.
    CertificateNotTrusted,
    /// Another fault, such as a handshake that fails or a host that the policy does not allow.
    ValidationFailure,
    /// None of the TLSA records can be used.
    TlsaInvalid,
    /// The DNS has no answer that holds.
    DnssecInvalid,
    /// We are to deliver with DANE only, and the host has no signed TLSA records.
    DaneRequired,
    /// The MTA-STS policy could not be fetched.
    StsPolicyFetchError,
    /// The MTA-STS policy is malformed.
    StsPolicyInvalid,
    /// The host that serves the MTA-STS policy has no valid certificate.
    StsWebpkiInvalid,
}

impl ResultType {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::DaneRequired,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// Its `result-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// Under which policy a session was, as a report names it (RFC 8460 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither.
    NoPolicyFound,
}

impl PolicyType {
    /// Its `policy-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

/// A failure to be reported, and which policy it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault {
    /// Whose.
    pub policy: PolicyType,
    /// What.
    pub result: ResultType,
}

/// The most places that one domain's reports are sent to; more are left out.
pub const DESTINATION_LIMIT: usize = 8;

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// By mail, to this address.
    Mail(Mailbox),
    /// By POST, to this `https:` URL.
    Https(String),
}

/// Where the record is; `None` where that would be too long a name.
#[must_use]
pub fn record_name(domain: &Domain) -> Option<Domain> {
    Domain::parse(&format!("_smtp._tls.{}", domain.as_ascii())).ok()
}

/// Where a domain wants its reports, by the `v=TLSRPTv1` record among the TXT records of its
/// name, each joined from its strings (RFC 8460 §3). Unknown fields and schemes are ignored.
///
/// # Errors
/// [`NoRecord`]: it wants none, or says so in no form we know.
pub fn find_destinations<'a>(
    texts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<Destination>, NoRecord> {
    let fields = fields(texts, "TLSRPTv1")?;
    let mut found = Vec::new();
    for (_, uris) in fields.iter().filter(|(name, _)| *name == "rua") {
        for uri in uris.split(',') {
            match read_uri(uri.trim_matches([' ', '\t'])) {
                Some(place) if found.len() < DESTINATION_LIMIT && !found.contains(&place) => {
                    found.push(place);
                }
                _ => {}
            }
        }
    }
    if found.is_empty() { Err(NoRecord::Malformed) } else { Ok(found) }
}

fn read_uri(uri: &str) -> Option<Destination> {
    let (scheme, rest) = uri.split_once(':')?;
    if scheme.eq_ignore_ascii_case("mailto") {
        // RFC 6068: header fields may follow, which are the sender's business.
        let address = rest.split_once('?').map_or(rest, |(address, _)| address);
        return Mailbox::parse(&unescape(address)?).ok().map(Destination::Mail);
    }
    let visible = uri.bytes().all(|octet| octet.is_ascii_graphic());
    let https = scheme.eq_ignore_ascii_case("https") && visible;
    let host = rest.strip_prefix("//").is_some_and(|rest| !rest.starts_with(['/', '?', '#', ':']));
    (https && host && rest.len() > 2).then(|| Destination::Https(uri.to_owned()))
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_places() {
        let check = |texts: &[&str], expected: Result<&str, NoRecord>| {
            let found = find_destinations(texts.iter().map(|text| text.as_bytes()));
            let show = |place: &Destination| match place {
                Destination::Mail(address) => format!("mail {address}"),
                Destination::Https(url) => url.clone(),
            };
            let shown = found.map(|places| places.iter().map(show).collect::<Vec<_>>().join(" "));
            assert_eq!(shown.as_deref().map_err(|why| *why), expected, "{texts:?}");
        };
        use NoRecord::{Absent, Malformed, Several};
        check(&["v=TLSRPTv1;rua=mailto:reports@example.com"], Ok("mail reports@example.com"));
        let url = "https://reporting.example.com/v1/tlsrpt";
        check(&[&format!("v=TLSRPTv1; rua={url}")], Ok(url));
        check(
            &[&format!("v=TLSRPTv1; rua=mailto:a@b.test , {url},gopher://x ; x=y;")],
            Ok(&format!("mail a@b.test {url}")),
        );
        check(&["v=TLSRPTv1; rua=MAILTO:a%2Bb@b.test?subject=x"], Ok("mail a+b@b.test"));
        check(
            &["v=TLSRPTv1; rua=mailto:a@b.test; rua=mailto:c@d.test"],
            Ok("mail a@b.test mail c@d.test"),
        );
        check(&["v=TLSRPTv1; rua=mailto:a@b.test,mailto:a@B.test"], Ok("mail a@b.test"));
        check(&["other", "v=TLSRPTv1; rua=mailto:a@b.test"], Ok("mail a@b.test"));
        check(&[], Err(Absent));
        check(&["v=TLSRPTv2; rua=mailto:a@b.test"], Err(Absent));
        check(&["v=TLSRPTv1; rua=mailto:a@b.test", "v=TLSRPTv1;"], Err(Several));
        for wrong in [
            "x=y",
            "rua=mailto:",
            "rua=mailto:a",
            "rua=mailto:a%4",
            "rua=mailto:a%+1@b",
            "rua=mailto:%ff@b.test",
            "rua=mailto:a%0d%0a@b.test",
            "rua=http://a.test/",
            "rua=https:a.test",
            "rua=https://",
            "rua=https:///x",
            "rua=https://a b",
            "rua=",
        ] {
            check(&[&format!("v=TLSRPTv1; {wrong}")], Err(Malformed));
        }
        let many: Vec<_> = (0..20).map(|n| format!("mailto:a{n}@b.test")).collect();
        let text = format!("v=TLSRPTv1; rua={}", many.join(","));
        assert_eq!(find_destinations([text.as_bytes()]).unwrap().len(), DESTINATION_LIMIT);
    }

    #[test]
    fn names_are_those_of_the_registry() {
        let names: Vec<_> = ResultType::ALL.iter().map(|kind| kind.as_str()).collect();
        let registry = "starttls-not-supported certificate-host-mismatch certificate-expired \
                        certificate-not-trusted validation-failure tlsa-invalid dnssec-invalid \
                        dane-required sts-policy-fetch-error sts-policy-invalid sts-webpki-invalid";
        assert_eq!(names.join(" "), registry);
        let policies = [PolicyType::Tlsa, PolicyType::Sts, PolicyType::NoPolicyFound];
        assert_eq!(policies.map(PolicyType::as_str).join(" "), "tlsa sts no-policy-found");
        let name = record_name(&Domain::parse("Example.com").unwrap()).unwrap();
        assert_eq!(name.as_ascii(), "_smtp._tls.example.com");
    }
}
