//! What a chain of certificates proves: names, dates, who vouches for it, and which records fit.

use aws_lc_rs::digest;
use merpati_route::security::{Dates, Issuer, Need, Presented, Security};
use merpati_route::tlsa::{self, Certificate, Matching, Tlsa, Usage};
use merpati_types::Host;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{
    CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// The most dates of one path that are found wrong before it is given up.
const DATE_LIMIT: usize = 8;

/// Reads a chain, which begins with the server's own certificate, as far as `security` wants to
/// know.
pub(super) fn presented(
    chain: &[CertificateDer<'_>],
    security: &Security,
    roots: &[TrustAnchor<'_>],
    now: UnixTime,
) -> Presented {
    let nothing =
        Presented { names: Vec::new(), dates: Dates::Valid, issuer: Issuer::Unknown, tlsa: None };
    let named = security.trial.is_some() || matches!(security.need, Need::WebPki(_));
    let records: &[Tlsa] = match &security.need {
        Need::Dane { records, .. } => records,
        Need::Pinned { pins, .. } => pins,
        _ => &[],
    };
    // Who may be anybody need not be looked at.
    if !named && records.is_empty() {
        return nothing;
    }
    let Some((first, above)) = chain.split_first() else { return nothing };
    let Ok(own) = EndEntityCert::try_from(first) else { return nothing };
    let is_for = |host: &&Host| {
        server_name(host).is_some_and(|name| own.verify_is_valid_for_subject_name(&name).is_ok())
    };
    let names = security.names().iter().filter(is_for).cloned().collect();
    let (issuer, dates) = match named {
        true => path(&own, roots, above, now),
        false => (Issuer::Unknown, Dates::Valid),
    };
    let (tlsa, dates) = match by_records(&own, chain, records, now) {
        Some((Usage::EndEntity, _)) => (Some(Usage::EndEntity), dates),
        Some((Usage::TrustAnchor, dates)) => (Some(Usage::TrustAnchor), dates),
        None => (None, dates),
    };
    Presented { names, dates, issuer, tlsa }
}

/// As what the best of the records fits, and how the dates of that path are.
fn by_records(
    own: &EndEntityCert<'_>,
    chain: &[CertificateDer<'_>],
    records: &[Tlsa],
    now: UnixTime,
) -> Option<(Usage, Dates)> {
    if records.is_empty() {
        return None;
    }
    let keys: Vec<_> = chain.iter().take(tlsa::CHAIN_LIMIT).map(public_key).collect();
    let certificates: Vec<_> = chain
        .iter()
        .zip(&keys)
        .map(|(der, key)| Certificate { der, public_key: key.as_deref().unwrap_or_default() })
        .collect();
    let mut by_anchor = None;
    for found in tlsa::find(records, &certificates, hash) {
        if found.is_enough() {
            return Some((Usage::EndEntity, Dates::Valid));
        }
        let Ok(anchor) = anchor_from_trusted_cert(&chain[found.place]) else { continue };
        if let (Issuer::Trusted, dates) = path(own, &[anchor], &chain[1..], now)
            && by_anchor != Some((Usage::TrustAnchor, Dates::Valid))
        {
            by_anchor = Some((Usage::TrustAnchor, dates));
        }
    }
    by_anchor
}

fn public_key(certificate: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    Some(EndEntityCert::try_from(certificate).ok()?.subject_public_key_info())
}

fn hash(matching: Matching, octets: &[u8]) -> Vec<u8> {
    let algorithm = match matching {
        Matching::Sha512 => &digest::SHA512,
        Matching::Sha256 | Matching::Full => &digest::SHA256,
    };
    digest::digest(algorithm, octets).as_ref().to_vec()
}

/// Whether a path leads to one of the anchors; and whether all on it is valid today.
fn path(
    own: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    above: &[CertificateDer<'_>],
    now: UnixTime,
) -> (Issuer, Dates) {
    let algorithms = default_provider().signature_verification_algorithms.all;
    let mut at = now;
    let mut dates = Dates::Valid;
    for _ in 0..DATE_LIMIT {
        let usage = KeyUsage::server_auth();
        match own.verify_for_usage(algorithms, anchors, above, at, usage, None, None) {
            Ok(_) => return (Issuer::Trusted, dates),
            // Somebody who is late is told from somebody nobody knows: look again on a day that
            // suits the certificate.
            Err(webpki::Error::CertExpired { not_after: day, .. })
            | Err(webpki::Error::CertNotValidYet { not_before: day, .. })
                if day != at =>
            {
                dates = Dates::Expired;
                at = day;
            }
            Err(_) => break,
        }
    }
    (Issuer::Unknown, dates)
}

fn server_name(host: &Host) -> Option<ServerName<'_>> {
    match host {
        Host::Domain(domain) => ServerName::try_from(domain.as_ascii()).ok(),
        Host::Literal(address) => Some(ServerName::IpAddress((*address).into())),
    }
}
