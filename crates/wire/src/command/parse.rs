//! Reads command lines.

use merpati_types::{ForwardPath, ReversePath};

use super::{Command, CommandError, HelloName, Last};
use crate::auth::Initial;
use crate::params::{MailParams, RcptParams};
use crate::xclient::{Xclient, Xforward};

/// The verbs of HTTP/1.1 (RFC 9110 §9.3, RFC 5789), and the preface of HTTP/2.
const HTTP_VERBS: &[&[u8]] = &[
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI",
];

const MAIL_USAGE: &str = "MAIL FROM:<address> [parameters]";
const RCPT_USAGE: &str = "RCPT TO:<address> [parameters]";

pub(super) fn command(line: &[u8]) -> Result<Command, CommandError> {
    if memchr::memchr(0, line).is_some() {
        return Err(CommandError::Nul);
    }
    if memchr::memchr2(b'\r', b'\n', line).is_some() {
        return Err(CommandError::BareLineEnd);
    }
    // RFC 5321 §4.1.1: trailing white space is to be tolerated.
    let line = trim_end(line);
    let (verb, rest) = match line.iter().position(|&octet| octet == b' ') {
        Some(at) => (&line[..at], trim_start(&line[at..])),
        None => (line, &line[..0]),
    };
    if HTTP_VERBS.contains(&verb) {
        return Err(CommandError::HttpVerb);
    }
    // No verb is longer than XFORWARD.
    let mut upper = [0; 8];
    let Some(slot) = upper.get_mut(..verb.len()) else { return Err(CommandError::Unknown) };
    slot.copy_from_slice(verb);
    slot.make_ascii_uppercase();
    match &*slot {
        b"EHLO" => hello(rest, "EHLO hostname").map(Command::Ehlo),
        b"HELO" => hello(rest, "HELO hostname").map(Command::Helo),
        b"LHLO" => hello(rest, "LHLO hostname").map(Command::Lhlo),
        b"MAIL" => mail(rest),
        b"RCPT" => rcpt(rest),
        b"DATA" => alone(rest, Command::Data, "DATA"),
        b"BDAT" => bdat(rest),
        b"RSET" => alone(rest, Command::Rset, "RSET"),
        b"NOOP" => Ok(Command::Noop),
        b"VRFY" => text(rest, "VRFY address").map(Command::Vrfy),
        b"EXPN" => text(rest, "EXPN list").map(Command::Expn),
        b"HELP" if rest.is_empty() => Ok(Command::Help(None)),
        b"HELP" => text(rest, "HELP [command]").map(|text| Command::Help(Some(text))),
        b"QUIT" => alone(rest, Command::Quit, "QUIT"),
        b"STARTTLS" => alone(rest, Command::StartTls, "STARTTLS"),
        b"AUTH" => auth(rest),
        b"XCLIENT" => Xclient::parse(utf8(rest, Xclient::USAGE)?).map(Command::Xclient),
        b"XFORWARD" => Xforward::parse(utf8(rest, Xforward::USAGE)?).map(Command::Xforward),
        _ => Err(CommandError::Unknown),
    }
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&octet| octet == b' ').count();
    &text[spaces..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take_while(|&&octet| octet == b' ' || octet == b'\t').count();
    &text[..text.len() - spaces]
}

fn utf8<'a>(text: &'a [u8], usage: &'static str) -> Result<&'a str, CommandError> {
    std::str::from_utf8(text).map_err(|_| CommandError::Syntax { usage })
}

fn alone(rest: &[u8], command: Command, usage: &'static str) -> Result<Command, CommandError> {
    if rest.is_empty() { Ok(command) } else { Err(CommandError::Syntax { usage }) }
}

fn hello(rest: &[u8], usage: &'static str) -> Result<HelloName, CommandError> {
    // Octets that are not UTF-8 are replaced: a strange name is no reason to refuse mail.
    HelloName::new(&String::from_utf8_lossy(rest)).ok_or(CommandError::Syntax { usage })
}

