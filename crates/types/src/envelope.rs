//! The envelope: sender, recipients, and what the MAIL and RCPT parameters ask for.

use std::fmt;

use crate::mailbox::Mailbox;
use crate::path::ReversePath;
use crate::xtext;

/// A parameter value that breaks its syntax or its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// No xtext, control characters inside, or a missing part.
    #[error("parameter value is malformed")]
    Syntax,
    /// Longer than its RFC allows.
    #[error("parameter value is longer than {limit} octets")]
    TooLong {
        /// The limit, in octets.
        limit: usize,
    },
}

/// BODY= (RFC 6152, RFC 3030): what octets the message may contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BodyType {
    /// 7BIT: ASCII in lines.
    #[default]
    SevenBit,
    /// 8BITMIME: any octet but NUL, in lines.
    EightBitMime,
    /// BINARYMIME: anything; travels by BDAT only.
    BinaryMime,
}

/// RET= (RFC 3461 §4.3): how much of a message comes back with a failure report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section.
    Headers,
}

/// The mode of BY= (RFC 2852 §4): what happens to mail that is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByMode {
    /// N: the sender is told, and delivery goes on.
    Notify,
    /// R: it goes back to the sender.
    Return,
}

/// The conditions of NOTIFY=.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotifyOn {
    /// Report delivery.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
}

/// NOTIFY= (RFC 3461 §4.1): which reports the sender wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notify {
    /// Not said: failures, and delays as the server sees fit.
    #[default]
    Unspecified,
    /// NEVER.
    Never,
    /// Exactly these.
    On(NotifyOn),
}

/// The original text of ENVID= (RFC 3461 §4.4), decoded; at most 100 octets as xtext.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Envid(Box<str>);

impl Envid {
    /// The longest, encoded.
    pub const LIMIT: usize = 100;

    /// From xtext.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn from_xtext(text: &str) -> Result<Self, ParameterError> {
        Ok(Self(read_printable(text, Self::LIMIT)?.into()))
    }

    /// The decoded text; printable ASCII and UTF-8 without control characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As xtext.
impl fmt::Display for Envid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        xtext::write(f, &self.0)
    }
}

/// ORCPT= (RFC 3461 §4.2): the recipient as the sender first named it; at most 500 octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Orcpt {
    kind: Box<str>,
    address: Box<str>,
}

impl Orcpt {
    /// The longest, encoded.
    pub const LIMIT: usize = 500;

    /// From `addr-type ";" xtext`, as it stands in the parameter. With the type `utf-8`, raw
    /// UTF-8 is taken too (RFC 6533 §3).
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn from_parameter(text: &str) -> Result<Self, ParameterError> {
        if text.len() > Self::LIMIT {
            return Err(ParameterError::TooLong { limit: Self::LIMIT });
        }
        let (kind, address) = text.split_once(';').ok_or(ParameterError::Syntax)?;
        let atom = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if kind.is_empty() || !kind.bytes().all(atom) || address.is_empty() {
            return Err(ParameterError::Syntax);
        }
        let utf8 = kind.eq_ignore_ascii_case("utf-8") && !address.is_ascii();
        let address = if utf8 { address.to_owned() } else { read_printable(address, Self::LIMIT)? };
        if address.chars().any(char::is_control) {
            return Err(ParameterError::Syntax);
        }
        let read = Self { kind: kind.into(), address: address.into() };
        // Raw UTF-8 grows on its way to the next hop.
        if utf8 && read.to_string().len() > Self::LIMIT {
            return Err(ParameterError::TooLong { limit: Self::LIMIT });
        }
        Ok(read)
    }

    /// For a mailbox, as a relay adds it when the client gave none.
    #[must_use]
    pub fn of(mailbox: &Mailbox) -> Self {
        match mailbox.to_ascii() {
            Some(ascii) => Self { kind: "rfc822".into(), address: ascii.into() },
            None => Self { kind: "utf-8".into(), address: mailbox.to_string().into() },
        }
    }

    /// The address type, `rfc822` or `utf-8` mostly.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The decoded address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// As it stands in the parameter.
impl fmt::Display for Orcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.kind)?;
        xtext::write(f, &self.address)
    }
}

/// AUTH= on MAIL (RFC 4954 §5): who submitted the message, as far as the client vouches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Submitter {
    /// `<>`: not known.
    Unknown,
    /// This mailbox, decoded.
    Mailbox(Mailbox),
}

