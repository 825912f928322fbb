//! Every combination of what is known, against tables and short rules.

use merpati_types::ReversePath;

use super::*;
use crate::mta_sts::{FetchFault, Policy};
use crate::tlsa::{Unusable, Usage};

const ASKED: [&str; 3] = ["nothing", "require", "no"];
const WANTED: [&str; 7] = ["none", "may", "encrypt", "dane", "verify", "pinned", "unset"];
const ROUTE: [&str; 4] = ["direct", "secure", "insecure", "same"];
const DANE: [&str; 8] =
    ["ee", "ta", "unusable", "bogus-mx", "bogus-a", "bogus-tlsa", "unsigned", "none"];
const STS: [&str; 8] =
    ["match", "mismatch", "testing", "testing-mismatch", "off", "none", "expired", "unfetchable"];
const CERTIFICATE: [&str; 7] =
    ["good", "name", "expired", "self-signed", "other", "no-tls", "failed"];

/// First match counts; `*` is any. Later and bounce are hosts that are skipped.
const DECISIONS: &str = "
# asked   wanted       route               dane              sts            -> need and source
*         *            *                   bogus-mx|bogus-a  *              -> later:DANE
*         pinned       *                   *                 *              -> pinned:configured
*         dane         *                   bogus-tlsa        *              -> later:DANE
*         dane         direct|secure|same  ee|ta             *              -> dane:configured
*         dane         *                   *                 *              -> later:configured
# RFC 8689 §4.2.1: signed MX records or an MTA-STS policy, and an authentic certificate.
require   none         *                   *                 *              -> bounce:configured
require   verify       *                   *                 match|testing  -> verify:configured
require   verify       direct|secure|same  *                 *              -> verify:configured
require   verify       *                   *                 *              -> bounce:REQUIRETLS
require   *            *                   bogus-tlsa        *              -> later:DANE
require   *            direct|secure|same  ee|ta             *              -> dane:DANE
require   *            *                   *                 match          -> verify:MTA-STS
require   unset        *                   *                 mismatch       -> bounce:MTA-STS
require   *            direct|secure|same  *                 *              -> verify:REQUIRETLS
require   *            *                   *                 testing        -> verify:REQUIRETLS
require   *            *                   *                 *              -> bounce:REQUIRETLS
*         none         *                   *                 *              -> clear:configured
*         may          *                   *                 *              -> may:configured
*         encrypt      *                   *                 *              -> encrypt:configured
*         verify       *                   *                 *              -> verify:configured
# RFC 8689 §3: policies of the destination are lifted.
no        unset        *                   *                 *              -> may:opportunistic
# RFC 7672 §2.1.2 before RFC 8461; unsigned MX records give DANE no precedence.
nothing   unset        *                   bogus-tlsa        *              -> later:DANE
nothing   unset        direct|secure|same  ee|ta             *              -> dane:DANE
nothing   unset        *                   *                 match          -> verify:MTA-STS
nothing   unset        *                   *                 mismatch       -> later:MTA-STS
nothing   unset        *                   ee|ta             *              -> dane:DANE
nothing   unset        *                   unusable          *              -> encrypt:DANE
nothing   unset        *                   *                 *              -> may:opportunistic
";

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn record(usage: u8) -> Tlsa {
    Tlsa::new(usage, 1, 1, &[usage; 32]).unwrap()
}

