//! Domains, mailboxes, paths, and the parameters that hold them.
//!
//! Promises: what is read can be written and is read the same again; nothing that is written holds
//! a control character; the ASCII form is ASCII, and of the same mailbox.

use std::fmt::{Debug, Display};

use merpati_types::{Domain, Envid, ForwardPath, Host, Mailbox, Orcpt, ReversePath, Submitter};

/// All of the input is the text.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    round_trip(text, Domain::parse);
    round_trip(text, Host::parse);
    round_trip(text, Mailbox::parse);
    round_trip(text, ReversePath::parse);
    round_trip(text, ForwardPath::parse);
    round_trip(text, Envid::from_xtext);
    round_trip(text, Orcpt::from_parameter);
    round_trip(text, Submitter::from_parameter);
    if let Ok(domain) = Domain::parse(text) {
        assert!(domain.as_ascii().is_ascii());
        assert_eq!(Domain::parse(domain.as_ascii()), Ok(domain));
    }
    if let Ok(mailbox) = Mailbox::parse(text)
        && let Some(ascii) = mailbox.to_ascii()
    {
        assert!(ascii.is_ascii());
        assert_eq!(Mailbox::parse(&ascii), Ok(mailbox));
    }
}

fn round_trip<T, E>(text: &str, read: impl Fn(&str) -> Result<T, E>)
where
    T: Debug + Display + PartialEq,
    E: Debug + PartialEq,
{
    let Ok(value) = read(text) else { return };
    let written = value.to_string();
    assert!(!written.chars().any(char::is_control), "{written:?}");
    assert_eq!(read(&written), Ok(value), "{written:?}");
}
