//! Replies, and what they are taken for.

use merpati_types::{Severity, Status};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

#[test]
fn replies_are_classed() {
    let classifier = Classifier::default();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("replies.txt").lines() {
        let Some((class, reply)) = line.split_once('|').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let found = classifier.class(&Symptom::of(reply));
        if found.as_str() != class.trim() {
            wrong.push(format!("{line} => {found}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 100);
}

#[test]
fn every_class_has_a_name_and_a_reply() {
    for class in BounceClass::ALL {
        assert_eq!(class.as_str().parse(), Ok(class));
        let line = format!("\n{class} |");
        assert!(include_str!("replies.txt").contains(&line), "no reply is {class}");
    }
    assert_eq!("Spam".parse::<BounceClass>(), Err(BounceClassError));
}

#[test]
fn diagnostics_are_cut_into_code_status_and_text() {
    let status = Some(Status::NO_MAILBOX.with(Severity::Permanent));
    let check = |text, code, status, rest| {
        assert_eq!(Symptom::of(text), Symptom { code, status, text: rest }, "{text}");
    };
    check("550 5.1.1 gone", Some(550), status, "gone");
    check("550-5.1.1-gone", Some(550), status, "gone");
    check(" 550\r\n", Some(550), None, "\r\n");
    check("5.1.1 gone", None, status, "gone");
    check("5500 gone", None, None, "5500 gone");
    check("gone", None, None, "gone");
    check("", None, None, "");
}

#[test]
fn the_operator_speaks_first() {
    let rules = "# Ours.\n\nrate 550 : come back ... tuesday|friday\n\
        policy *.1.1 5xx\nspam 4.2.1\nsystem 45x : maildrop's\nother : Ünb*\n";
    let classifier = Classifier::new(ClassRules::parse(rules).unwrap());
    let check = |reply, expected| {
        assert_eq!(classifier.class(&Symptom::of(reply)), expected, "{reply}");
    };
    check("550 Come   back, on one FRIDAY.", BounceClass::Rate);
    check("550 come-back 1 2 3 4 5 6 tuesday", BounceClass::Rate);
    check("550 come back 1 2 3 4 5 6 7 tuesday", BounceClass::Other);
    check("550 come back mondays", BounceClass::Other);
    check("554 come back tuesday", BounceClass::Other);
    check("550 5.1.1 gone", BounceClass::Policy);
    check("450 5.1.1 gone", BounceClass::UnknownUser);
    check("5.1.1 gone", BounceClass::UnknownUser);
    check("450 4.2.1 x", BounceClass::Spam);
    check("451 the maildrop\u{2019}s down", BounceClass::System);
    check("550 user ünbekannt unknown", BounceClass::Other);
    // The rest is the table's.
    check("550 no such user", BounceClass::UnknownUser);
}

#[test]
fn rules_that_are_wrong_say_where() {
    let check = |text: &str, line, column, fault| {
        assert_eq!(ClassRules::parse(text), Err(RuleError { line, column, fault }), "{text}");
    };
    check("spam : a\nspma : b", 2, 1, RuleFault::Class);
    check("  : b", 1, 3, RuleFault::Class);
    check("spam", 1, 1, RuleFault::Empty);
    check("spam 5.1", 1, 6, RuleFault::Condition);
    check("spam 5.1.1 *.1.1", 1, 12, RuleFault::Condition);
    check("spam 550 450", 1, 10, RuleFault::Condition);
    check("spam x50", 1, 6, RuleFault::Condition);
    check("spam *.1000.1", 1, 6, RuleFault::Condition);
    check("spam :", 1, 7, RuleFault::Words);
    check("\tspam : a é-b", 1, 11, RuleFault::Words);
    check("spam : a |b", 1, 10, RuleFault::Words);
    check("spam : ... a", 1, 8, RuleFault::Words);
    check("spam : a ...", 1, 7, RuleFault::Words);
    check("spam : a ... b ... c ... d ... e", 1, 28, RuleFault::Gaps);
    check(&"spam : a\n".repeat(10_001), 10_001, 1, RuleFault::TooMany);
    let error = ClassRules::parse("spam : *").unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 8: not a pattern of words");
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(3_463),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_is_classed(text in "\\PC{0,300}|[0-9. -]{0,30}|(550[ -]5\\.1\\.1 \\PC{0,20}){0,9}") {
        let _ = Classifier::default().class(&Symptom::of(&text));
    }

    #[test]
    fn any_rules_are_read(text in "((spam|rate) [0-9x.*]{0,6} ?:?[a-z*|. é']{0,20}\n|\\PC{0,20}){0,4}") {
        let _ = ClassRules::parse(&text);
    }
}
