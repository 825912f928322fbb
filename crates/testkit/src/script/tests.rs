//! Scripts that cannot be read, and conversations that go another way.

use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Vec<Case>, String> {
    Case::parse(Path::new("x.txt"), text).map_err(|error| error.to_string())
}

async fn run(text: &str) -> Result<(), String> {
    for case in parse(text)? {
        run_machine(&case).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

const HELLO: &str = "S: 220 *\nC: EHLO client.test\nS* 250\n";

#[test]
fn titles_part_cases_that_share_what_stands_before() {
    let cases = parse("profile lmtp\n=== one\nset size 9\nC: A\n=== two\nC: B\nC: C").unwrap();
    let told: Vec<_> = cases.iter().map(|case| (case.title.as_str(), case.steps.len())).collect();
    assert_eq!(told, [("one", 1), ("two", 2)]);
    assert_eq!(cases[0].setup.config.limits.message, 9);
    assert!(cases.iter().all(|case| case.setup.profile() == Profile::Lmtp));
    assert!(!cases[0].runs_on(Runner::Server) && cases[1].runs_on(Runner::Server));
    assert_eq!(parse("C: A").unwrap()[0].title, "x");
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    for (text, expected) in [
        ("\nX: y", "x.txt:2 (x): no such line: X: y"),
        ("profile moon", "x.txt:1 (x): no such profile: profile moon"),
        ("set size", "x.txt:1 (x): a value is missing: set size"),
        ("set size many", "x.txt:1 (x): a number is needed: set size many"),
        ("+ 3d", "x.txt:1 (x): a time is a number with ms, s, m or h: + 3d"),
        ("C! \\q", "x.txt:1 (x): unknown escape: C! \\q"),
        ("? rcpt <a> => no", "x.txt:1 (x): a rule is STAGE SUBJECT -> VERDICT: ? rcpt <a> => no"),
        (
            "? data -> 550 4.1.1 x",
            "x.txt:1 (x): a refusal is such as `550 5.1.1 no such user`: ? data -> 550 4.1.1 x",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_conversation_that_goes_another_way_fails() {
    run(&format!("{HELLO}S+ PIPELINING\nS- AUTH*\nC: NOOP\nS: 250 *\nS. waits")).await.unwrap();
    for (step, reason) in [
        ("S: 250 *", "`250 *` was expected, not silence"),
        ("C: NOOP\nS: 500 *", "`500 *` was expected, not `250 2.0.0 ok`"),
        ("C: NOOP\nS. closed", "a close was expected, not `250 2.0.0 ok`"),
        ("C: NOOP\nS. waits", "silence was expected, not `250 2.0.0 ok`"),
        ("C: NOOP\nS* 251", "a reply 251 was expected, not `250 2.0.0 ok`"),
        ("S+ AUTH", "no line of the reply is `AUTH`"),
        ("S- SIZE *", "the reply has `SIZE 52428800`"),
        ("M! x", "no message was kept"),
        ("C. handshake", "the connection broke: no handshake was asked for"),
    ] {
        let error = run(&format!("{HELLO}{step}")).await.unwrap_err();
        assert!(error.contains(reason), "{step}: {error}");
    }
}
