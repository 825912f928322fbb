//! What exit statuses mean: `sysexits.h`, as mail programs have used it since sendmail.

use std::os::unix::process::ExitStatusExt as _;

use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult};
use merpati_types::{Severity, Status};

use super::{Ended, delivered, outcome as outcome_of};

/// What an end means for the recipient.
pub(super) fn outcome(program: &str, ended: Ended) -> DeliveryOutcome {
    let Ended { status, said } = ended;
    let told = |what: String| if said.is_empty() { what } else { format!("{what}: {said}") };
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let result = DeliveryResult::Deferred {
            status: Status::SYSTEM.with(Severity::Transient),
            class: DeferClass::Local,
        };
        return outcome_of(result, told(format!("the program was ended by signal {signal}")));
    };
    let Some((status, severity, name)) = meaning(code) else {
        return delivered(told(format!("delivered to {program}")));
    };
    let status = status.with(severity);
    let result = match severity {
        Severity::Permanent => DeliveryResult::Failed { status },
        Severity::Transient => DeliveryResult::Deferred { status, class: DeferClass::Local },
    };
    outcome_of(result, told(format!("the program ended with {code}, {name}")))
}

/// What a status says that is no success.
fn meaning(code: i32) -> Option<(Status, Severity, &'static str)> {
    use Severity::{Permanent, Transient};
    Some(match code {
        0 => return None,
        64 => (Status::BAD_ARGUMENTS, Permanent, "command line usage error"),
        65 => (Status::CONTENT, Permanent, "data format error"),
        67 => (Status::NO_MAILBOX, Permanent, "no such user"),
        68 => (Status::NO_DOMAIN, Permanent, "no such host"),
        71 => (Status::SYSTEM, Transient, "system error"),
        73 => (Status::MAILBOX, Permanent, "cannot create its output"),
        75 => (Status::SYSTEM, Transient, "temporary failure"),
        76 => (Status::PROTOCOL, Permanent, "protocol error"),
        77 => (Status::SECURITY, Permanent, "permission denied"),
        78 => (Status::MISCONFIGURED, Permanent, "configuration error"),
        _ => (Status::SYSTEM, Permanent, "failure"),
    })
}
