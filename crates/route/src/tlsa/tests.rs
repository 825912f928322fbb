//! Tables of records, sets and chains.

use super::*;

/// A record of `U S M DATA`: `*N` is N octets of 0xAA, `=X` the stand-in digest or the text X
/// itself, else hex.
fn record(text: &str) -> Result<Tlsa, Unusable> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: usize| words[word].parse::<u8>().unwrap();
    let data = match words.get(3).copied().unwrap_or("") {
        data if data.starts_with('*') => vec![0xaa; data[1..].parse().unwrap()],
        data if data.starts_with('=') => match number(2) {
            0 => der(&data[1..]),
            1 => digest(Matching::Sha256, &der(&data[1..])),
            _ => digest(Matching::Sha512, &der(&data[1..])),
        },
        hex => (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect(),
    };
    Tlsa::new(number(0), number(1), number(2), &data)
}

fn records(text: &str) -> Vec<Result<Tlsa, Unusable>> {
    text.split('|').map(str::trim).filter(|text| !text.is_empty()).map(record).collect()
}

/// A sequence that holds the text.
fn der(text: &str) -> Vec<u8> {
    let mut der = vec![0x30, u8::try_from(text.len()).unwrap()];
    der.extend(text.as_bytes());
    der
}

/// Stands for a hash: of the right length, and different for different things and kinds.
fn digest(matching: Matching, bytes: &[u8]) -> Vec<u8> {
    let length = match matching {
        Matching::Full => unreachable!("nobody hashes for it"),
        Matching::Sha256 => 32,
        Matching::Sha512 => 64,
    };
    (0..length).map(|at| bytes[at % bytes.len()].wrapping_add(length as u8)).collect()
}

#[test]
fn records_are_usable_or_say_why_not() {
    let check = |text: &str, expected: Result<&str, Unusable>| {
        let shown = record(text).map(|record| record.to_string());
        assert_eq!(shown.as_deref().map_err(|why| *why), expected, "{text}");
    };
    use Unusable::{Data, Matching, Selector, Usage};
    check("3 1 1 *32", Ok("3 1 1 aaaaaaaaaaaaaaaa…"));
    check("3 0 1 *32", Ok("3 0 1 aaaaaaaaaaaaaaaa…"));
    check("2 0 2 *64", Ok("2 0 2 aaaaaaaaaaaaaaaa…"));
    check("2 1 0 3000", Ok("2 1 0 3000"));
    check("3 0 0 30020500", Ok("3 0 0 30020500"));
    check("0 0 1 *32", Err(Usage(0)));
    check("1 1 1 *32", Err(Usage(1)));
    check("4 1 1 *32", Err(Usage(4)));
    check("255 1 1 *32", Err(Usage(255)));
    check("3 2 1 *32", Err(Selector(2)));
    check("3 255 1 *32", Err(Selector(255)));
    check("3 1 3 *32", Err(Matching(3)));
    check("3 1 255 *32", Err(Matching(255)));
    for wrong in ["3 1 1 *31", "3 1 1 *33", "3 1 1 *64", "3 1 1", "2 0 2 *32", "2 0 2 *63"] {
        check(wrong, Err(Data));
    }
    for wrong in
        ["", "30", "3001", "30000", "300000", "310100", "3080", "308100ff", "30850000000001ff"]
    {
        let wrong = if wrong.len() % 2 == 1 { &wrong[1..] } else { wrong };
        check(&format!("3 0 0 {wrong}"), Err(Data));
    }
    check("3 0 0 308101ff", Ok("3 0 0 308101ff"));
    check("3 0 0 30820001ff", Ok("3 0 0 30820001ff"));
}

#[test]
fn of_digests_the_strongest_counts() {
    let check = |given: &str, expected: &str| {
        let given = records(given).into_iter().map(Result::unwrap).collect();
        let mut expected: Vec<_> = records(expected).into_iter().map(Result::unwrap).collect();
        expected.sort();
        assert_eq!(strongest(given), expected);
    };
    check("", "");
    check("3 1 1 =a", "3 1 1 =a");
    check("3 1 1 =a|3 1 1 =b|3 1 1 =a", "3 1 1 =a|3 1 1 =b");
    check("3 1 1 =a|3 1 2 =b", "3 1 2 =b");
    check("3 1 1 =a|3 1 2 =a|3 1 0 =c", "3 1 0 =c|3 1 2 =a");
    // Each usage and selector by itself: one may roll over before the other.
    check("3 1 1 =a|3 0 2 =a|2 1 1 =a|2 0 2 =a", "3 1 1 =a|3 0 2 =a|2 1 1 =a|2 0 2 =a");
    check("3 1 0 =a|3 1 1 =b", "3 1 0 =a|3 1 1 =b");
}

