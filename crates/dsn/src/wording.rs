//! The words of the human part.

use std::borrow::Cow;

use crate::action::Action;

/// The sentences of a report for people, in some language. `{host}` and `{date}` stand for names
/// and dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    /// Who writes: the display name beside `MAILER-DAEMON@…`, without quotes or control
    /// characters.
    pub from: Cow<'static, str>,
    /// How a report begins; `{host}` is the reporting host.
    pub greeting: Cow<'static, str>,
    /// Of failures.
    pub failed: News,
    /// Of delays.
    pub delayed: News,
    /// Of success.
    pub delivered: News,
    /// Before the words of the host `{host}`.
    pub said: Cow<'static, str>,
    /// For delays; `{date}` is when we give up.
    pub tried_until: Cow<'static, str>,
}

/// What one kind of report says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The subject.
    pub subject: Cow<'static, str>,
    /// What has happened; the recipients follow.
    pub opening: Cow<'static, str>,
}

impl Wording {
    /// English.
    pub const ENGLISH: Self = Self {
        from: Cow::Borrowed("Mail Delivery System"),
        greeting: Cow::Borrowed("This is the mail system at {host}."),
        failed: News {
            subject: Cow::Borrowed("Undelivered mail returned to sender"),
            opening: Cow::Borrowed(
                "Your message could not be delivered to the recipients below. It will not be \
                 tried again.",
            ),
        },
        delayed: News {
            subject: Cow::Borrowed("Delayed mail (still being retried)"),
            opening: Cow::Borrowed(
                "Your message has not been delivered to the recipients below yet. You need do \
                 nothing: it will be tried again.",
            ),
        },
        delivered: News {
            subject: Cow::Borrowed("Successful mail delivery report"),
            opening: Cow::Borrowed(
                "You asked to be told of this: your message has been delivered to the recipients \
                 below, or handed to a system that will not report on it.",
            ),
        },
        said: Cow::Borrowed("{host} said:"),
        tried_until: Cow::Borrowed("It will be tried until {date}."),
    };

    /// What is said of this.
    pub(crate) fn news(&self, action: Action) -> &News {
        match action {
            Action::Failed => &self.failed,
            Action::Delayed => &self.delayed,
            Action::Delivered | Action::Relayed | Action::Expanded => &self.delivered,
        }
    }
}
