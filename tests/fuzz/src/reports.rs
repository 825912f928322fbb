//! Reports of others, the addresses that bounces come to, and the texts that operators write.
//!
//! Promises: whatever comes is read or refused; a delivery status that keeps the rules says the
//! same to the lenient reader; no address is ours that we have not written, and what we write
//! comes back; a report about any message is read again, and has no line of its own in it.

use bytes::Bytes;
use merpati_dsn::{
    About, Action, Batv, BatvKey, BounceClass, ClassRules, Classifier, DeliveryStatus, Keyring,
    OriginalMessage, ReceivedReport, Report, ReportedRecipient, Srs, SrsOptions, Symptom, Verp,
    VerpDelimiters, Wording,
};
use merpati_types::{Domain, Mailbox, MessageId, Secret, Severity, Status, Timestamp};

use crate::steered;

/// The first octet says which of them.
pub fn check(data: &[u8]) {
    let (which, data) = steered(data);
    let text = String::from_utf8_lossy(data);
    match which % 6 {
        0 => {
            let _ = ReceivedReport::read(&Bytes::copy_from_slice(data));
        }
        1 => delivery_status(data),
        2 => addresses(&text),
        3 => {
            let rules = ClassRules::parse(&text).unwrap_or_default();
            let _ = Classifier::new(rules).class(&Symptom::of(&text));
        }
        4 => {
            if let Ok(wording) = Wording::parse(&text, Wording::english()) {
                written(&wording, b"Subject: x\r\n", "");
            }
        }
        _ => written(Wording::indonesian(), data, &text),
    }
}

fn delivery_status(data: &[u8]) {
    let lenient = DeliveryStatus::parse_leniently(data);
    if let Ok(strict) = DeliveryStatus::parse(data) {
        let lenient = lenient.expect("what keeps the rules is read");
        assert!(lenient.recipients.len() >= strict.recipients.len());
    }
}

fn addresses(text: &str) {
    let Ok(mailbox) = Mailbox::parse(text) else { return };
    let now = Timestamp::from_millis(1_795_443_000_000);
    let secret = || Secret::new(b"secret".to_vec());
    let srs = Srs::new(
        Keyring::new(secret()),
        Domain::parse("fwd.test").expect("a domain"),
        SrsOptions::default(),
    );
    assert!(srs.reverse(&mailbox, now).is_err());
    if let Ok(written) = srs.forward(&mailbox, now)
        && written != mailbox
    {
        let back = srs.reverse(&written, now).expect("what was written comes back");
        let (local, given) = (back.local().as_str(), mailbox.local().as_str());
        // SRS1 goes back over the heads of those between; the tag comes back in upper case.
        let is_srs1 = given.get(..4).is_some_and(|tag| tag.eq_ignore_ascii_case("SRS1"));
        let is_same = back.host() == mailbox.host() && local.eq_ignore_ascii_case(given);
        assert!(is_same || is_srs1, "{back} is not {mailbox}");
    }
    let batv = Batv::new(BatvKey::new(1, secret()));
    if let Ok(signed) = batv.sign(&mailbox, now)
        && signed != mailbox
    {
        assert_eq!(batv.verify(&signed, now), Ok(mailbox.clone()));
    }
    let owner = Mailbox::parse("list@lists.test").expect("a mailbox");
    let verp = Verp::new(owner, VerpDelimiters::default());
    if let Ok(written) = verp.encode(&mailbox) {
        assert_eq!(verp.decode(&written), Some(mailbox));
    }
}

fn written(wording: &Wording, headers: &[u8], diagnostic: &str) {
    let about = About {
        reporting_mta: "relay.test".to_owned(),
        message: MessageId::from_u64(7),
        seed: 9,
        to: Mailbox::parse("alice@sender.test").expect("a mailbox"),
        envid: None,
        ret: None,
        arrived: Timestamp::from_millis(0),
        received_from: None,
        utf8: false,
        now: Timestamp::from_millis(60_000),
    };
    let recipient = ReportedRecipient {
        address: Mailbox::parse("bob@receiver.test").expect("a mailbox"),
        orcpt: None,
        action: Action::Failed,
        status: Status::MAILBOX_FULL.with(Severity::Permanent),
        class: BounceClass::MailboxFull,
        remote_mta: Some("mx.test".to_owned()),
        diagnostic: diagnostic.to_owned(),
        retry_until: None,
    };
    let original = OriginalMessage { headers, whole: None };
    let report = Report::write_in(wording, &about, &[recipient], original);
    assert!(report.bytes.is_ascii());
    for line in report.bytes.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(line.len() <= 998 && !line.contains(&b'\r'));
    }
    let read = ReceivedReport::read(&Bytes::from(report.bytes));
    let Ok(ReceivedReport::Delivery(read)) = read else { panic!("{read:?}") };
    assert_eq!(read.status.recipients.len(), 1);
    assert_eq!(read.status.recipients[0].address.value, "bob@receiver.test");
}