#[test]
fn a_set_means_the_best_it_holds() {
    let check = |answer: TlsaAnswer, expected: &str| {
        let means = match Dane::from(answer) {
            Dane::NotSecure => "not secure".to_owned(),
            Dane::NoRecords => "none".to_owned(),
            Dane::Unusable(why) => format!("unusable {}", why.len()),
            Dane::Usable(records) => format!("usable {}", records.len()),
            Dane::Bogus(why) => format!("bogus {why}"),
        };
        assert_eq!(means, expected);
    };
    let set = |text: &str| TlsaAnswer::Secure(records(text));
    check(TlsaAnswer::Insecure, "not secure");
    check(TlsaAnswer::None, "none");
    check(TlsaAnswer::Bogus("SERVFAIL".to_owned()), "bogus SERVFAIL");
    check(set(""), "none");
    check(set("0 0 1 *32|1 1 1 *32|3 1 1 *31|3 9 1 *32"), "unusable 4");
    check(set("0 0 1 *32|3 1 1 =a"), "usable 1");
    // A malformed strong digest does not push a good one out.
    check(set("3 1 1 =a|3 1 2 *63"), "usable 1");
    check(set("3 1 1 =a|3 1 1 =b|2 0 1 =c"), "usable 3");
    let numbers = 0..200u8;
    let many = numbers.clone().map(|number| Tlsa::new(3, 1, 1, &[number; 32])).collect();
    check(TlsaAnswer::Secure(many), "usable 64");
    let many = numbers.map(|number| Tlsa::new(1, 1, number, b"")).collect();
    check(TlsaAnswer::Secure(many), "unusable 64");
}

/// The chain's certificates are `CERT/KEY`; what is found is `record@place`.
fn check_chain(given: &str, chain: &str, expected: &str) {
    let given: Vec<_> = records(given).into_iter().map(Result::unwrap).collect();
    let ders: Vec<(Vec<u8>, Vec<u8>)> = chain
        .split_whitespace()
        .map(|text| text.split_once('/').unwrap())
        .map(|(certificate, key)| (der(certificate), der(key)))
        .collect();
    let chain: Vec<_> =
        ders.iter().map(|(der, public_key)| Certificate { der, public_key }).collect();
    let mut asked = Vec::new();
    let found = find(&given, &chain, |matching, bytes| {
        asked.push((matching, bytes.to_vec()));
        digest(matching, bytes)
    });
    let show = |found: &Found<'_>| {
        let index = given.iter().position(|record| record == found.record).unwrap();
        assert_eq!(found.is_enough(), found.place == 0);
        format!("{index}@{}", found.place)
    };
    assert_eq!(found.iter().map(show).collect::<Vec<_>>().join(" "), expected);
    let times = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), times, "everything is hashed once at most");
}

#[test]
fn records_fit_certificates_by_usage_and_selector() {
    let chain = "leaf/lk inter/ik root/rk";
    check_chain("3 1 1 =lk", chain, "0@0");
    check_chain("3 1 2 =lk", chain, "0@0");
    check_chain("3 1 0 =lk", chain, "0@0");
    check_chain("3 0 1 =leaf", chain, "0@0");
    check_chain("3 0 0 =leaf", chain, "0@0");
    check_chain("3 0 1 =lk", chain, "");
    check_chain("3 1 1 =leaf", chain, "");
    // An end entity's record fits no issuer, and an issuer's not the end entity.
    check_chain("3 1 1 =ik|3 0 1 =root", chain, "");
    check_chain("2 1 1 =lk|2 0 0 =leaf", chain, "");
    check_chain("2 1 1 =ik", chain, "0@1");
    check_chain("2 0 2 =root", chain, "0@2");
    check_chain("2 1 1 =rk|2 0 0 =inter|3 1 1 =lk|3 1 1 =zz", chain, "2@0 1@1 0@2");
    check_chain("3 1 1 =zz|3 1 1 =lk|2 1 1 =zz", "leaf/lk", "1@0");
    check_chain("3 1 1 =lk", "", "");
    check_chain("", chain, "");
    // A self-signed certificate is nobody's issuer, even sent twice: the path decides then.
    check_chain("2 0 1 =self", "self/k", "");
    let long = (0..20).map(|n| format!("c{n}/k{n} ")).collect::<String>();
    check_chain("2 1 1 =k9|2 1 1 =k10", &long, "0@9");
    let first = format!("{:?}", record("3 1 1 *32").unwrap());
    assert_eq!(first, "Tlsa(3 1 1 aaaaaaaaaaaaaaaa…)");
}

#[test]
fn pins_are_records() {
    let pin = Tlsa::pin([0xaa; 32]);
    assert_eq!(format!("{pin:#}"), format!("3 1 1 {}", "aa".repeat(32)));
    assert_eq!(Ok(pin), record("3 1 1 *32"));
}

#[test]
fn records_are_looked_for_where_aliases_lead_if_that_is_sure() {
    let domain = |text: &str| Domain::parse(text).unwrap();
    let check = |end: &str, state: DnsState, expected: &[&str]| {
        let followed = Followed { name: domain(end), state };
        let expected: Vec<_> = expected.iter().map(|name| domain(name)).collect();
        assert_eq!(bases(&domain("mx.test"), &followed), expected);
    };
    check("mx.test", DnsState::Secure, &["mx.test"]);
    check("host.test", DnsState::Secure, &["host.test", "mx.test"]);
    check("host.test", DnsState::Insecure, &["mx.test"]);
    let name = record_name(&domain("MX.test"), 25).unwrap();
    assert_eq!(name.as_ascii(), "_25._tcp.mx.test");
    assert_eq!(record_name(&domain(&"a.".repeat(127)[..253]), 25), None);
}
