//! The parameters of MAIL and RCPT.

use std::fmt;

use merpati_types::{BodyType, Envid, Notify, NotifyOn, Orcpt, Ret, Submitter};

use crate::command::{CommandError, decimal};
use crate::schedule::{By, Hold, Priority};

/// The parameters of MAIL. All that is `None` or `false` was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailParams {
    /// `SIZE=octets` (RFC 1870 §6.1); what exceeds 64 bits is read as `u64::MAX`.
    pub size: Option<u64>,
    /// `BODY=7BIT|8BITMIME|BINARYMIME` (RFC 6152 §2, RFC 3030 §3).
    pub body: Option<BodyType>,
    /// `SMTPUTF8` (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// `RET=FULL|HDRS` (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=xtext` (RFC 3461 §4.4).
    pub envid: Option<Envid>,
    /// `AUTH=xtext|<>` (RFC 4954 §5).
    pub auth: Option<Submitter>,
    /// `REQUIRETLS` (RFC 8689 §2).
    pub requiretls: bool,
    /// `HOLDFOR=` or `HOLDUNTIL=` (RFC 4865 §4.2), never both.
    pub hold: Option<Hold>,
    /// `BY=` (RFC 2852 §4).
    pub by: Option<By>,
    /// `MT-PRIORITY=` (RFC 6710 §4.1).
    pub priority: Option<Priority>,
}

/// The parameters of RCPT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// `NOTIFY=NEVER|SUCCESS,FAILURE,DELAY` (RFC 3461 §4.1).
    pub notify: Notify,
    /// `ORCPT=type;xtext` (RFC 3461 §4.2).
    pub orcpt: Option<Orcpt>,
}

impl MailParams {
    /// Reads what follows the path.
    pub(crate) fn parse(text: &str) -> Result<Self, CommandError> {
        let mut params = MailParams::default();
        for word in words(text) {
            let param = Param::parse(word)?;
            match &*param.name {
                "SIZE" => param.set(&mut params.size, decimal)?,
                "BODY" => param.set(&mut params.body, body_type)?,
                "SMTPUTF8" => param.flag(&mut params.smtputf8)?,
                "RET" => param.set(&mut params.ret, ret)?,
                "ENVID" => param.set(&mut params.envid, |text| Envid::from_xtext(text).ok())?,
                "AUTH" => {
                    param.set(&mut params.auth, |text| Submitter::from_parameter(text).ok())?;
                }
                "REQUIRETLS" => param.flag(&mut params.requiretls)?,
                "HOLDFOR" => param.set(&mut params.hold, Hold::parse_for)?,
                "HOLDUNTIL" => param.set(&mut params.hold, Hold::parse_until)?,
                "BY" => param.set(&mut params.by, By::parse)?,
                "MT-PRIORITY" => param.set(&mut params.priority, Priority::parse)?,
                _ => return Err(param.unknown()),
            }
        }
        Ok(params)
    }
}

/// As they follow the path, each with a space before it.
impl fmt::Display for MailParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        if let Some(body) = self.body {
            f.write_str(match body {
                BodyType::SevenBit => " BODY=7BIT",
                BodyType::EightBitMime => " BODY=8BITMIME",
                BodyType::BinaryMime => " BODY=BINARYMIME",
            })?;
        }
        if self.smtputf8 {
            f.write_str(" SMTPUTF8")?;
        }
        match self.ret {
            Some(Ret::Full) => f.write_str(" RET=FULL")?,
            Some(Ret::Headers) => f.write_str(" RET=HDRS")?,
            None => {}
        }
        if let Some(envid) = &self.envid {
            write!(f, " ENVID={envid}")?;
        }
        if let Some(submitter) = &self.auth {
            write!(f, " AUTH={submitter}")?;
        }
        if self.requiretls {
            f.write_str(" REQUIRETLS")?;
        }
        if let Some(hold) = &self.hold {
            write!(f, " {hold}")?;
        }
        if let Some(by) = &self.by {
            write!(f, " BY={by}")?;
        }
        if let Some(priority) = &self.priority {
            write!(f, " MT-PRIORITY={priority}")?;
        }
        Ok(())
    }
}

