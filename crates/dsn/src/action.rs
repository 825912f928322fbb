//! What a report says, and who wants to hear it.

use merpati_types::{Class, EnhancedStatus, Notify, Ret, Severity, Status};

/// The Action field (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Not delivered, and never will be.
    Failed,
    /// Not delivered yet.
    Delayed,
    /// Delivered.
    Delivered,
    /// Handed to a host that sends no reports.
    Relayed,
    /// Delivered to an address that stands for several.
    Expanded,
}

impl Action {
    /// The field's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    /// The action of that name, in whatever case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Failed, Self::Delayed, Self::Delivered, Self::Relayed, Self::Expanded]
            .into_iter()
            .find(|action| action.name().eq_ignore_ascii_case(name))
    }

    /// What a status without an action means.
    pub(crate) fn of(status: EnhancedStatus) -> Self {
        match status.class {
            Class::Success => Self::Delivered,
            Class::Transient => Self::Delayed,
            Class::Permanent => Self::Failed,
        }
    }

    /// The status of an action of which no more is known.
    pub(crate) fn undefined(self) -> EnhancedStatus {
        match self {
            Self::Failed => Status::UNDEFINED.with(Severity::Permanent),
            Self::Delayed => Status::UNDEFINED.with(Severity::Transient),
            Self::Delivered | Self::Relayed | Self::Expanded => Status::UNDEFINED.success(),
        }
    }
}

/// Whether a recipient's NOTIFY asks for a report of this (RFC 3461 §4.1, §5.2). Without
/// NOTIFY, failures and delays are reported.
#[must_use]
pub fn wanted(notify: Notify, action: Action) -> bool {
    match (notify, action) {
        (Notify::Never, _) => false,
        (Notify::Unspecified, Action::Failed | Action::Delayed) => true,
        (Notify::Unspecified, _) => false,
        (Notify::On(on), Action::Failed) => on.failure,
        (Notify::On(on), Action::Delayed) => on.delay,
        (Notify::On(on), Action::Delivered | Action::Relayed | Action::Expanded) => on.success,
    }
}

/// How much of the message comes back: all of it only for failures, and only if asked for
/// (RFC 3461 §4.3).
pub(crate) fn returned(ret: Option<Ret>, action: Action) -> Ret {
    match (ret, action) {
        (Some(Ret::Full), Action::Failed) => Ret::Full,
        _ => Ret::Headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use merpati_types::NotifyOn;

    #[test]
    fn notify_is_obeyed() {
        let success = Notify::On(NotifyOn { success: true, ..NotifyOn::default() });
        let failure = Notify::On(NotifyOn { failure: true, ..NotifyOn::default() });
        let delay = Notify::On(NotifyOn { delay: true, ..NotifyOn::default() });
        let table = [
            (Action::Failed, [true, false, false, true, false]),
            (Action::Delayed, [true, false, false, false, true]),
            (Action::Delivered, [false, false, true, false, false]),
            (Action::Relayed, [false, false, true, false, false]),
            (Action::Expanded, [false, false, true, false, false]),
        ];
        for (action, expected) in table {
            let asked = [Notify::Unspecified, Notify::Never, success, failure, delay];
            assert_eq!(asked.map(|notify| wanted(notify, action)), expected, "{action:?}");
        }
    }
}
