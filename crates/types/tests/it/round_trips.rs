//! What is written is read back as the same, and nothing that is read breaks a promise.

use bytes::Bytes;
use merpati_types::{
    Domain, EnhancedStatus, Envid, FieldName, FieldValue, ForwardPath, HeaderEdit, HeaderEdits,
    HeaderSection, LocalPart, Mailbox, MessageId, Orcpt, Reply, ReplyCode, ReversePath, Severity,
    Status, xtext,
};
use proptest::prelude::*;

/// Texts near addresses.
fn near_address() -> impl Strategy<Value = String> {
    "[<\"]{0,2}[a-c.\\\\\" @é+=:,\t]{0,8}@[a-cA-C0-9.\\-\\[\\]:ü_]{0,9}[>\"]{0,2}"
}

proptest! {
    #[test]
    fn mailboxes(text in near_address()) {
        if let Ok(mailbox) = Mailbox::parse(&text) {
            let written = mailbox.to_string();
            prop_assert!(!written.chars().any(char::is_control));
            prop_assert!(mailbox.local().to_string().len() <= 64);
            prop_assert_eq!(Mailbox::parse(&written), Ok(mailbox.clone()));
            prop_assert_eq!(mailbox.is_internationalized(), !written.is_ascii());
            if let Some(ascii) = mailbox.to_ascii() {
                prop_assert!(ascii.is_ascii());
                prop_assert_eq!(Mailbox::parse(&ascii), Ok(mailbox));
            }
        }
    }

    #[test]
    fn local_parts(content in "[ -~é-ü\t]{0,40}") {
        if let Ok(local) = LocalPart::from_content(&content) {
            let domain = Domain::parse("a.test").unwrap();
            let mailbox = Mailbox::new(local, domain);
            let read = Mailbox::parse(&mailbox.to_string()).unwrap();
            prop_assert_eq!(read.local().as_str(), content);
        }
    }

    #[test]
    fn domains(text in "[a-cA-C0-9.\\-_üß例。 ]{0,20}") {
        if let Ok(domain) = Domain::parse(&text) {
            let ascii = domain.as_ascii();
            prop_assert!(ascii.len() <= 255 && ascii.is_ascii());
            prop_assert!(!ascii.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert_eq!(&Domain::parse(ascii).unwrap(), &domain);
            prop_assert_eq!(&Domain::parse(domain.as_str()).unwrap(), &domain);
        }
    }

    #[test]
    fn paths(text in near_address()) {
        let text = format!("<{text}>");
        if let Ok(path) = ReversePath::parse(&text) {
            prop_assert_eq!(ReversePath::parse(&path.to_string()), Ok(path));
        }
        if let Ok(path) = ForwardPath::parse(&text) {
            prop_assert_eq!(ForwardPath::parse(&path.to_string()), Ok(path));
        }
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        let _ = (Mailbox::parse(&text), Domain::parse(&text), ReversePath::parse(&text));
        let _ = (ForwardPath::parse(&text), Orcpt::from_parameter(&text), Envid::from_xtext(&text));
        let _ = (text.parse::<MessageId>(), text.parse::<EnhancedStatus>());
        let _ = HeaderSection::read(&Bytes::from(text));
    }

    #[test]
    fn parameters(text in any::<String>()) {
        let encoded = xtext::encode(&text);
        prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'='));
        prop_assert_eq!(xtext::decode(&encoded), Some(text));
        if let Ok(envid) = Envid::from_xtext(&encoded) {
            prop_assert_eq!(Envid::from_xtext(&envid.to_string()), Ok(envid));
        }
        if let Ok(orcpt) = Orcpt::from_parameter(&format!("rfc822;{encoded}")) {
            prop_assert_eq!(Orcpt::from_parameter(&orcpt.to_string()), Ok(orcpt));
        }
    }

    #[test]
    fn ids(number: u64, other: u64) {
        let (id, later) = (MessageId::from_u64(number), MessageId::from_u64(other));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(number.cmp(&other), id.to_string().cmp(&later.to_string()));
    }

    #[test]
    fn statuses(subject in 0..1_000_u16, detail in 0..1_000_u16, permanent: bool) {
        let severity = if permanent { Severity::Permanent } else { Severity::Transient };
        let status = Status::new(subject, detail).unwrap().with(severity);
        prop_assert_eq!(status.to_string().parse(), Ok(status));
    }

    #[test]
    fn replies_have_no_line_ends_in_them(code in 200..600_u16, text in any::<String>()) {
        let reply = Reply::new(ReplyCode::new(code).unwrap(), None, &text);
        prop_assert!(!reply.to_string().chars().any(char::is_control));
        prop_assert_eq!(reply.lines().len(), 1);
    }

    /// A value, whatever it is, adds one field and no more.
    #[test]
    fn header_edits(values in proptest::collection::vec("[a-z \n\t\réA:]{0,30}", 0..5)) {
        let section = HeaderSection::read(&Bytes::from_static(b"A: 1\r\nB: 2\r\n\r\nbody")).unwrap();
        let mut edits = HeaderEdits::default();
        let mut added = 0;
        for value in &values {
            if let Ok(value) = FieldValue::new(value) {
                edits.push(HeaderEdit::Prepend(FieldName::new("X-Test").unwrap(), value));
                added += 1;
            }
        }
        let applied = edits.apply(&section);
        prop_assert!(applied.ends_with(b"A: 1\r\nB: 2\r\n"));
        let read = HeaderSection::read(&applied).unwrap();
        prop_assert_eq!(read.raw().len(), applied.len());
        prop_assert_eq!((read.count("X-Test"), read.fields().len()), (added, added + 2));
        prop_assert_eq!(HeaderEdits::decode(&edits.encode()), Ok(edits));
    }
}