/// An argument of free text: not empty, UTF-8, without control characters.
fn text(rest: &[u8], usage: &'static str) -> Result<String, CommandError> {
    let text = utf8(rest, usage)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(CommandError::Syntax { usage });
    }
    Ok(text.to_owned())
}

fn mail(rest: &[u8]) -> Result<Command, CommandError> {
    let (path, params) = path_and_params(rest, "FROM:", MAIL_USAGE)?;
    let path = ReversePath::parse(path).map_err(CommandError::Sender)?;
    let params = MailParams::parse(params)?;
    let command = Command::Mail { path, params };
    match &command {
        Command::Mail { params, .. } if !params.smtputf8 && command.is_internationalized() => {
            Err(CommandError::Utf8Address)
        }
        _ => Ok(command),
    }
}

fn rcpt(rest: &[u8]) -> Result<Command, CommandError> {
    let (path, params) = path_and_params(rest, "TO:", RCPT_USAGE)?;
    let path = ForwardPath::parse(path).map_err(CommandError::Recipient)?;
    Ok(Command::Rcpt { path, params: RcptParams::parse(params)? })
}

/// Cuts `FROM:<path> params` into the path with its brackets, and the parameters.
fn path_and_params<'a>(
    rest: &'a [u8],
    keyword: &str,
    usage: &'static str,
) -> Result<(&'a str, &'a str), CommandError> {
    let syntax = CommandError::Syntax { usage };
    let rest = utf8(rest, usage)?;
    let (given, rest) = rest.split_at_checked(keyword.len()).ok_or(syntax.clone())?;
    if !given.eq_ignore_ascii_case(keyword) {
        return Err(syntax);
    }
    let rest = rest.trim_start_matches(' ');
    if !rest.starts_with('<') {
        return Err(syntax);
    }
    let end = path_end(rest).ok_or(syntax.clone())?;
    let (path, params) = rest.split_at(end);
    if !(params.is_empty() || params.starts_with(' ')) {
        return Err(syntax);
    }
    Ok((path, params))
}

/// Where a path that begins with `<` ends, `>` included; one within quotes does not count.
fn path_end(text: &str) -> Option<usize> {
    let mut quotes = Quotes::Outside;
    for (at, octet) in text.bytes().enumerate() {
        quotes = match (quotes, octet) {
            (Quotes::Outside, b'>') => return Some(at + 1),
            (Quotes::Outside, b'"') => Quotes::Inside,
            (Quotes::Inside, b'"') => Quotes::Outside,
            (Quotes::Inside, b'\\') => Quotes::Escaped,
            (Quotes::Escaped, _) => Quotes::Inside,
            (state, _) => state,
        };
    }
    None
}

#[derive(Clone, Copy)]
enum Quotes {
    Outside,
    Inside,
    Escaped,
}

fn bdat(rest: &[u8]) -> Result<Command, CommandError> {
    let usage = "BDAT size [LAST]";
    let mut words = utf8(rest, usage)?.split(' ').filter(|word| !word.is_empty());
    let size = words.next().and_then(decimal).ok_or(CommandError::Syntax { usage })?;
    let last = match words.next() {
        None => Last::No,
        Some(word) if word.eq_ignore_ascii_case("LAST") => Last::Yes,
        Some(_) => return Err(CommandError::Syntax { usage }),
    };
    match words.next() {
        None => Ok(Command::Bdat { size, last }),
        Some(_) => Err(CommandError::Syntax { usage }),
    }
}

/// A number of 1 to 20 digits; what exceeds 64 bits is `u64::MAX`.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn auth(rest: &[u8]) -> Result<Command, CommandError> {
    let usage = "AUTH mechanism [initial-response]";
    let mut words = rest.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
    let name = words.next().ok_or(CommandError::Syntax { usage })?;
    let allowed = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    if name.len() > 20 || !name.iter().all(allowed) {
        return Err(CommandError::Syntax { usage });
    }
    let mechanism = name.iter().map(|octet| char::from(octet.to_ascii_uppercase())).collect();
    let initial = words.next().map(Initial::parse).transpose().map_err(CommandError::Initial)?;
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(CommandError::Syntax { usage }),
    }
}
