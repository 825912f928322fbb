//! Every reply the machine gives of its own accord, and the mapping from errors to replies.

use merpati_types::{RejectCode, Rejection, Status};
use merpati_wire::{AuthLineError, CommandError};

pub(super) const RESET: &str = "250 2.0.0 flushed\r\n";
pub(super) const NOOP: &str = "250 2.0.0 ok\r\n";
pub(super) const VRFY: &str = "252 2.5.0 cannot verify, but will take a message\r\n";
pub(super) const HELP: &str = "214 2.0.0 see RFC 5321\r\n";
pub(super) const QUIT: &str = "221 2.0.0 bye\r\n";
pub(super) const GO_TLS: &str = "220 2.0.0 begin the handshake\r\n";
pub(super) const GO_DATA: &str = "354 end with <CRLF>.<CRLF>\r\n";
pub(super) const SENDER_OK: &str = "250 2.1.0 sender ok\r\n";
pub(super) const RECIPIENT_OK: &str = "250 2.1.5 recipient ok\r\n";
pub(super) const MESSAGE_OK: &str = "250 2.0.0 message accepted\r\n";
pub(super) const AUTH_OK: &str = "235 2.7.0 authenticated\r\n";

/// Whether a refusal counts towards the limit of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// A mistake of the client's program.
    Error,
    /// Policy: counted elsewhere, or not at all.
    No,
}

fn code(code: RejectCode, status: Status, text: &str) -> Rejection {
    Rejection::with(code, status, text)
}

pub(super) fn line_too_long() -> Rejection {
    code(RejectCode::C500, Status::SYNTAX, "line too long")
}

pub(super) fn sequence(text: &str) -> Rejection {
    code(RejectCode::C503, Status::BAD_COMMAND, text)
}

pub(super) fn unknown_command() -> Rejection {
    code(RejectCode::C500, Status::BAD_COMMAND, "command not recognised")
}

pub(super) fn not_implemented() -> Rejection {
    code(RejectCode::C502, Status::BAD_COMMAND, "command not implemented")
}

pub(super) fn parameter_not_offered(name: &str) -> Rejection {
    code(RejectCode::C555, Status::BAD_ARGUMENTS, &format!("parameter {name} is not offered"))
}

/// A parameter that is well-formed and asks for what cannot be.
pub(super) fn impossible(text: &str) -> Rejection {
    code(RejectCode::C501, Status::BAD_ARGUMENTS, text)
}

pub(super) fn utf8_address() -> Rejection {
    code(RejectCode::C553, Status::UTF8_ADDRESS, "an internationalized address needs SMTPUTF8")
}

pub(super) fn tls_needed() -> Rejection {
    code(RejectCode::C530, Status::SECURITY, "issue STARTTLS first")
}

pub(super) fn auth_needed() -> Rejection {
    code(RejectCode::C530, Status::SECURITY, "authentication is required")
}

pub(super) fn unknown_mechanism() -> Rejection {
    code(RejectCode::C504, Status::BAD_ARGUMENTS, "mechanism is not offered")
}

pub(super) fn auth_cancelled() -> Rejection {
    code(RejectCode::C501, Status::SECURITY, "authentication cancelled")
}

pub(super) fn too_big() -> Rejection {
    code(RejectCode::C552, Status::MESSAGE_TOO_BIG, "message exceeds the size limit")
}

pub(super) fn too_many_recipients() -> Rejection {
    code(RejectCode::C452, Status::TOO_MANY_RECIPIENTS, "too many recipients")
}

pub(super) fn too_many_transactions() -> Rejection {
    code(RejectCode::C452, Status::TOO_MANY_RECIPIENTS, "too many messages in this session")
}

pub(super) fn bare_line_end() -> Rejection {
    Rejection::permanent(
        Status::CONTENT,
        "message has a CR or LF that is not part of CRLF; only BODY=BINARYMIME with BDAT can carry it",
    )
}

pub(super) fn no_recipients() -> Rejection {
    code(RejectCode::C554, Status::BAD_COMMAND, "no valid recipients")
}

pub(super) fn bytes_behind_starttls() -> Rejection {
    code(RejectCode::C503, Status::BAD_COMMAND, "nothing may be sent behind STARTTLS")
}

pub(super) fn confused() -> Rejection {
    Rejection::transient(Status::SYSTEM, "temporary failure, try again later")
}

/// A refusal that ends the session.
pub(super) fn closing(status: Status, text: &str) -> Rejection {
    code(RejectCode::C421, status, text)
}

/// A malformed command's reply. HTTP verbs have none: they close the session.
pub(super) fn command(error: &CommandError) -> Option<Rejection> {
    Some(match error {
        CommandError::HttpVerb => return None,
        CommandError::Unknown => unknown_command(),
        CommandError::Nul => code(RejectCode::C500, Status::SYNTAX, "NUL in a command"),
        CommandError::BareLineEnd => {
            code(RejectCode::C500, Status::SYNTAX, "CR or LF in a command")
        }
        CommandError::Syntax { usage } => {
            code(RejectCode::C501, Status::BAD_ARGUMENTS, &format!("syntax: {usage}"))
        }
        CommandError::Sender(_) => {
            code(RejectCode::C501, Status::BAD_SENDER_SYNTAX, "malformed sender address")
        }
        CommandError::Recipient(_) => {
            code(RejectCode::C501, Status::BAD_RECIPIENT_SYNTAX, "malformed recipient address")
        }
        CommandError::Utf8Address => utf8_address(),
        CommandError::UnknownParameter { name } => code(
            RejectCode::C555,
            Status::BAD_ARGUMENTS,
            &format!("parameter {name} is not recognised"),
        ),
        CommandError::BadParameter { name } => code(
            RejectCode::C501,
            Status::BAD_ARGUMENTS,
            &format!("parameter {name} has a bad value"),
        ),
        CommandError::Initial(error) => auth_line(*error),
        // The enum may grow; what is new is malformed until it is named here.
        _ => code(RejectCode::C501, Status::BAD_ARGUMENTS, "malformed command"),
    })
}

pub(super) fn auth_line_too_long() -> Rejection {
    code(RejectCode::C500, Status::AUTH_LINE_TOO_LONG, "authentication line too long")
}

/// A malformed line of an AUTH exchange.
pub(super) fn auth_line(error: AuthLineError) -> Rejection {
    match error {
        AuthLineError::TooLong { .. } => auth_line_too_long(),
        _ => code(RejectCode::C501, Status::SYNTAX, "not base64"),
    }
}
