//! Our delivery reports, read by the `email` package of Python, and by `mail-parser`.

use std::fs;
use std::path::Path;
use std::process::Command;

use mail_parser::{MessageParser, MimeHeaders as _};
use merpati_dsn::{
    About, Action, BounceClass, OriginalMessage, Report, ReportedRecipient, Wording,
};
use merpati_types::{EnhancedStatus, Envid, Mailbox, MessageId, Orcpt, Ret, Timestamp};
use serde_json::{Value, json};

/// Says what it finds, as JSON.
const PROGRAM: &str = "\
import email, email.policy, json, sys
message = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
human, machine, returned = message.iter_parts()
groups = [dict(group.items()) for group in machine.get_payload()]
inner = returned.get_payload()
if isinstance(inner, list):
    subject = inner[0]['Subject']
else:
    content = returned.get_content()
    parse = email.message_from_bytes if isinstance(content, bytes) else email.message_from_string
    subject = parse(content, policy=email.policy.default)['Subject']
print(json.dumps({
    'type': message.get_content_type(),
    'report': message.get_param('report-type'),
    'subject': message['Subject'],
    'name': message['From'].addresses[0].display_name,
    'from': message['From'].addresses[0].addr_spec,
    'to': message['To'].addresses[0].addr_spec,
    'parts': [part.get_content_type() for part in (human, machine, returned)],
    'language': human['Content-Language'],
    'text': human.get_content(),
    'groups': groups,
    'returned': subject,
    'defects': [repr(defect) for part in message.walk() for defect in part.defects],
}))
";

