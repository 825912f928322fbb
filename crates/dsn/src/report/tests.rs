//! Reports, read back by another reader and by ours.

use mail_parser::{Message, MessageParser, MimeHeaders};
use merpati_types::{Severity, Status};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::status::{DeliveryStatus, Typed};

fn about() -> About {
    About {
        reporting_mta: "relay.test".to_owned(),
        message: MessageId::from_u64(7),
        seed: 9,
        to: Mailbox::parse("alice@sender.test").unwrap(),
        envid: Some(Envid::from_xtext("QQ+2B1").unwrap()),
        ret: None,
        arrived: Timestamp::from_millis(0),
        received_from: Some("client.test".to_owned()),
        utf8: false,
        now: Timestamp::from_millis(60_000),
    }
}

fn failed() -> ReportedRecipient {
    ReportedRecipient {
        address: Mailbox::parse("bob@receiver.test").unwrap(),
        orcpt: Some(Orcpt::from_parameter("rfc822;Bob@old.test").unwrap()),
        action: Action::Failed,
        status: Status::NO_MAILBOX.with(Severity::Permanent),
        class: BounceClass::Other,
        remote_mta: Some("mx.receiver.test".to_owned()),
        diagnostic: "550 5.1.1 no such user\r\nX-Evil: yes".to_owned(),
        retry_until: None,
    }
}

const ORIGINAL: &[u8] = b"Subject: hi\r\n\r\nbody\nbare\r\n";

fn original() -> OriginalMessage<'static> {
    OriginalMessage { headers: b"Subject: hi\r\n", whole: Some(ORIGINAL) }
}

#[test]
fn another_reader_finds_the_parts() {
    let full = About { ret: Some(Ret::Full), ..about() };
    let report = Report::write(&full, &[failed()], original());
    let message = MessageParser::default().parse(&report.bytes).unwrap();
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("alice@sender.test"));
    let kind = message.content_type().unwrap();
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert_eq!(message.parts.len(), 4);
    let status = String::from_utf8_lossy(message.parts[2].contents()).into_owned();
    for line in [
        "Original-Envelope-Id: QQ+1\r\n",
        "Reporting-MTA: dns; relay.test\r\n",
        "Received-From-MTA: dns; client.test\r\n",
        "Original-Recipient: rfc822; Bob@old.test\r\n",
        "Final-Recipient: rfc822; bob@receiver.test\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "Remote-MTA: dns; mx.receiver.test\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user X-Evil: yes\r\n",
    ] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    let returned = message.parts[3].message().unwrap();
    assert_eq!(returned.subject(), Some("hi"));
    assert!(!report.eight_bit);
}

#[test]
fn nobody_is_told_of_a_report() {
    let report = Report::write(&about(), &[failed()], original());
    let envelope = report.envelope(about().to);
    assert_eq!(envelope.sender, ReversePath::Null);
    assert_eq!(told(&envelope), None);
    let recipient = &envelope.recipients[0];
    assert_eq!(recipient.address, about().to);
    for action in [Action::Failed, Action::Delayed, Action::Delivered] {
        assert!(!crate::wanted(recipient.notify, action));
    }
    let alice = Envelope::new(ReversePath::Mailbox(about().to));
    assert_eq!(told(&alice), Some(&about().to));
    // What it needs of its way is in the envelope.
    assert_eq!((envelope.body, envelope.smtputf8), (BodyType::SevenBit, false));
    let utf8 = About { to: Mailbox::parse("álice@sender.test").unwrap(), ..about() };
    let envelope = Report::write(&utf8, &[failed()], original()).envelope(utf8.to);
    assert_eq!((envelope.body, envelope.smtputf8), (BodyType::EightBitMime, true));
}