/// What the words of a combination stand for.
fn decide(asked: &str, wanted: &str, route: &str, dane: &str, sts: &str) -> Security {
    let pins = Override::Pinned(vec![Tlsa::pin([9; 32])]);
    let wanted = match wanted {
        "none" => Some(&Override::None),
        "may" => Some(&Override::May),
        "encrypt" => Some(&Override::Encrypt),
        "dane" => Some(&Override::Dane),
        "verify" => Some(&Override::Verify),
        "pinned" => Some(&pins),
        _ => None,
    };
    let mode = match sts {
        "match" | "mismatch" => "enforce",
        "off" => "none",
        _ => "testing",
    };
    let mx = if sts.ends_with("mismatch") { "other.test" } else { "*.receiver.test" };
    let policy = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmx: receiver.test\nmax_age: 9");
    let policy =
        if sts.ends_with("mismatch") { policy.replace("mx: receiver.test\n", "") } else { policy };
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let sts = match sts {
        "none" => Sts::NoPolicy,
        "expired" => Sts::Expired,
        "unfetchable" => Sts::Unfetchable(FetchFault::Certificate),
        _ => Sts::Policy(&policy),
    };
    let state = if dane == "bogus-mx" { DnsState::Bogus } else { DnsState::Secure };
    let (route, name) = match route {
        _ if dane == "bogus-mx" => (Route::Mx(state), "mx.receiver.test"),
        "direct" => (Route::Direct, "receiver.test"),
        "secure" => (Route::Mx(state), "mx.receiver.test"),
        "same" => (Route::Mx(DnsState::Insecure), "receiver.test"),
        _ => (Route::Mx(DnsState::Insecure), "mx.receiver.test"),
    };
    let addresses = match dane {
        "bogus-a" => DnsState::Bogus,
        "unsigned" => DnsState::Insecure,
        _ => DnsState::Secure,
    };
    let dane = match dane {
        "ee" => Dane::Usable(vec![record(3)]),
        "ta" => Dane::Usable(vec![record(2)]),
        "unusable" => Dane::Unusable(vec![Unusable::Usage(0)]),
        "bogus-tlsa" => Dane::Bogus("SERVFAIL".to_owned()),
        "none" => Dane::NoRecords,
        _ => Dane::NotSecure,
    };
    let asked = match asked {
        "require" => Asked::RequireTls,
        "no" => Asked::NoTls,
        _ => Asked::Nothing,
    };
    let (domain, name) = (host("receiver.test"), host(name));
    let to = Destination { domain: &domain, expanded: None, route, sts, wanted, asked };
    Security::decide(&to, &MailHost { host: &name, addresses, dane: &dane, base: None })
}

fn word(need: &Need) -> &'static str {
    match need {
        Need::SkipHost(Failure { severity: Severity::Transient, .. }) => "later",
        Need::SkipHost(_) => "bounce",
        need => need.as_str(),
    }
}

fn for_each_combination(mut check: impl FnMut([&str; 5])) {
    for asked in ASKED {
        for wanted in WANTED {
            for route in ROUTE {
                for dane in DANE {
                    STS.iter().for_each(|sts| check([asked, wanted, route, dane, sts]));
                }
            }
        }
    }
}

#[test]
fn decisions_are_those_of_the_table() {
    let rows: Vec<(Vec<&str>, &str)> = DECISIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(" -> ").unwrap())
        .map(|(left, right)| (left.split_whitespace().collect(), right))
        .collect();
    let mut used = vec![0; rows.len()];
    for_each_combination(|case| {
        let fits = |(cell, word): (&&str, &str)| *cell == "*" || cell.split('|').any(|c| c == word);
        let row = rows.iter().position(|(cells, _)| cells.iter().zip(case).all(fits)).unwrap();
        used[row] += 1;
        let [asked, wanted, route, dane, sts] = case;
        let security = decide(asked, wanted, route, dane, sts);
        let found = format!("{}:{}", word(&security.need), security.source.as_str());
        assert_eq!(found, rows[row].1, "{case:?}");
    });
    assert!(used.iter().all(|times| *times > 0), "a row that nothing fits: {used:?}");
    assert_eq!(used.iter().sum::<i32>(), 3 * 7 * 4 * 8 * 8);
}

/// What no table may say, whatever is in it.
#[test]
fn nothing_is_ever_a_downgrade() {
    for_each_combination(|case @ [asked, wanted, route, dane, sts]| {
        let security = decide(asked, wanted, route, dane, sts);
        let need = word(&security.need);
        assert_eq!(security.skips().is_some(), ["later", "bounce"].contains(&need), "{case:?}");
        if asked == "require" {
            assert!(!["clear", "may", "encrypt"].contains(&need), "{case:?} {need}");
        }
        if dane.starts_with("bogus") && wanted == "unset" && asked != "no" {
            assert_eq!(need, "later", "{case:?}");
        }
        if sts == "match" && wanted == "unset" && asked != "no" {
            assert!(["dane", "verify", "later"].contains(&need), "{case:?} {need}");
        }
        // A name of the destination counts only where it is sure who serves it.
        if route == "insecure" {
            assert!(security.names().iter().all(|name| *name != host("receiver.test")), "{case:?}");
        }
    });
}