fn read(directory: &Path, report: &Report) -> Value {
    let file = directory.join("report.eml");
    fs::write(&file, &report.bytes).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    let output = command.args(["-c", PROGRAM]).arg(&file).output().expect("Python is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&report.bytes));
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Case {
    action: Action,
    status: &'static str,
    class: BounceClass,
    diagnostic: &'static str,
    ret: Ret,
    /// The subject, and something that is said, in English and Indonesian.
    words: [[&'static str; 2]; 2],
}

const CASES: [Case; 4] = [
    Case {
        action: Action::Failed,
        status: "5.1.1",
        class: BounceClass::UnknownUser,
        diagnostic: "550 5.1.1 no such user",
        ret: Ret::Full,
        words: [
            ["Undelivered mail returned to sender", "Look for a typing mistake"],
            ["Surel tidak terkirim dan dikembalikan kepada pengirim", "Periksa apakah ada"],
        ],
    },
    Case {
        action: Action::Delayed,
        status: "4.2.2",
        class: BounceClass::MailboxFull,
        diagnostic: "452 4.2.2 mailbox full",
        ret: Ret::Headers,
        words: [
            ["Delayed mail (still being retried)", "The mailbox of the recipient is full."],
            ["Surel tertunda (masih terus dicoba)", "Kotak surat penerima penuh."],
        ],
    },
    Case {
        action: Action::Delivered,
        status: "2.0.0",
        class: BounceClass::Other,
        diagnostic: "250 2.0.0 kept",
        ret: Ret::Headers,
        words: [
            ["Successful mail delivery report", "It has been delivered."],
            ["Laporan surel berhasil dikirim", "Pesan telah disampaikan."],
        ],
    },
    Case {
        action: Action::Relayed,
        status: "2.0.0",
        class: BounceClass::Other,
        diagnostic: "250 2.0.0 taken",
        ret: Ret::Headers,
        words: [
            ["Successful mail delivery report", "handed to a system that will not report"],
            ["Laporan surel berhasil dikirim", "tidak akan mengirim laporan"],
        ],
    },
];

impl Case {
    fn report(&self, wording: &Wording) -> Report {
        let about = About {
            reporting_mta: "relay.test".to_owned(),
            message: MessageId::from_u64(7),
            seed: 9,
            to: Mailbox::parse("alice@sender.test").unwrap(),
            envid: Some(Envid::from_xtext("QQ1").unwrap()),
            ret: Some(self.ret),
            arrived: Timestamp::from_millis(1_795_420_800_000),
            received_from: Some("client.test".to_owned()),
            utf8: false,
            now: Timestamp::from_millis(1_795_424_400_000),
        };
        let recipient = ReportedRecipient {
            address: Mailbox::parse("bob@receiver.test").unwrap(),
            orcpt: Some(Orcpt::from_parameter("rfc822;Bob@old.test").unwrap()),
            action: self.action,
            status: self.status.parse::<EnhancedStatus>().unwrap(),
            class: self.class,
            remote_mta: Some("mx.receiver.test".to_owned()),
            diagnostic: self.diagnostic.to_owned(),
            retry_until: (self.action == Action::Delayed)
                .then_some(Timestamp::from_millis(1_795_852_800_000)),
        };
        let headers = b"From: alice@sender.test\r\nSubject: hi\r\n";
        let whole = [&headers[..], b"\r\nbody\r\n"].concat();
        let original = OriginalMessage { headers, whole: Some(&whole) };
        Report::write_in(wording, &about, &[recipient], original)
    }
}

/// RFC 3464, in both languages and for every kind of news.
#[test]
fn python_reads_our_reports() {
    let directory = tempfile::tempdir().unwrap();
    for case in &CASES {
        for (wording, words) in Wording::shipped().into_iter().zip(case.words) {
            let found = read(directory.path(), &case.report(wording));
            let name = format!("{:?} in {}: {found}", case.action, wording.language());
            let returned = match (case.action, case.ret) {
                (Action::Failed, Ret::Full) => "message/rfc822",
                _ => "text/rfc822-headers",
            };
            let expected = json!({
                "type": "multipart/report",
                "report": "delivery-status",
                "subject": words[0],
                "from": "MAILER-DAEMON@relay.test",
                "to": "alice@sender.test",
                "parts": ["text/plain", "message/delivery-status", returned],
                "language": wording.language(),
                "returned": "hi",
                "defects": [],
            });
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&found[field], value, "{field} of {name}");
            }
            let text = found["text"].as_str().unwrap();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for said in [words[1], "<bob@receiver.test>", case.diagnostic] {
                assert!(text.contains(said), "{said} is not in {name}");
            }
            check_groups(case, &found["groups"], &name);
        }
    }
}

/// The same with `mail-parser`, the library that mail servers in Rust read with.
#[test]
fn mail_parser_reads_our_reports() {
    for case in &CASES {
        for (wording, words) in Wording::shipped().into_iter().zip(case.words) {
            let report = case.report(wording);
            let name = format!("{:?} in {}", case.action, wording.language());
            let message = MessageParser::default().parse(&report.bytes).expect(&name);
            let kind = message.content_type().unwrap();
            assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")), "{name}");
            assert_eq!(kind.attribute("report-type"), Some("delivery-status"), "{name}");
            assert_eq!(message.subject(), Some(words[0]), "{name}");
            let to = message.to().and_then(|to| to.first()).and_then(|to| to.address());
            assert_eq!(to, Some("alice@sender.test"), "{name}");
            let [_, human, machine, returned] = &message.parts[..] else {
                panic!("{name}: {} parts", message.parts.len())
            };
            let text = human.text_contents().expect(&name);
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for said in [words[1], "<bob@receiver.test>", case.diagnostic] {
                assert!(text.contains(said), "{said} is not in {name}: {text}");
            }
            assert!(machine.is_content_type("message", "delivery-status"), "{name}");
            let status = String::from_utf8_lossy(machine.contents()).into_owned();
            for line in [
                "Original-Envelope-Id: QQ1".to_owned(),
                "Reporting-MTA: dns; relay.test".to_owned(),
                "Final-Recipient: rfc822; bob@receiver.test".to_owned(),
                format!("Action: {}", case.action.name()),
                format!("Status: {}", case.status),
                format!("Diagnostic-Code: smtp; {}", case.diagnostic),
            ] {
                let found = status.lines().any(|found| found == line);
                assert!(found, "{line} is not in {name}: {status}");
            }
            let headers = returned.message().map_or_else(
                || MessageParser::default().parse(returned.contents()),
                |message| Some(message.clone()),
            );
            assert_eq!(headers.expect(&name).subject(), Some("hi"), "{name}");
        }
    }
}

/// An operator's words beyond ASCII, in a report that is ASCII.
#[test]
fn python_reads_other_words() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[language]\ncs\n[from]\nPošta, noční\n[failed.subject]\nNedoručená zpráva: \
        žluťoučký kůň přináší zprávu zpět svému odesílateli\n[reason.unknown-user]\n\
        Schránka {recipient} není.\n";
    let wording = Wording::parse(text, Wording::english()).unwrap();
    let report = CASES[0].report(&wording);
    assert!(report.bytes.is_ascii());
    let found = read(directory.path(), &report);
    assert_eq!(found["name"], "Pošta, noční");
    let subject = "Nedoručená zpráva: žluťoučký kůň přináší zprávu zpět svému odesílateli";
    assert_eq!(found["subject"], subject);
    let said = "Schránka bob@receiver.test není.";
    assert!(found["text"].as_str().unwrap().contains(said), "{found}");
    assert_eq!((&found["language"], &found["defects"]), (&json!("cs"), &json!([])));
}

/// The machine's part.
fn check_groups(case: &Case, groups: &Value, name: &str) {
    assert_eq!(groups.as_array().unwrap().len(), 2, "{name}");
    let message = json!({
        "Original-Envelope-Id": "QQ1",
        "Reporting-MTA": "dns; relay.test",
        "Received-From-MTA": "dns; client.test",
        "Arrival-Date": "Mon, 23 Nov 2026 08:00:00 +0000",
    });
    let mut recipient = json!({
        "Original-Recipient": "rfc822; Bob@old.test",
        "Final-Recipient": "rfc822; bob@receiver.test",
        "Action": case.action.name(),
        "Status": case.status,
        "Remote-MTA": "dns; mx.receiver.test",
        "Diagnostic-Code": format!("smtp; {}", case.diagnostic),
        "Last-Attempt-Date": "Mon, 23 Nov 2026 09:00:00 +0000",
    });
    if case.action == Action::Delayed {
        recipient["Will-Retry-Until"] = json!("Sat, 28 Nov 2026 08:00:00 +0000");
    }
    assert_eq!((&groups[0], &groups[1]), (&message, &recipient), "{name}");
}
