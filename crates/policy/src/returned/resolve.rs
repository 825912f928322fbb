//! Who is meant by an address that our mail was sent under.

use merpati_dsn::{BatvError, SrsReverseError};
use merpati_types::{Mailbox, Rejection, Status, Timestamp};

use super::config::{ReturnedConfig, Signed, Unsigned};
use crate::batv::is_srs;

/// What an address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Who is meant.
    pub(super) address: Mailbox,
    /// The recipient of our mail that it names.
    pub(super) about: Option<Mailbox>,
    /// Whether we have signed it.
    pub(super) is_signed: bool,
    /// Whether nobody else needs to know who is meant.
    pub(super) vouched: bool,
}

impl ReturnedConfig {
    /// What an address stands for; `None` if it is like any other.
    ///
    /// # Errors
    /// Why nothing is taken for it.
    pub(super) fn resolve(
        &self,
        address: &Mailbox,
        is_report: bool,
        now: Timestamp,
    ) -> Result<Option<Resolved>, Rejection> {
        if let Some(srs) = &self.srs {
            match srs.reverse(address, now) {
                Ok(address) => {
                    let resolved =
                        Resolved { address, about: None, is_signed: true, vouched: true };
                    return Ok(Some(resolved));
                }
                Err(SrsReverseError::NotSrs) => {}
                Err(error) => return Err(not_srs(error)),
            }
        }
        let plain = match &self.batv {
            Some(signed) => signed.resolve(address, is_report, now)?,
            None => None,
        };
        let is_signed = plain.is_some();
        let known = plain.as_ref().unwrap_or(address);
        let owned = self.verp.iter().find_map(|(owner, verp)| Some((owner, verp.decode(known)?)));
        if let Some((owner, about)) = owned {
            let (address, about) = (owner.clone(), Some(about));
            return Ok(Some(Resolved { address, about, is_signed, vouched: false }));
        }
        Ok(plain.map(|address| Resolved { address, about: None, is_signed, vouched: false }))
    }
}

impl Signed {
    /// The sender that an address stands for, if it is signed.
    fn resolve(
        &self,
        address: &Mailbox,
        is_report: bool,
        now: Timestamp,
    ) -> Result<Option<Mailbox>, Rejection> {
        if !address.host().domain().is_some_and(|domain| self.domains.contains(domain)) {
            return Ok(None);
        }
        let text = match self.batv.verify(address, now) {
            Ok(sender) => return Ok(Some(sender)),
            Err(BatvError::NotSigned) => {
                let is_refused =
                    is_report && self.unsigned == Unsigned::Refuse && self.signs(address, now);
                if !is_refused {
                    return Ok(None);
                }
                let text = "reports are not taken here for mail that was not sent from here";
                return Err(Rejection::permanent(Status::POLICY, text));
            }
            Err(BatvError::Expired) => "this return address has expired",
            Err(_) => "this is no return address of ours: its signature is wrong",
        };
        Err(Rejection::permanent(Status::NO_MAILBOX, text))
    }

    /// Whether mail from an address is ever sent under a signed one. RFC 5321 §4.5.1: for the
    /// postmaster everything is taken.
    fn signs(&self, address: &Mailbox, now: Timestamp) -> bool {
        let local = address.local();
        !local.as_str().eq_ignore_ascii_case("postmaster")
            && !is_srs(local)
            && self.batv.sign(address, now).is_ok()
    }
}

fn not_srs(error: SrsReverseError) -> Rejection {
    let text = match error {
        SrsReverseError::Expired { days } => {
            format!("this return address has expired: it is {days} days old")
        }
        SrsReverseError::Forged => {
            "this is no return address of ours: its signature is wrong".to_owned()
        }
        _ => "this is no return address of ours: it is malformed".to_owned(),
    };
    Rejection::permanent(Status::NO_MAILBOX, &text)
}