/// What comes of a handshake with such a certificate, which a record fits if one can.
fn handshake(certificate: &str, security: &Security) -> Handshake {
    let usage = match &security.need {
        Need::Dane { records, .. } | Need::Pinned { pins: records, .. } => Some(records[0].usage()),
        _ => None,
    };
    let tlsa = match (certificate, usage) {
        ("other", _) => None,
        // No path leads from it to a trust anchor.
        ("self-signed", Some(Usage::TrustAnchor)) => None,
        (_, usage) => usage,
    };
    let names = if certificate == "name" { Vec::new() } else { security.names().to_vec() };
    let dates = if certificate == "expired" { Dates::Expired } else { Dates::Valid };
    let issuer = if certificate == "self-signed" { Issuer::Unknown } else { Issuer::Trusted };
    match certificate {
        "no-tls" => Handshake::NotOffered,
        "failed" => Handshake::Failed,
        _ => Handshake::Done(Presented { names, dates, issuer, tlsa }),
    }
}

fn outcome(verdict: &Verdict) -> &'static str {
    match &verdict.outcome {
        Outcome::Deliver => "ok",
        Outcome::DeliverInClear => "clear",
        Outcome::ReconnectInClear => "again",
        Outcome::NextHost(failure) if failure.severity == Severity::Transient => "wait",
        Outcome::NextHost(_) => "bounce",
    }
}

/// The delivery decision as the RFCs tell it, in a few words: signed MX records, nothing
/// configured.
fn by_the_rfcs(dane: &str, sts: &str, certificate: &str, asked: &str) -> &'static str {
    let requires = asked == "require";
    let no = if requires { "bounce" } else { "wait" };
    let if_so = |good: bool| if good { "ok" } else { no };
    let valid = ["good", "other"].contains(&certificate);
    let tls = !["no-tls", "failed"].contains(&certificate);
    match (dane, sts) {
        ("bogus-mx" | "bogus-a" | "bogus-tlsa", _) => "wait",
        ("ee", _) => if_so(tls && certificate != "other"),
        ("ta", _) => if_so(certificate == "good"),
        (_, "mismatch") => no,
        (_, "match") => if_so(valid),
        _ if requires => if_so(valid),
        ("unusable", _) => if_so(tls),
        _ if certificate == "no-tls" => "clear",
        _ if certificate == "failed" => "again",
        _ => "ok",
    }
}

#[test]
fn messages_go_where_the_rfcs_let_them() {
    for dane in DANE {
        for sts in STS {
            for certificate in CERTIFICATE {
                for asked in ["nothing", "require"] {
                    let security = decide(asked, "unset", "secure", dane, sts);
                    let verdict = security.judge(&handshake(certificate, &security));
                    let expected = by_the_rfcs(dane, sts, certificate, asked);
                    let case = format!("{dane} {sts} {certificate} {asked}");
                    assert_eq!(outcome(&verdict), expected, "{case}");
                }
            }
        }
    }
}

