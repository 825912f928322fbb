//! Reports in the manner of other systems, ours, and what is none.

use merpati_types::{Mailbox, MessageId, Severity, Status, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::{
    About, Action, BounceClass, Classifier, OriginalMessage, Report, ReportedRecipient, Typed,
};

fn read(message: &str) -> Result<ReceivedReport, ReadReportError> {
    ReceivedReport::read(&Bytes::copy_from_slice(message.as_bytes()))
}

fn delivery(message: &str) -> DeliveryReport {
    match read(message) {
        Ok(ReceivedReport::Delivery(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn feedback(message: &str) -> FeedbackReport {
    match read(message) {
        Ok(ReceivedReport::Feedback(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// A multipart of parts, each with its own head.
fn multipart(kind: &str, parts: &[&str]) -> String {
    let head = format!("From: <>\r\nContent-Type: {kind}; boundary=\"=_b\"\r\n\r\nfor people\r\n");
    let parts: String = parts.iter().map(|part| format!("--=_b\r\n{part}\r\n")).collect();
    format!("{head}{parts}--=_b--\r\n")
}

const HUMAN: &str = "Content-Type: text/plain\r\n\r\nSorry.\r\n";
const STATUS: &str = "Content-Type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns; mx.test\r\nOriginal-Envelope-Id: QQ1\r\n\r\n\
    Final-Recipient: rfc822; bob@receiver.test\r\nOriginal-Recipient: rfc822;Bob@old.test\r\n\
    Action: failed\r\nStatus: 5.0.0\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n";
const RETURNED: &str = "Content-Type: message/rfc822\r\n\r\n\
    Message-ID: <1.2@sender.test>\r\nSubject: hi\r\n\r\nbody\r\n";

#[test]
fn a_delivery_report_says_what_became_of_whom() {
    let report = delivery(&multipart("multipart/report", &[HUMAN, STATUS, RETURNED]));
    let typed = |kind: &str, value: &str| Typed { kind: kind.into(), value: value.into() };
    assert_eq!(report.status.envid.as_deref(), Some("QQ1"));
    assert_eq!(report.status.reporting_mta, Some(typed("dns", "mx.test")));
    let [recipient] = &report.status.recipients[..] else { panic!("{report:?}") };
    assert_eq!(recipient.original, Some(typed("rfc822", "Bob@old.test")));
    assert_eq!(recipient.mailbox(), Some(Mailbox::parse("bob@receiver.test").unwrap()));
    assert_eq!(recipient.action, Action::Failed);
    assert_eq!(recipient.status, Status::UNDEFINED.with(Severity::Permanent));
    // The reply knows more than the status.
    assert_eq!(Classifier::default().class(&recipient.symptom()), BounceClass::UnknownUser);
    let returned = report.returned.unwrap();
    assert_eq!(returned.message_id().as_deref(), Some("1.2@sender.test"));
    assert_eq!(returned.headers.find("subject").unwrap().unfolded(), "hi");
}

#[test]
fn reports_are_found_in_all_their_forms() {
    let headers = "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: \
        quoted-printable\r\n\r\nMessage-ID: =3C1.2@sender.test>\r\n";
    let global = STATUS.replace("message/delivery", "message/global-delivery");
    let encoded = "Content-Type: message/global-delivery-status\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n\
        UmVwb3J0aW5nLU1UQTogZG5zOyBteC50ZXN0CgpGaW5hbC1SZWNpcGllbnQ6IHV0Zi04OyBib2JAcmVjZWl2\r\n\
        ZXIudGVzdApBY3Rpb246IGZhaWxlZApTdGF0dXM6IDUuMS4xCg==\r\n";
    let inner = multipart("multipart/report", &[HUMAN, STATUS, RETURNED]);
    let inner = inner.replace("=_b", "=_inner");
    for message in [
        multipart("multipart/report; report-type=delivery-status", &[HUMAN, STATUS, headers]),
        multipart("Multipart/REPORT", &[STATUS, RETURNED]),
        multipart("multipart/report", &[RETURNED, HUMAN, &global]),
        multipart("multipart/report", &[HUMAN, encoded, RETURNED]),
        // What a mailing list's software or a scanner has wrapped.
        multipart("multipart/mixed", &[HUMAN, &inner, HUMAN]),
        multipart("multipart/mixed", &[HUMAN, STATUS, RETURNED]),
    ] {
        for message in [message.clone(), message.replace("\r\n", "\n")] {
            let report = delivery(&message);
            assert_eq!(report.status.recipients[0].address.value, "bob@receiver.test", "{message}");
            let id = report.returned.and_then(|returned| returned.message_id());
            assert_eq!(id.as_deref(), Some("1.2@sender.test"), "{message}");
        }
    }
}

#[test]
fn broken_reports_are_read_as_far_as_they_make_sense() {
    use Action::{Delayed, Delivered, Failed};
    let check = |status: &str, expected: &[(&str, Action, &str)]| {
        let part = format!("Content-Type: message/delivery-status\r\n\r\n{status}");
        let report = delivery(&multipart("multipart/report", &[&part]));
        let found = report.status.recipients.iter();
        let found: Vec<_> = found
            .map(|found| (found.address.value.as_str(), found.action, found.status.to_string()))
            .collect();
        let expected =
            expected.iter().map(|(value, action, status)| (*value, *action, (*status).to_owned()));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{status}");
    };
    // Everything in one group.
    check(
        "Reporting-MTA: dns; mx.test\r\nFinal-Recipient: rfc822; b@test\r\nAction: failed\r\n\
         Status: 5.1.1\r\n",
        &[("b@test", Failed, "5.1.1")],
    );
    // No group of the message, no types, odd lines.
    check(
        "Final-Recipient: b@test\r\nwhat\r\nAction: FAILED (sorry)\r\n\r\n\
         Final-Recipient: <c@test>\r\nStatus: 4.2.2\r\n",
        &[("b@test", Failed, "5.0.0"), ("<c@test>", Delayed, "4.2.2")],
    );
    // What is missing is in the reply.
    check(
        "Original-Recipient: rfc822;b@test\r\nStatus: failed\r\n\
         Diagnostic-Code: smtp;550 5.2.2 full\r\n",
        &[("b@test", Failed, "5.2.2")],
    );
    check(
        "X: y\r\n\r\n\r\n continued\r\nFinal-Recipient: rfc822;b@test\r\nStatus: 2.0.0\r\n\r\n\
         Final-Recipient: rfc822;of whom nothing is said\r\n\r\nAction: failed\r\n",
        &[("b@test", Delivered, "2.0.0")],
    );
    let part = "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.test\r\n";
    let error = read(&multipart("multipart/report", &[part])).unwrap_err();
    assert_eq!(error, ReadReportError::Status(StatusPartError::NoRecipient));
    let mut bytes = multipart("multipart/report", &[STATUS]).replace("no such", "XX").into_bytes();
    let place = bytes.windows(2).position(|pair| pair == b"XX").unwrap();
    bytes[place] = 0xFF;
    assert!(ReceivedReport::read(&Bytes::from(bytes)).is_ok());
}

#[test]
fn a_feedback_report_says_who_complains_about_what() {
    // In the manner of RFC 5965 §B.2.
    let part = "Content-Type: message/feedback-report\r\n\r\n\
        Feedback-Type: Abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n\
        Original-Mail-From: <a@sender.test>\r\nOriginal-Rcpt-To: <bob@receiver.test>\r\n\
        Original-Rcpt-To: carol@receiver.test\r\nReceived-Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
        Source-IP: 192.0.2.1\r\n\r\nReporting-MTA: dns; mx.receiver.test\r\n\
        Authentication-Results: mx.receiver.test;\r\n  spf=fail\r\n\
        Reported-Domain: sender.test\r\nReported-URI: http://sender.test/\r\nIncidents: 3\r\n";
    let kind = "multipart/report; report-type=feedback-report";
    let report = feedback(&multipart(kind, &[HUMAN, part, RETURNED]));
    assert_eq!((report.kind, report.kind.as_str()), (FeedbackKind::Abuse, "abuse"));
    assert_eq!(report.user_agent.as_deref(), Some("SomeGenerator/1.0"));
    assert_eq!(report.mail_from.as_deref(), Some("a@sender.test"));
    assert_eq!(report.recipients, ["bob@receiver.test", "carol@receiver.test"]);
    assert_eq!(report.arrived.as_deref(), Some("Mon, 23 Nov 2026 08:00:00 +0000"));
    assert_eq!(report.source, Some([192, 0, 2, 1].into()));
    assert_eq!(report.reporting_mta.as_deref(), Some("dns; mx.receiver.test"));
    assert_eq!(report.incidents, 3);
    assert_eq!(report.domains, ["sender.test"]);
    assert_eq!(report.uris, ["http://sender.test/"]);
    assert_eq!(report.authentication, ["mx.receiver.test;  spf=fail"]);
    assert_eq!(report.returned.unwrap().message_id().as_deref(), Some("1.2@sender.test"));
    for (text, kind) in [
        ("auth-failure", FeedbackKind::AuthFailure),
        ("FRAUD", FeedbackKind::Fraud),
        ("not-spam", FeedbackKind::NotSpam),
        ("virus", FeedbackKind::Virus),
        ("opt-out", FeedbackKind::Other),
    ] {
        let part =
            format!("Content-Type: message/feedback-report\r\n\r\nFeedback-Type: {text}\r\n");
        let report = feedback(&multipart("multipart/report", &[&part]));
        assert_eq!((report.kind, report.incidents, report.source), (kind, 1, None));
    }
    let part = "Content-Type: message/feedback-report\r\n\r\nVersion: 1\r\n";
    let error = read(&multipart("multipart/report", &[part])).unwrap_err();
    assert_eq!(error, ReadReportError::NoFeedbackType);
}

#[test]
fn other_mail_is_no_report() {
    let forwarded = multipart("multipart/report", &[HUMAN, STATUS, RETURNED]).replace("=_b", "=_i");
    let forwarded = format!("Content-Type: message/rfc822\r\n\r\n{forwarded}");
    let nested = |depth: usize| {
        (0..depth).fold(STATUS.to_owned(), |inner, level| {
            multipart("multipart/mixed", &[&inner]).replace("=_b", &format!("=_{level}_"))
        })
    };
    let many = vec![HUMAN; PARTS_LIMIT];
    let many = [&many[..], &[STATUS]].concat();
    for message in [
        "",
        "Subject: hi\r\n\r\nReporting-MTA: dns; mx.test\r\n",
        "Content-Type: multipart/report\r\n\r\n--\r\n",
        &multipart("multipart/mixed", &[HUMAN, &forwarded]),
        &multipart("text/plain", &[HUMAN, STATUS]),
        &nested(DEPTH_LIMIT + 1),
        &multipart("multipart/report", &many),
    ] {
        assert!(matches!(read(message), Err(ReadReportError::NotAReport)), "{message}");
    }
    assert!(read(&nested(DEPTH_LIMIT)).is_ok());
    assert!(read(&multipart("multipart/report", &many[1..])).is_ok());
    let large = format!("{STATUS}{}", "X: y\r\n".repeat(PART_LIMIT / 6 + 1));
    let error = read(&multipart("multipart/report", &[&large])).unwrap_err();
    assert!(matches!(error, ReadReportError::TooLarge { limit: PART_LIMIT, .. }));
    let error = ReceivedReport::read(&Bytes::from(vec![b'x'; MESSAGE_LIMIT + 1])).unwrap_err();
    assert!(matches!(error, ReadReportError::TooLarge { limit: MESSAGE_LIMIT, .. }));
}

fn own(recipients: usize) -> Report {
    let about = About {
        reporting_mta: "relay.test".to_owned(),
        message: MessageId::from_u64(7),
        seed: 9,
        to: Mailbox::parse("alice@sender.test").unwrap(),
        envid: None,
        ret: None,
        arrived: Timestamp::from_millis(0),
        received_from: None,
        utf8: false,
        now: Timestamp::from_millis(60_000),
    };
    let recipient = |number| ReportedRecipient {
        address: Mailbox::parse(&format!("bob{number}@receiver.test")).unwrap(),
        orcpt: None,
        action: Action::Failed,
        status: Status::MAILBOX_FULL.with(Severity::Permanent),
        class: BounceClass::MailboxFull,
        remote_mta: Some("mx.receiver.test".to_owned()),
        diagnostic: "552 5.2.2 mailbox full".to_owned(),
        retry_until: None,
    };
    let recipients: Vec<_> = (0..recipients).map(recipient).collect();
    let headers = b"Message-ID: <1.2@sender.test>\r\nSubject: hi\r\n";
    Report::write(&about, &recipients, OriginalMessage { headers, whole: None })
}

#[test]
fn our_own_are_read() {
    let text = String::from_utf8(own(3).bytes).unwrap();
    let report = delivery(&text);
    assert_eq!(report.status.recipients.len(), 3);
    for (number, recipient) in report.status.recipients.iter().enumerate() {
        assert_eq!(recipient.address.value, format!("bob{number}@receiver.test"));
        assert_eq!(Classifier::default().class(&recipient.symptom()), BounceClass::MailboxFull);
    }
    assert_eq!(report.returned.unwrap().message_id().as_deref(), Some("1.2@sender.test"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(5_965),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ReceivedReport::read(&Bytes::from(bytes));
    }

    /// A report with octets changed, lost or doubled is read, or not, and harms nobody.
    #[test]
    fn damaged_reports_are_read(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..30),
    ) {
        let mut bytes = own(2).bytes;
        for (place, byte, how) in changes {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, byte),
            }
        }
        let _ = ReceivedReport::read(&Bytes::from(bytes));
    }
}
