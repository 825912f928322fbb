//! Bounds and what is queued, as data.

use super::*;
use crate::fixture::{Fixture, account};

fn bound(messages: impl Into<Option<u64>>, bytes: impl Into<Option<u64>>) -> Bound {
    Bound { messages: messages.into(), bytes: bytes.into() }
}

/// A queue with so many messages and octets in one share, and nothing in any other.
fn usage(share: &'static str, messages: u64, bytes: u64) -> Usage {
    let usage = Usage::default();
    usage.connect(move |asked| {
        let asked = match asked {
            Share::Whole => "whole".to_owned(),
            Share::Account(login) => format!("account {login}"),
            Share::Sender(address) => format!("sender {address}"),
            Share::SenderDomain(domain) => format!("from {domain}"),
            Share::NextHop(hop) => format!("to {hop}"),
        };
        if asked == share { Queued { messages, bytes } } else { Queued::default() }
    });
    usage
}

const FULL: &str = "452 4.3.1 the queue is full, try again later";
const ACCOUNT: &str = "452 4.2.2 too much mail of this account is queued, try again later";
const SENDER: &str = "452 4.2.2 too much mail of this sender is queued, try again later";
const DOMAIN: &str = "452 4.2.2 too much mail of this sender's domain is queued, try again later";
const HOP: &str = "452 4.2.2 too much mail for this domain is queued, try again later";

fn all(bound: Bound) -> QuotaConfig {
    QuotaConfig {
        whole: bound,
        account: bound,
        sender: bound,
        sender_domain: bound,
        recipient_domain: bound,
        when_full: WhenFull::Defer,
    }
}

#[tokio::test]
async fn a_sender_that_would_exceed_a_bound_is_deferred() {
    for (share, reply) in [
        ("whole", FULL),
        ("account login", ACCOUNT),
        ("sender a@sender.test", SENDER),
        ("from sender.test", DOMAIN),
    ] {
        for (bound, queued, declared, fits) in [
            (bound(10, None), (9, 1_000), None, true),
            (bound(10, None), (10, 0), None, false),
            (bound(10, None), (11, 0), None, false),
            (bound(0, None), (0, 0), None, false),
            (bound(None, 100), (50, 60), Some(40), true),
            (bound(None, 100), (50, 60), Some(41), false),
            (bound(None, 100), (50, 99), None, true),
            (bound(None, 100), (50, 100), None, false),
            (bound(None, 100), (50, 0), Some(u64::MAX), false),
            (bound(10, 100), (9, 99), Some(1), true),
            (bound(10, 100), (9, 100), Some(1), false),
            (bound(10, 100), (10, 1), Some(1), false),
            (bound(None, None), (u64::MAX, u64::MAX), Some(1), true),
        ] {
            let mut fixture = Fixture::of("192.0.2.1");
            fixture.conversation.account = Some(account(&[]));
            fixture.transaction.declared_size = declared;
            let quota = Quota::new(all(bound), usage(share, queued.0, queued.1));
            // What an empty share has no room for is told of the first, the whole.
            let by_any = bound.messages == Some(0) || declared == Some(u64::MAX);
            let reply = if by_any { FULL } else { reply };
            let expected = if fits { "proceed" } else { reply };
            let answer = fixture.mail(quota).await;
            assert_eq!(answer, expected, "{share} {bound:?} {queued:?} {declared:?}");
        }
    }
}

#[tokio::test]
async fn only_what_has_a_bound_is_bounded() {
    let none = QuotaConfig::default();
    let most = bound(1, None);
    for (config, sender, share, expected) in [
        (none, "<a@sender.test>", "sender a@sender.test", "proceed"),
        (QuotaConfig { whole: most, ..none }, "<a@sender.test>", "from sender.test", "proceed"),
        (
            QuotaConfig { sender: most, ..none },
            "<b@sender.test>",
            "sender a@sender.test",
            "proceed",
        ),
        (QuotaConfig { sender: most, ..none }, "<a@sender.test>", "sender a@sender.test", SENDER),
        (QuotaConfig { account: most, ..none }, "<a@sender.test>", "account login", "proceed"),
        // A domain is one however it is written.
        (
            QuotaConfig { sender_domain: most, ..none },
            "<a@b\u{fc}cher.test>",
            "from xn--bcher-kva.test",
            DOMAIN,
        ),
        // Reports have no sender; all of them together are not one.
        (all(most), "<>", "sender ", "proceed"),
        (all(most), "<>", "from ", "proceed"),
        (all(most), "<>", "whole", FULL),
    ] {
        let quota = Quota::new(config, usage(share, 1, 1));
        let answer = Fixture::of("192.0.2.1").sender(sender).mail(quota).await;
        assert_eq!(answer, expected, "{config:?} {sender} {share}");
    }
}

#[tokio::test]
async fn a_full_queue_can_end_sessions() {
    let config = QuotaConfig { when_full: WhenFull::Close, ..all(bound(5, None)) };
    let answer = Fixture::of("192.0.2.1").mail(Quota::new(config, usage("whole", 5, 0))).await;
    assert_eq!(answer, "disconnect: 421 4.3.2 the queue is full, try again later");
}

#[tokio::test]
async fn a_recipients_domain_has_a_bound_of_its_own() {
    for (recipient, messages, expected) in [
        ("x@far.test", 5, HOP),
        ("x@FAR.test", 5, HOP),
        ("x@sub.far.test", 5, "550 5.7.1 relay access denied"),
        ("x@far.test", 4, "550 5.7.1 relay access denied"),
    ] {
        let quota = Quota::new(all(bound(5, None)), usage("to far.test", messages, 0));
        let (answer, _) = Fixture::of("192.0.2.1").rcpt(quota, recipient).await;
        assert_eq!(answer, expected, "{recipient} {messages}");
    }
}

#[tokio::test]
async fn a_message_counts_with_the_size_it_turns_out_to_have() {
    let message = "From: a@sender.test\r\n\r\nhello\r\n";
    let size = message.len() as u64;
    for (declared, queued, expected) in [
        (None, 100 - size, "proceed"),
        (None, 101 - size, SENDER),
        (Some(1), 100 - size, "proceed"),
        (Some(1), 101 - size, SENDER),
        // It was counted so at MAIL.
        (Some(size), 101 - size, "proceed"),
    ] {
        let mut fixture = Fixture::of("192.0.2.1");
        fixture.transaction.declared_size = declared;
        let usage = usage("sender a@sender.test", 1, queued);
        let quota = Quota::new(all(bound(None, 100)), usage);
        let (answer, _) = fixture.message(quota, message).await;
        assert_eq!(answer, expected, "{declared:?} {queued}");
    }
}

#[tokio::test]
async fn without_a_queue_to_ask_nobody_is_let_through() {
    let quota = Quota::new(all(bound(5, None)), Usage::default());
    let answer = Fixture::of("192.0.2.1").mail(quota).await;
    assert!(answer.starts_with("451 4.3.0"), "{answer}");
}

#[test]
fn readiness_can_ask_whether_the_whole_is_full() {
    for (config, share, messages, full) in [
        (all(bound(10, None)), "whole", 10, true),
        (all(bound(10, None)), "whole", 9, false),
        (all(bound(10, None)), "account login", 10, false),
        (QuotaConfig { whole: bound(None, None), ..all(bound(10, None)) }, "whole", 10, false),
    ] {
        let usage = usage(share, messages, 0);
        let _quota = Quota::new(config, usage.clone());
        assert_eq!(usage.is_full(), full, "{config:?} {share} {messages}");
    }
    assert!(!Usage::default().is_full());
}