impl RcptParams {
    /// Reads what follows the path.
    pub(crate) fn parse(text: &str) -> Result<Self, CommandError> {
        let mut notify_given = None;
        let mut orcpt = None;
        for word in words(text) {
            let param = Param::parse(word)?;
            match &*param.name {
                "NOTIFY" => param.set(&mut notify_given, notify)?,
                "ORCPT" => param.set(&mut orcpt, |text| Orcpt::from_parameter(text).ok())?,
                _ => return Err(param.unknown()),
            }
        }
        Ok(RcptParams { notify: notify_given.unwrap_or_default(), orcpt })
    }
}

/// As they follow the path, each with a space before it.
impl fmt::Display for RcptParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.notify {
            Notify::Unspecified => {}
            Notify::Never => f.write_str(" NOTIFY=NEVER")?,
            Notify::On(on) => {
                let mut before = " NOTIFY=";
                for (wanted, name) in
                    [(on.success, "SUCCESS"), (on.failure, "FAILURE"), (on.delay, "DELAY")]
                {
                    if wanted {
                        write!(f, "{before}{name}")?;
                        before = ",";
                    }
                }
            }
        }
        if let Some(orcpt) = &self.orcpt {
            write!(f, " ORCPT={orcpt}")?;
        }
        Ok(())
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

/// `esmtp-keyword ["=" esmtp-value]` (RFC 5321 §4.1.2, RFC 6531 §3.3).
struct Param<'a> {
    /// In upper case.
    name: String,
    value: Option<&'a str>,
}

impl<'a> Param<'a> {
    fn parse(word: &'a str) -> Result<Self, CommandError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let keyword = name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if !keyword {
            return Err(CommandError::Syntax { usage: "parameters are KEYWORD or KEYWORD=value" });
        }
        let param = Param { name: name.to_ascii_uppercase(), value };
        if value.is_some_and(|value| value.is_empty() || value.chars().any(char::is_control)) {
            return Err(param.bad());
        }
        Ok(param)
    }

    /// Puts the value, as `read` understands it, into an empty `slot`.
    fn set<T>(
        &self,
        slot: &mut Option<T>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<(), CommandError> {
        if slot.is_some() {
            return Err(self.bad());
        }
        *slot = Some(self.value.and_then(read).ok_or_else(|| self.bad())?);
        Ok(())
    }

    /// Raises a `flag` that is down, if there is no value.
    fn flag(&self, flag: &mut bool) -> Result<(), CommandError> {
        if *flag || self.value.is_some() {
            return Err(self.bad());
        }
        *flag = true;
        Ok(())
    }

    fn bad(&self) -> CommandError {
        CommandError::BadParameter { name: self.name.clone() }
    }

    fn unknown(self) -> CommandError {
        CommandError::UnknownParameter { name: self.name }
    }
}

fn body_type(text: &str) -> Option<BodyType> {
    [
        ("7BIT", BodyType::SevenBit),
        ("8BITMIME", BodyType::EightBitMime),
        ("BINARYMIME", BodyType::BinaryMime),
    ]
    .into_iter()
    .find_map(|(name, body)| text.eq_ignore_ascii_case(name).then_some(body))
}

fn ret(text: &str) -> Option<Ret> {
    [("FULL", Ret::Full), ("HDRS", Ret::Headers)]
        .into_iter()
        .find_map(|(name, ret)| text.eq_ignore_ascii_case(name).then_some(ret))
}

fn notify(text: &str) -> Option<Notify> {
    if text.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let mut on = NotifyOn::default();
    for word in text.split(',') {
        let condition = if word.eq_ignore_ascii_case("SUCCESS") {
            &mut on.success
        } else if word.eq_ignore_ascii_case("FAILURE") {
            &mut on.failure
        } else if word.eq_ignore_ascii_case("DELAY") {
            &mut on.delay
        } else {
            return None;
        };
        *condition = true;
    }
    Some(Notify::On(on))
}