/// Each need against each certificate: the outcome, and what is reported, by its first letters
/// (`s`tarttls, `h`ost, `e`xpired, not `t`rusted, `v`alidation, tlsa `i`nvalid, dnssec `d`,
/// dane `r`equired, `w`eb PKI of the policy host) under the policy: `D`ANE, MTA-`S`TS, `N`one.
const OUTCOMES: &str = "
# wanted  dane      sts               good     name     expired  self-signed other    no-tls   failed
unset     ee        none              ok       ok       ok       ok          wait-Dt  wait-Ds  wait-Dv
unset     ta        none              ok       wait-Dh  wait-De  wait-Dt     wait-Dt  wait-Ds  wait-Dv
unset     ee        testing           ok       ok-Sh    ok-Se    ok-St       wait-Dt  wait-DsSs wait-DvSv
unset     ta        match             ok       wait-Dh  wait-De  wait-Dt     wait-Dt  wait-Ds  wait-Dv
unset     ee        mismatch          ok       ok       ok       ok          wait-Dt  wait-Ds  wait-Dv
unset     none      match             ok       wait-Sh  wait-Se  wait-St     ok       wait-Ss  wait-Sv
unset     none      mismatch          wait-Sv  wait-Sv  wait-Sv  wait-Sv     wait-Sv  wait-Sv  wait-Sv
unset     none      testing           ok       ok-Sh    ok-Se    ok-St       ok       clear-Ss again-Sv
unset     none      testing-mismatch  ok-Sv    ok-Sv    ok-Sv    ok-Sv       ok-Sv    clear-Sv again-Sv
unset     none      none              ok       ok       ok       ok          ok       clear-Ns again-Nv
unset     none      off               ok       ok       ok       ok          ok       clear-Ns again-Nv
unset     none      expired           ok       ok       ok       ok          ok       clear-Ns again-Nv
unset     none      unfetchable       ok-Sw    ok-Sw    ok-Sw    ok-Sw       ok-Sw    clear-SwNs again-SwNv
unset     unusable  none              ok-Di    ok-Di    ok-Di    ok-Di       ok-Di    wait-DsDi wait-DvDi
unset     unusable  match             ok-Di    wait-DiSh wait-DiSe wait-DiSt ok-Di    wait-DiSs wait-DiSv
unset     unusable  testing           ok-Di    ok-DiSh  ok-DiSe  ok-DiSt     ok-Di    wait-DsDiSs wait-DvDiSv
unset     bogus-mx  none              wait-Dd  wait-Dd  wait-Dd  wait-Dd     wait-Dd  wait-Dd  wait-Dd
unset     bogus-tlsa testing          wait-Dd  wait-Dd  wait-Dd  wait-Dd     wait-Dd  wait-Dd  wait-Dd
dane      none      match             wait-Dr  wait-Dr  wait-Dr  wait-Dr     wait-Dr  wait-Dr  wait-Dr
none      ee        match             clear    clear    clear    clear       clear    clear    clear
may       ee        match             ok       ok       ok       ok          ok       clear-Ns again-Nv
encrypt   ee        match             ok       ok       ok       ok          ok       wait-Ns  wait-Nv
verify    ee        none              ok       wait-Nh  wait-Ne  wait-Nt     ok       wait-Ns  wait-Nv
pinned    ta        match             ok       ok       ok       ok          wait-Nt  wait-Ns  wait-Nv
";

fn letters(reports: &[Fault]) -> String {
    let letters = |fault: &Fault| {
        let policy = match fault.policy {
            PolicyType::Tlsa => 'D',
            PolicyType::Sts => 'S',
            PolicyType::NoPolicyFound => 'N',
        };
        let result = match fault.result.as_str() {
            "starttls-not-supported" => 's',
            "certificate-host-mismatch" => 'h',
            "certificate-expired" => 'e',
            "certificate-not-trusted" => 't',
            "validation-failure" => 'v',
            "tlsa-invalid" => 'i',
            "dnssec-invalid" => 'd',
            "dane-required" => 'r',
            "sts-webpki-invalid" => 'w',
            other => panic!("{other}"),
        };
        [policy, result]
    };
    reports.iter().flat_map(letters).collect()
}

#[test]
fn handshakes_are_judged_and_reported() {
    for line in OUTCOMES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let security = decide("nothing", cells[0], "secure", cells[1], cells[2]);
        for (certificate, expected) in CERTIFICATE.iter().zip(&cells[3..]) {
            let verdict = security.judge(&handshake(certificate, &security));
            let reports = letters(&verdict.reports);
            let dash = if reports.is_empty() { "" } else { "-" };
            let found = format!("{}{dash}{reports}", outcome(&verdict));
            assert_eq!(found, *expected, "{certificate}: {line}");
        }
    }
}