impl Submitter {
    /// From the parameter's value.
    ///
    /// # Errors
    /// [`ParameterError::Syntax`].
    pub fn from_parameter(text: &str) -> Result<Self, ParameterError> {
        if text == "<>" {
            return Ok(Self::Unknown);
        }
        let decoded = xtext::decode(text).ok_or(ParameterError::Syntax)?;
        Mailbox::parse(&decoded).map(Self::Mailbox).map_err(|_| ParameterError::Syntax)
    }
}

/// As it stands in the parameter.
impl fmt::Display for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("<>"),
            Self::Mailbox(mailbox) => xtext::write(f, &mailbox.to_string()),
        }
    }
}

/// A recipient and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub address: Mailbox,
    /// Which reports are wanted.
    pub notify: Notify,
    /// Who it was first addressed to.
    pub orcpt: Option<Orcpt>,
}

impl Recipient {
    /// A recipient with no parameters.
    #[must_use]
    pub fn new(address: Mailbox) -> Self {
        Self { address, notify: Notify::default(), orcpt: None }
    }
}

/// All of a message but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where reports go.
    pub sender: ReversePath,
    /// Where the message goes.
    pub recipients: Vec<Recipient>,
    /// How much comes back with a failure report.
    pub ret: Option<Ret>,
    /// The sender's name for this message, quoted in reports.
    pub envid: Option<Envid>,
    /// What octets the message has.
    pub body: BodyType,
    /// SMTPUTF8 (RFC 6531): the message needs it on every hop.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): only over verified TLS.
    pub requiretls: bool,
    /// AUTH= as given.
    pub submitter: Option<Submitter>,
}

impl Envelope {
    /// An envelope with a sender and nothing else.
    #[must_use]
    pub fn new(sender: ReversePath) -> Self {
        Self {
            sender,
            recipients: Vec::new(),
            ret: None,
            envid: None,
            body: BodyType::default(),
            smtputf8: false,
            requiretls: false,
            submitter: None,
        }
    }
}

fn read_printable(text: &str, limit: usize) -> Result<String, ParameterError> {
    if text.len() > limit {
        return Err(ParameterError::TooLong { limit });
    }
    let decoded = xtext::decode(text).ok_or(ParameterError::Syntax)?;
    if decoded.is_empty() || decoded.chars().any(char::is_control) {
        return Err(ParameterError::Syntax);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_kept_and_encoded_again() {
        let envid = Envid::from_xtext("QQ+2B314159").unwrap();
        assert_eq!((envid.as_str(), envid.to_string().as_str()), ("QQ+314159", "QQ+2B314159"));
        let orcpt = Orcpt::from_parameter("rfc822;Bob+2Btag@example.org").unwrap();
        assert_eq!((orcpt.kind(), orcpt.address()), ("rfc822", "Bob+tag@example.org"));
        assert_eq!(orcpt.to_string(), "rfc822;Bob+2Btag@example.org");
        assert_eq!(Orcpt::from_parameter("utf-8;bób@example.org").unwrap().address().len(), 16);
        let grows = |count| format!("utf-8;{}@example.org", "\u{43f}".repeat(count));
        assert!(Orcpt::from_parameter(&grows(80)).is_ok());
        let too_long = Err(ParameterError::TooLong { limit: 500 });
        assert_eq!(Orcpt::from_parameter(&grows(81)), too_long);
        let submitter = Submitter::from_parameter("e+3Dmc2@example.org").unwrap();
        assert_eq!(submitter.to_string(), "e+3Dmc2@example.org");
    }

    #[test]
    fn malformed_parameters_are_refused() {
        for text in ["", "a b", "a=b", "a+2", "a+2b", "a+0D+0A", "a+FF", "\u{e9}"] {
            assert_eq!(Envid::from_xtext(text), Err(ParameterError::Syntax), "{text:?}");
        }
        let long = "a".repeat(101);
        assert_eq!(Envid::from_xtext(&long), Err(ParameterError::TooLong { limit: 100 }));
        for text in ["rfc822", "rfc822;", ";a", "r f;a", "rfc822;a+00"] {
            assert_eq!(Orcpt::from_parameter(text), Err(ParameterError::Syntax), "{text:?}");
        }
        assert_eq!(Submitter::from_parameter("nobody"), Err(ParameterError::Syntax));
    }
}