#[test]
fn no_bare_line_end_and_no_foreign_field_gets_in() {
    let full = About { ret: Some(Ret::Full), ..about() };
    let text = String::from_utf8(Report::write(&full, &[failed()], original()).bytes).unwrap();
    let without = text.replace("\r\n", "");
    assert!(!without.contains(['\r', '\n']), "a bare CR or LF is in {text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.starts_with("X-Evil")));
}

#[test]
fn only_failures_return_the_body_and_only_if_asked() {
    let body = |about: &About, recipient| {
        let report = Report::write(about, &[recipient], original());
        String::from_utf8(report.bytes).unwrap().contains("bare")
    };
    let full = About { ret: Some(Ret::Full), ..about() };
    let delayed = ReportedRecipient { action: Action::Delayed, ..failed() };
    assert!(body(&full, failed()));
    assert!(!body(&full, delayed));
    assert!(!body(&about(), failed()));
}

fn parsed(report: &Report) -> Message<'_> {
    MessageParser::default().parse(&report.bytes).expect("a report is a message")
}

fn status(report: &Report) -> DeliveryStatus {
    DeliveryStatus::parse(parsed(report).parts[2].contents()).expect("its second part is a status")
}

fn kind_of_part(report: &Report, place: usize) -> String {
    let message = parsed(report);
    let kind = message.parts[place].content_type().unwrap();
    format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default())
}

/// Lines end with CRLF only and are no longer than they may be; ASCII unless declared.
fn check_form(report: &Report) {
    let text = report.bytes.strip_suffix(b"\r\n").expect("the last line ends");
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 998, "{} octets in a line", line.len());
        assert!(!line.contains(&b'\r') && !line.contains(&0));
    }
    let ends = |byte| report.bytes.iter().filter(|other| **other == byte).count();
    let pairs = report.bytes.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!((ends(b'\r'), ends(b'\n')), (pairs, pairs));
    assert_eq!(report.eight_bit, !report.bytes.is_ascii());
    assert!(report.utf8 || !report.eight_bit);
}

#[test]
fn utf8_has_its_own_forms() {
    let utf8 = About { utf8: true, to: Mailbox::parse("álice@sender.test").unwrap(), ..about() };
    let bob = Mailbox::parse("bób@bücher.test").unwrap();
    let report =
        Report::write(&utf8, &[ReportedRecipient { address: bob, ..failed() }], original());
    check_form(&report);
    assert!(report.eight_bit && report.utf8);
    assert_eq!(kind_of_part(&report, 2), "message/global-delivery-status");
    assert_eq!(kind_of_part(&report, 3), "message/global-headers");
    let text = String::from_utf8_lossy(&report.bytes);
    for line in ["To: álice@sender.test", "Final-Recipient: utf-8; bób@bücher.test"] {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is not in {text}");
    }
    // RFC 2045 §6.4: whatever holds such a part says so itself.
    let head = text.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("Content-Transfer-Encoding: 8bit"), "{head}");
    // An address that has no other form needs it even if nobody has said so.
    let report = Report::write(&About { utf8: false, ..utf8 }, &[failed()], original());
    assert!(report.utf8);
}

#[test]
fn a_report_asks_for_no_more_than_it_needs() {
    let asked = About { utf8: true, ..about() };
    let report = Report::write(&asked, &[failed()], original());
    assert!(!report.utf8 && !report.eight_bit);
    assert_eq!(kind_of_part(&report, 2), "message/delivery-status");
}

#[test]
fn what_is_beyond_ascii_passes_as_ascii() {
    let recipient = ReportedRecipient {
        address: Mailbox::parse("bób+tag@bücher.test").unwrap(),
        orcpt: Some(Orcpt::from_parameter("utf-8;bób@bücher.test").unwrap()),
        diagnostic: "550 není tu".to_owned(),
        ..failed()
    };
    let headers = "Subject: dobrý den\r\n".as_bytes();
    let whole = ["Subject: dobrý den\r\n\r\n".as_bytes(), b"body\r\n"].concat();
    let original = OriginalMessage { headers, whole: Some(&whole) };
    let full = About { ret: Some(Ret::Full), ..about() };
    let report = Report::write(&full, &[recipient], original);
    check_form(&report);
    assert!(!report.utf8 && !report.eight_bit);
    let read = status(&report);
    let typed = |kind: &str, value: &str| Typed { kind: kind.into(), value: value.into() };
    assert_eq!(read.recipients[0].address, typed("utf-8", "bób+tag@xn--bcher-kva.test"));
    assert_eq!(read.recipients[0].original, Some(typed("utf-8", "bób@bücher.test")));
    assert_eq!(read.recipients[0].diagnostic, Some(typed("smtp", "550 nen? tu")));
    // Words for people are quoted as they are, and so are the headers.
    let message = parsed(&report);
    assert!(message.body_text(0).unwrap().contains("550 není tu"));
    assert_eq!(kind_of_part(&report, 3), "text/rfc822-headers");
    assert_eq!(message.parts[3].contents(), headers);
}