#[test]
fn failures_have_the_codes_and_words_of_their_cause() {
    let check = |case: [&str; 6], expected: &str| {
        let [asked, wanted, route, dane, sts, certificate] = case;
        let security = decide(asked, wanted, route, dane, sts);
        let verdict = security.judge(&handshake(certificate, &security));
        let Outcome::NextHost(failure) = verdict.outcome else { panic!("{case:?}") };
        assert_eq!(failure.to_rejection().to_string(), expected);
    };
    check(
        ["nothing", "unset", "secure", "bogus-mx", "none", "good"],
        "451 4.4.3 the MX records of receiver.test cannot be validated",
    );
    check(
        ["nothing", "unset", "secure", "bogus-a", "none", "good"],
        "451 4.4.3 the addresses of mx.receiver.test cannot be validated",
    );
    check(
        ["nothing", "unset", "secure", "bogus-tlsa", "none", "good"],
        "451 4.7.0 the TLSA records of mx.receiver.test cannot be validated",
    );
    check(
        ["nothing", "unset", "secure", "none", "mismatch", "good"],
        "451 4.7.0 the MTA-STS policy of receiver.test does not allow mx.receiver.test",
    );
    check(
        ["nothing", "dane", "secure", "none", "none", "good"],
        "451 4.7.0 DANE is configured for mx.receiver.test, and it has no signed TLSA records",
    );
    check(
        ["nothing", "unset", "secure", "ee", "none", "no-tls"],
        "451 4.7.4 the server does not offer TLS (DANE: 1 usable TLSA record)",
    );
    check(
        ["nothing", "unset", "secure", "ee", "none", "other"],
        "451 4.7.5 the server's certificate fits none of its TLSA records \
         (DANE: 1 usable TLSA record)",
    );
    check(
        ["nothing", "unset", "insecure", "ee", "none", "failed"],
        "451 4.7.5 the TLS handshake failed \
         (DANE: 1 usable TLSA record, though the MX records are not signed)",
    );
    check(
        ["nothing", "unset", "secure", "none", "match", "name"],
        "451 4.7.5 the server's certificate is for other names \
         (MTA-STS: its policy is enforced, and allows the host)",
    );
    check(
        ["require", "unset", "secure", "none", "none", "self-signed"],
        "550 5.7.10 nobody trusted vouches for the server's certificate \
         (REQUIRETLS: the host is known for sure)",
    );
    check(
        ["require", "unset", "insecure", "none", "none", "good"],
        "550 5.7.30 the sender requires TLS all the way to receiver.test, \
         but its MX records are not signed",
    );
    check(
        ["require", "none", "secure", "ee", "none", "good"],
        "550 5.7.30 the sender requires TLS all the way to receiver.test, \
         but TLS is switched off for it",
    );
}

#[test]
fn hosts_without_requiretls_get_no_message_that_asks_for_it() {
    let name = host("mx.receiver.test");
    let security = decide("require", "unset", "secure", "ee", "none");
    assert_eq!(security.judge_hello(&name, RequireTls::Offered), Ok(()));
    let failure = security.judge_hello(&name, RequireTls::NotOffered).unwrap_err();
    let text = "550 5.7.30 the sender requires TLS all the way, \
                but mx.receiver.test does not offer REQUIRETLS";
    assert_eq!(failure.to_rejection().to_string(), text);
    let security = decide("nothing", "unset", "secure", "ee", "none");
    assert_eq!(security.judge_hello(&name, RequireTls::NotOffered), Ok(()));
}

#[test]
fn a_message_waits_if_one_host_may_take_it_yet() {
    let failure = |severity, text: &str| Failure {
        severity,
        status: Status::SECURITY,
        text: text.to_owned(),
    };
    let (never, later) = (Severity::Permanent, Severity::Transient);
    let all = [failure(never, "a"), failure(later, "b"), failure(later, "c"), failure(never, "d")];
    let word = |failures: &[Failure]| last_word(failures).map(|failure| failure.text.clone());
    assert_eq!(word(&all).as_deref(), Some("b"));
    assert_eq!(word(&all[3..]).as_deref(), Some("d"));
    assert_eq!(word(&[]), None);
}

#[test]
fn names_are_those_that_signed_records_lead_to() {
    let check = |domain: &str, expanded: &str, route, name: &str, base: &str, expected: &str| {
        let parse = |text: &str| Domain::parse(text).ok();
        let (expanded, base) = (parse(expanded), parse(base));
        let to = Destination {
            domain: &host(domain),
            expanded: expanded.as_ref(),
            route,
            sts: Sts::NoPolicy,
            wanted: None,
            asked: Asked::Nothing,
        };
        let dane = Dane::Usable(vec![record(2)]);
        let (addresses, name) = (DnsState::Secure, host(name));
        let at = MailHost { host: &name, addresses, dane: &dane, base: base.as_ref() };
        let security = Security::decide(&to, &at);
        let names: Vec<_> = security.names().iter().map(ToString::to_string).collect();
        assert_eq!(names.join(" "), expected);
    };
    let secure = Route::Mx(DnsState::Secure);
    let insecure = Route::Mx(DnsState::Insecure);
    check("d.test", "", secure, "mx.test", "", "mx.test d.test");
    check("d.test", "e.test", secure, "mx.test", "", "mx.test d.test e.test");
    check("d.test", "e.test", secure, "mx.test", "h.test", "h.test mx.test d.test e.test");
    check("d.test", "e.test", insecure, "mx.test", "h.test", "h.test mx.test");
    check("d.test", "", Route::Direct, "d.test", "", "d.test");
    check("d.test", "h.test", Route::Direct, "d.test", "h.test", "h.test d.test");
}

