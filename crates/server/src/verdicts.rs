//! The one place where errors become replies.

use merpati_plugin::{Ruling, SpoolError};
use merpati_session::server::Verdict;
use merpati_types::{HeaderError, RejectCode, Rejection, Status};

/// A chain's ruling as an answer to the session.
pub(crate) fn ruling(ruling: Ruling) -> Verdict {
    match ruling {
        Ruling::Proceed | Ruling::Discard => Verdict::Accept,
        Ruling::Refuse(why) => Verdict::Reject(why),
        Ruling::Disconnect(why) => Verdict::Disconnect(why),
    }
}

/// What the peer hears when the spool cannot take its message. The details are for the log.
pub(crate) fn spool(error: &SpoolError) -> Rejection {
    match error {
        SpoolError::Full { .. } => {
            Rejection::with(RejectCode::C452, Status::FULL, "not enough storage, try again later")
        }
        _ => Rejection::transient(Status::SYSTEM, "cannot store the message, try again later"),
    }
}

/// What the peer hears of a header section that exceeds its limits.
pub(crate) fn header(error: HeaderError) -> Rejection {
    Rejection::permanent(Status::CONTENT, &error.to_string())
}

/// 454: the back end cannot say. Never 535, which would make clients ask users for passwords.
pub(crate) fn auth_unavailable() -> Rejection {
    Rejection::with(RejectCode::C454, Status::SECURITY, "cannot authenticate now, try again later")
}

/// 535, whatever was wrong: whether the user exists is nobody's business.
pub(crate) fn auth_refused() -> Rejection {
    Rejection::with(RejectCode::C535, Status::AUTH_FAILED, "authentication failed")
}

/// A SASL message that breaks its syntax.
pub(crate) fn auth_malformed() -> Rejection {
    Rejection::with(RejectCode::C501, Status::SYNTAX, "malformed authentication message")
}

/// A question came when the driver has nothing to answer it with.
pub(crate) fn confused() -> Rejection {
    Rejection::transient(Status::SYSTEM, "temporary failure, try again later")
}