#[test]
fn only_replies_are_quoted_as_smtp() {
    let check =
        |remote: Option<&str>, diagnostic: &str, expected: [Option<&str>; 2], human: &str| {
            let recipient = ReportedRecipient {
                remote_mta: remote.map(str::to_owned),
                diagnostic: diagnostic.to_owned(),
                ..failed()
            };
            let report = Report::write(&about(), &[recipient], original());
            let [read] = &status(&report).recipients[..] else { panic!("one recipient") };
            let shown = |typed: &Option<Typed>| {
                typed.as_ref().map(|typed| format!("{}; {}", typed.kind, typed.value))
            };
            let found = [shown(&read.remote_mta), shown(&read.diagnostic)];
            assert_eq!([found[0].as_deref(), found[1].as_deref()], expected, "{diagnostic}");
            let message = parsed(&report);
            let text = message.body_text(0).unwrap();
            let said = text.split_once("<bob@receiver.test>").unwrap().1;
            // What closes the report is not of the recipient.
            let said = said.split_once("\r\n\r\n").map_or(said, |(said, _)| said);
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(said, human);
        };
    check(
        Some("mx.test"),
        "550-no",
        [Some("dns; mx.test"), Some("smtp; 550-no")],
        "mx.test said: 550-no",
    );
    check(
        Some("192.0.2.1"),
        "connection refused",
        [Some("dns; [192.0.2.1]"), Some("x-merpati; connection refused")],
        "[192.0.2.1]: connection refused",
    );
    check(Some("/var/mail"), "full", [None, Some("x-merpati; full")], "full");
    check(None, "550 5.1.2 gone", [None, Some("x-merpati; 550 5.1.2 gone")], "550 5.1.2 gone");
    check(None, "", [None, None], "");
}

#[test]
fn a_message_that_has_the_boundary_does_not_end_a_part() {
    let first = Report::write(&about(), &[failed()], original());
    let text = String::from_utf8_lossy(&first.bytes).into_owned();
    let boundary = text.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    let whole = format!("Subject: hi\r\n\r\n--{boundary}--\r\nrest\r\n");
    let original = OriginalMessage { headers: b"Subject: hi\r\n", whole: Some(whole.as_bytes()) };
    let full = About { ret: Some(Ret::Full), ..about() };
    let report = Report::write(&full, &[failed()], original);
    let returned = parsed(&report).parts[3].message().unwrap().body_text(0).unwrap().into_owned();
    assert!(returned.contains("rest"), "{returned}");
}

#[test]
fn large_and_binary_messages_come_back_as_headers() {
    let full = About { ret: Some(Ret::Full), ..about() };
    let kind = |body: &[u8]| {
        let whole = [b"Subject: hi\r\n\r\n", body].concat();
        let original = OriginalMessage { whole: Some(&whole), ..original() };
        let report = Report::write(&full, &[failed()], original);
        check_form(&report);
        kind_of_part(&report, 3)
    };
    assert_eq!(kind(b"x\r\n"), "message/rfc822");
    assert_eq!(kind(&[b'x'; 5_000]), "message/rfc822");
    assert_eq!(kind(&[b'x'; RETURN_LIMIT]), "text/rfc822-headers");
    assert_eq!(kind(b"\0\r\n"), "text/rfc822-headers");
    assert_eq!(kind("é".as_bytes()), "text/rfc822-headers");
}