#[test]
fn a_trust_anchor_vouches_for_the_names_that_count_and_no_others() {
    let security = decide("nothing", "unset", "secure", "ta", "none");
    let good = handshake("good", &security);
    let Handshake::Done(mut presented) = good else { panic!() };
    let mut judge = |name: &str| {
        presented.names = vec![host(name)];
        outcome(&security.judge(&Handshake::Done(presented.clone())))
    };
    assert_eq!(
        ["mx.receiver.test", "receiver.test", "mx.test"].map(&mut judge),
        ["ok", "ok", "wait"]
    );
    // The name that does for DANE does not for the policy that is tried out.
    let security = decide("nothing", "unset", "secure", "ta", "testing");
    let verdict = security.judge(&Handshake::Done(Presented {
        names: vec![host("receiver.test")],
        dates: Dates::Valid,
        issuer: Issuer::Trusted,
        tlsa: Some(Usage::TrustAnchor),
    }));
    assert_eq!((outcome(&verdict), letters(&verdict.reports).as_str()), ("ok", "Sh"));
}

#[test]
fn messages_ask_by_parameter_or_header() {
    let check = |requiretls: bool, header: &str, expected: Asked| {
        let mut envelope = Envelope::new(ReversePath::Null);
        envelope.requiretls = requiretls;
        let header = HeaderSection::read(&format!("{header}\r\n\r\n").into()).unwrap();
        assert_eq!(Asked::of(&envelope, &header), expected);
    };
    check(false, "Subject: x", Asked::Nothing);
    check(false, "TLS-Required: No", Asked::NoTls);
    check(false, "tls-required:\r\n no ", Asked::NoTls);
    check(false, "TLS-Required: Yes", Asked::Nothing);
    check(false, "TLS-Required: No thanks", Asked::Nothing);
    check(false, "TLS-Required: No\r\nTLS-Required: No", Asked::Nothing);
    check(true, "Subject: x", Asked::RequireTls);
    check(true, "TLS-Required: No", Asked::RequireTls);
}

#[test]
fn a_decision_can_be_read() {
    let check = |wanted, route, dane, sts, expected: &str| {
        assert_eq!(decide("nothing", wanted, route, dane, sts).to_string(), expected);
    };
    check(
        "unset",
        "secure",
        "ee",
        "none",
        "dane 3 1 1 0303030303030303… for mx.receiver.test or receiver.test \
         (DANE: 1 usable TLSA record)",
    );
    check(
        "unset",
        "secure",
        "none",
        "match",
        "verify mx.receiver.test (MTA-STS: its policy is enforced, and allows the host)",
    );
    check(
        "unset",
        "secure",
        "none",
        "testing",
        "may (opportunistic: no policy asks for more), MTA-STS in testing",
    );
    check(
        "unset",
        "secure",
        "unusable",
        "testing-mismatch",
        "encrypt (DANE: 1 TLSA record that cannot be used), MTA-STS in testing does not allow it",
    );
    check(
        "unset",
        "secure",
        "none",
        "mismatch",
        "skip for now (MTA-STS: the MTA-STS policy of receiver.test does not allow \
         mx.receiver.test)",
    );
    check("none", "secure", "ee", "none", "clear (configured: no TLS)");
    check(
        "pinned",
        "secure",
        "ee",
        "none",
        "pinned 3 1 1 0909090909090909… (configured: 1 pinned key)",
    );
    let policies = |dane, sts| {
        let policies = decide("nothing", "unset", "secure", dane, sts).policies();
        policies.iter().map(|policy| policy.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(policies("ee", "testing"), "tlsa sts");
    assert_eq!(policies("unusable", "none"), "tlsa");
    assert_eq!(policies("none", "match"), "sts");
    assert_eq!(policies("none", "unfetchable"), "no-policy-found");
}
