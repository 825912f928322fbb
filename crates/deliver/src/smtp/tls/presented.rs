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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use merpati_route::security::{Asked, Source, Trial};
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer as Signer, KeyPair, date_time_ymd,
    };

    use super::*;

    /// An authority, and a server that it vouches for from 2026 to 2030.
    struct Made {
        authority: CertificateDer<'static>,
        server: CertificateDer<'static>,
    }

    fn make(names: &[&str]) -> Made {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Signer::new(params, key);
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 1, 1), date_time_ymd(2030, 1, 1));
        let server = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        Made { authority: authority.into(), server: server.into() }
    }

    fn in_year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600 + 86_400 * 60))
    }

    fn security(need: Need, trial: Option<Trial>) -> Security {
        let (source, why, asked) = (Source::Configured, String::new(), Asked::Nothing);
        Security { need, source, why, asked, trial, faults: Vec::new() }
    }

    fn host(name: &str) -> Host {
        Host::parse(name).unwrap()
    }

    /// `names; dates; issuer; record`.
    fn read(
        chain: &[&CertificateDer<'static>],
        roots: &[TrustAnchor<'_>],
        of: &Security,
        year: u64,
    ) -> String {
        let chain: Vec<_> = chain.iter().map(|&der| der.clone()).collect();
        let Presented { names, dates, issuer, tlsa } = presented(&chain, of, roots, in_year(year));
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        format!("{}; {dates:?}; {issuer:?}; {tlsa:?}", names.join(" "))
    }

    #[test]
    fn names_dates_and_authorities_are_told_apart() {
        let made = make(&["mx.test"]);
        let anchor = anchor_from_trusted_cert(&made.authority).unwrap();
        let other = make(&["mx.test"]);
        let check = |roots: &[TrustAnchor<'_>], name: &str, year, expected: &str| {
            let verify = security(Need::WebPki(host(name)), None);
            let chain = [&made.server, &made.authority];
            assert_eq!(read(&chain, roots, &verify, year), expected, "{name} {year}");
            // A policy on trial looks as closely.
            let trial = Some(Trial::Allowed(host(name)));
            let trial = security(Need::Opportunistic, trial);
            assert_eq!(read(&chain, roots, &trial, year), expected, "{name} {year} on trial");
        };
        let roots = std::slice::from_ref(&anchor);
        check(roots, "mx.test", 2027, "mx.test; Valid; Trusted; None");
        check(roots, "mx.test", 2031, "mx.test; Expired; Trusted; None");
        check(roots, "mx.test", 2025, "mx.test; Expired; Trusted; None");
        check(roots, "other.test", 2027, "; Valid; Trusted; None");
        check(&[], "mx.test", 2027, "mx.test; Valid; Unknown; None");
        check(&[], "mx.test", 2031, "mx.test; Expired; Unknown; None");
        let stranger = anchor_from_trusted_cert(&other.authority).unwrap();
        check(&[stranger], "mx.test", 2027, "mx.test; Valid; Unknown; None");
        // Nobody looks where nothing is asked for.
        let anybody = security(Need::Encrypted, None);
        assert_eq!(read(&[&made.server], roots, &anybody, 2031), "; Valid; Unknown; None");
        let verify = security(Need::WebPki(host("mx.test")), None);
        assert_eq!(read(&[], roots, &verify, 2027), "; Valid; Unknown; None");
        let broken = CertificateDer::from(vec![48, 3, 1, 2, 3]);
        assert_eq!(read(&[&broken], roots, &verify, 2027), "; Valid; Unknown; None");
    }

    #[test]
    fn records_fit_the_server_or_who_vouches_for_it() {
        let made = make(&["mx.test"]);
        let other = make(&["mx.test"]);
        let tlsa = |usage, selector, der: &CertificateDer<'static>| {
            let selected =
                if selector == 0 { der.to_vec() } else { public_key(der).unwrap().to_vec() };
            Tlsa::new(usage, selector, 1, &hash(Matching::Sha256, &selected)).unwrap()
        };
        let check = |record: Tlsa, chain: &[&CertificateDer<'static>], year, expected: &str| {
            let names = vec![host("mx.test")];
            let dane = security(Need::Dane { records: vec![record.clone()], names }, None);
            assert_eq!(read(chain, &[], &dane, year), expected, "{record}");
            let pinned = Need::Pinned { pins: vec![record], name: host("mx.test") };
            assert_eq!(read(chain, &[], &security(pinned, None), year), expected);
        };
        let chain = [&made.server, &made.authority];
        for selector in [0, 1] {
            let own = "mx.test; Valid; Unknown; Some(EndEntity)";
            check(tlsa(3, selector, &made.server), &chain, 2027, own);
            check(tlsa(3, selector, &made.server), &chain[..1], 2031, own);
            let above = "mx.test; Valid; Unknown; Some(TrustAnchor)";
            check(tlsa(2, selector, &made.authority), &chain, 2027, above);
            let late = "mx.test; Expired; Unknown; Some(TrustAnchor)";
            check(tlsa(2, selector, &made.authority), &chain, 2031, late);
        }
        let none = "mx.test; Valid; Unknown; None";
        check(tlsa(3, 1, &other.server), &chain, 2027, none);
        // Who is named but has not signed vouches for nobody.
        let forged = [&made.server, &other.authority];
        check(tlsa(2, 1, &other.authority), &forged, 2027, none);
        // Nor does the server for itself.
        check(tlsa(2, 1, &made.server), &chain, 2027, none);
        check(tlsa(2, 1, &made.authority), &chain[..1], 2027, none);
    }
}