#[test]
fn other_words_can_be_used() {
    let text = "[language]\ncs\n[from]\nPoštovní systém (M)\n\
        [failed.subject]\nZpráva z {arrived} nebyla doručena\n\
        [failed.opening]\nZprávu {id} od {sender} se nepodařilo doručit.\n\nJe nám líto.\n\
        [reason.unknown-user]\nSchránka {recipient} není ({status}).\n[said]\n{remote}:\n";
    let wording = Wording::parse(text, Wording::english()).unwrap();
    let recipient = ReportedRecipient { class: BounceClass::UnknownUser, ..failed() };
    let report = Report::write_in(&wording, &about(), std::slice::from_ref(&recipient), original());
    check_form(&report);
    assert!(!report.eight_bit);
    let message = parsed(&report);
    let subject = "Zpráva z Thu, 1 Jan 1970 00:00:00 +0000 nebyla doručena";
    assert_eq!(message.subject(), Some(subject));
    let name = message.from().unwrap().first().unwrap().name().map(str::to_owned);
    assert_eq!(name.as_deref(), Some("Poštovní systém (M)"));
    let text = message.body_text(0).unwrap();
    for words in [
        "Zprávu 0000000000007 od alice@sender.test se nepodařilo doručit.\r\n\r\nJe nám líto.",
        "<bob@receiver.test>\r\n    Schránka bob@receiver.test není (5.1.1).",
        "    Look for a typing mistake",
        "    mx.receiver.test:\r\n    550 5.1.1 no such user",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let bytes = String::from_utf8(report.bytes.clone()).unwrap();
    assert!(bytes.contains("\r\nContent-Language: cs\r\n"), "{bytes}");
    assert!(bytes.contains("\r\nContent-Transfer-Encoding: quoted-printable\r\n"));
    // Where the report may be UTF-8, the words are as they are.
    let utf8 = About { utf8: true, to: Mailbox::parse("álice@sender.test").unwrap(), ..about() };
    let report = Report::write_in(&wording, &utf8, &[recipient], original());
    check_form(&report);
    let bytes = String::from_utf8(report.bytes).unwrap();
    for words in [
        "\r\nFrom: \"Poštovní systém (M)\" <MAILER-DAEMON@relay.test>\r\n",
        "nebyla doručena",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
        "Je nám líto.",
    ] {
        assert!(bytes.contains(words), "{words} is not in {bytes}");
    }
}

#[test]
fn people_are_told_what_happened_and_what_to_do() {
    let said = |action, class, wording| {
        let recipient = ReportedRecipient { action, class, ..failed() };
        let report = Report::write_in(wording, &about(), &[recipient], original());
        check_form(&report);
        let text = parsed(&report).body_text(0).unwrap().into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (english, indonesian) = (Wording::english(), Wording::indonesian());
    let full = BounceClass::MailboxFull;
    let happened = ["The mailbox of the recipient is full.", "Kotak surat penerima penuh."];
    let to_do = ["send the message again once there is room", "kirim ulang pesan setelah ada"];
    for (place, wording) in [english, indonesian].into_iter().enumerate() {
        let text = said(Action::Failed, full, wording);
        assert!(text.contains(happened[place]) && text.contains(to_do[place]), "{text}");
        let text = said(Action::Delayed, full, wording);
        assert!(text.contains(happened[place]) && !text.contains(to_do[place]), "{text}");
        let text = said(Action::Relayed, full, wording);
        assert!(!text.contains(happened[place]) && !text.contains(to_do[place]), "{text}");
    }
    let relayed = "handed to a system that will not report on it";
    assert!(said(Action::Relayed, full, english).contains(relayed));
    assert!(said(Action::Delivered, full, english).contains("It has been delivered."));
    assert!(said(Action::Expanded, full, english).contains("stands for several"));
}

/// Text of all kinds: what harms headers, what folds, and what is beyond ASCII.
fn words() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9. ]{0,12}",
        1 => "[\\x00-\\x7F]{0,6}",
        1 => "[a-zé\u{43f}\u{1F54A}\u{85}\u{2028}]{0,6}",
        1 => Just("\r\nBcc: x@evil.test\r\n\r\n".to_owned()),
        1 => Just("x".repeat(400)),
        1 => Just("é".repeat(300)),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn mailbox() -> impl Strategy<Value = Mailbox> {
    let content = prop_oneof!["[a-z.+\\\\\" ]{1,16}", "[a-zé\u{43f}{}=\\\\]{1,16}"];
    let host = prop_oneof![
        Just("receiver.test"),
        Just("bücher.test"),
        Just("[192.0.2.1]"),
        Just("[IPv6:2001:db8::1]"),
    ];
    (content, host).prop_map(|(content, host)| {
        let local = merpati_types::LocalPart::from_content(&content).unwrap();
        Mailbox::new(local, merpati_types::Host::parse(host).unwrap())
    })
}

fn recipient() -> impl Strategy<Value = ReportedRecipient> {
    let action = prop::sample::select(vec![
        Action::Failed,
        Action::Delayed,
        Action::Delivered,
        Action::Relayed,
        Action::Expanded,
    ]);
    let remote = prop::option::of(prop_oneof![Just("mx.test".to_owned()), words()]);
    let until = prop::option::of((0..4_000_000_000_i64).prop_map(Timestamp::from_millis));
    (mailbox(), prop::option::of(mailbox()), action, remote, words(), until).prop_map(
        |(address, orcpt, action, remote_mta, diagnostic, retry_until)| ReportedRecipient {
            address,
            orcpt: orcpt.as_ref().map(Orcpt::of),
            action,
            status: Status::MAILBOX_FULL.with(Severity::Transient),
            class: BounceClass::MailboxFull,
            remote_mta,
            diagnostic,
            retry_until,
        },
    )
}

fn cases() -> ProptestConfig {
    // The same cases in every run.
    ProptestConfig {
        rng_seed: RngSeed::Fixed(3464),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Whatever comes from outside, the report is well formed, an independent reader finds its
    /// three parts and no other fields, and the machine's part says what was put in.
    #[test]
    fn a_report_is_read_back(
        to in mailbox(),
        recipients in prop::collection::vec(recipient(), 1..5),
        foreign in (words(), words(), prop::option::of(words())),
        envid in prop::option::of("[ -~]{1,30}"),
        utf8 in any::<bool>(),
        full in any::<bool>(),
        body in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200),
    ) {
        let (reporting_mta, subject, received_from) = foreign;
        let xtext = envid.as_deref().map(merpati_types::xtext::encode);
        let about = About {
            reporting_mta,
            to,
            envid: xtext.and_then(|text| Envid::from_xtext(&text).ok()),
            ret: full.then_some(Ret::Full),
            received_from,
            utf8,
            ..about()
        };
        let headers = format!("Subject: {subject}\r\n");
        let whole = [headers.as_bytes(), b"\r\n", &body].concat();
        let original = OriginalMessage { headers: headers.as_bytes(), whole: Some(&whole) };
        let report = Report::write(&about, &recipients, original);
        check_form(&report);

        let message = parsed(&report);
        let names: Vec<_> = message.headers().iter().map(|field| field.name().to_lowercase()).collect();
        let mut expected =
            vec!["date", "from", "to", "subject", "message-id", "auto-submitted", "mime-version"];
        if report.utf8 {
            expected.push("content-transfer-encoding");
        }
        expected.push("content-type");
        prop_assert_eq!(names, expected);
        let sub_parts = message.parts[0].sub_parts().unwrap();
        prop_assert_eq!(sub_parts.len(), 3);

        let read = status(&report);
        let envid = about.envid.as_ref().map(|envid| envid.as_str().trim().to_owned());
        prop_assert_eq!(read.envid, envid);
        prop_assert_eq!(read.recipients.len(), recipients.len());
        for (read, written) in read.recipients.iter().zip(&recipients) {
            let charset = if report.utf8 { Charset::Utf8 } else { Charset::Ascii };
            prop_assert_eq!(&read.address.value, &address(&written.address, charset));
            let original = read.original.as_ref().map(|original| original.value.as_str());
            prop_assert_eq!(original, written.orcpt.as_ref().map(Orcpt::address));
            prop_assert_eq!(read.action, written.action);
            prop_assert_eq!(read.status, written.status);
            let words = clean(&written.diagnostic, charset);
            let diagnostic = read.diagnostic.as_ref().map(|typed| typed.value.replace(' ', ""));
            prop_assert_eq!(diagnostic.unwrap_or_default(), words.replace(' ', ""));
            let until = written.retry_until.map(Timestamp::to_rfc5322);
            prop_assert_eq!(&read.retry_until, &until);
        }
    }
}
