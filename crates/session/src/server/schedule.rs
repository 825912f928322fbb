//! What a client may ask of the queue: FUTURERELEASE, DELIVERBY, MT-PRIORITY.

use std::time::Duration;

use merpati_types::{ByMode, Rejection, Timestamp};
use merpati_wire::{Hold, MailParams};

use super::Session;
use super::config::Offer;
use super::replies::{self, Counts};

impl Session {
    /// Whether MAIL asks of the queue what this peer may ask, and what is possible.
    pub(super) fn check_schedule(&self, params: &MailParams) -> Result<(), (Rejection, Counts)> {
        let MailParams { hold, by, priority, .. } = params;
        let extensions = &self.config.extensions;
        let longest = self.config.longest_hold();
        if let Some(hold) = hold {
            let name = match hold {
                Hold::For(_) => "HOLDFOR",
                Hold::Until(_) => "HOLDUNTIL",
            };
            // RFC 4865 §4: for submission, by those who are known.
            let offer = if longest.is_some() { Offer::Authenticated } else { Offer::Nobody };
            self.check_offer(offer, name)?;
        }
        if by.is_some() {
            self.check_offer(extensions.deliver_by, "BY")?;
        }
        if priority.is_some() {
            self.check_offer(extensions.mt_priority, "MT-PRIORITY")?;
        }
        let now = self.time();
        let bad = |text: &str| Err((replies::impossible(text), Counts::Error));
        let end = hold.map(|hold| hold.end(now));
        if let Some(end) = end {
            if end <= now {
                return bad("the message would be held until a moment that is past");
            }
            let longest = Duration::from_secs(longest.unwrap_or_default().into());
            if end > now.after(longest) {
                return bad("the message would be held for longer than FUTURERELEASE says");
            }
        }
        if let Some(by) = by {
            // RFC 2852 §4: what is late already cannot be returned if it is late.
            if by.mode == ByMode::Return && by.seconds <= 0 {
                return bad("with BY and R, the time must lie ahead");
            }
            if end.is_some_and(|end| end >= by.deadline(now)) {
                return bad("the message would be held beyond its deadline");
            }
        }
        Ok(())
    }

    fn check_offer(&self, offer: Offer, parameter: &str) -> Result<(), (Rejection, Counts)> {
        match offer {
            Offer::Nobody => Err((replies::parameter_not_offered(parameter), Counts::Error)),
            Offer::Authenticated if !self.authenticated => {
                Err((replies::auth_needed(), Counts::Error))
            }
            Offer::Authenticated | Offer::Anybody => Ok(()),
        }
    }

    /// The time of day when the peer was last heard.
    pub(super) fn time(&self) -> Timestamp {
        self.start.time.after(self.heard.saturating_duration_since(self.began))
    }
}
