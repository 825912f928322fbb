//! Arguments, in which a message's addresses are filled in.

use std::str::FromStr;

use merpati_plugin::Job;
use merpati_types::{Host, Recipient};

/// The names that can be filled in.
const NAMES: [&str; 8] = ["recipient", "local", "user", "detail", "domain", "sender", "id", "size"];
/// The most arguments.
const ARGUMENTS: usize = 100;

/// An argument: text with names in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(&'static str),
}

/// The text is no argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown name in braces; there are {{recipient}}, {{local}}, {{user}}, {{detail}}, {{domain}}, \
     {{sender}}, {{id}} and {{size}}"
)]
pub struct ArgumentError;

impl FromStr for Argument {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or(ArgumentError)?;
            let known = NAMES.iter().find(|known| **known == name).ok_or(ArgumentError)?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Name(known));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Self(pieces))
    }
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    program: String,
    arguments: Vec<Argument>,
}

/// Why there is no program to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgvError {
    /// Which program runs must not depend on a search path, nor on a message.
    #[error("the first is the absolute path of a program, without names in braces")]
    Program,
    /// There are too many.
    #[error("at most {ARGUMENTS}")]
    TooMany,
}

impl Argv {
    /// A program, and its arguments behind it.
    ///
    /// # Errors
    /// [`ArgvError`].
    pub fn new(mut all: Vec<Argument>) -> Result<Self, ArgvError> {
        if all.len() > ARGUMENTS {
            return Err(ArgvError::TooMany);
        }
        let program = match all.first().map(|first| first.0.as_slice()) {
            Some([Piece::Text(path)]) if path.starts_with('/') => path.clone(),
            _ => return Err(ArgvError::Program),
        };
        all.remove(0);
        Ok(Self { program, arguments: all })
    }

    /// The program's path.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The arguments for one message.
    pub(super) fn fill(&self, values: &Values<'_>) -> Result<Vec<String>, Given> {
        self.arguments.iter().map(|argument| argument.fill(values)).collect()
    }
}

/// An argument that an address would make an option.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) argument: String,
}

impl Argument {
    fn fill(&self, values: &Values<'_>) -> Result<String, Given> {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Name(name) => values.get(name),
        };
        let filled: String = self.0.iter().map(text).collect();
        let is_ours = matches!(self.0.first(), None | Some(Piece::Text(_)));
        if filled.starts_with('-') && !is_ours {
            return Err(Given { argument: filled });
        }
        Ok(filled)
    }
}

/// What is filled in.
pub(super) struct Values<'a> {
    job: &'a Job,
    recipient: &'a Recipient,
}

impl<'a> Values<'a> {
    pub(super) fn of(job: &'a Job, recipient: &'a Recipient) -> Self {
        Self { job, recipient }
    }

    fn get(&self, name: &str) -> String {
        let address = &self.recipient.address;
        let local = address.local();
        match name {
            "recipient" => address.to_string(),
            "local" => local.as_str().to_owned(),
            "user" => local.split_detail('+').map_or(local.as_str(), |(user, _)| user).to_owned(),
            "detail" => local.split_detail('+').map_or("", |(_, detail)| detail).to_owned(),
            "domain" => match address.host() {
                Host::Domain(domain) => domain.as_ascii().to_owned(),
                literal @ Host::Literal(_) => literal.to_string(),
            },
            "sender" => {
                let path = self.job.parcel.reverse_path();
                path.mailbox().map_or_else(String::new, ToString::to_string)
            }
            "id" => self.job.parcel.id.message.to_string(),
            "size" => self.job.message.size().to_string(),
            _ => String::new(),
        }
    }

    /// The same for the program's environment, in capitals.
    pub(super) fn environment(&self) -> impl Iterator<Item = (String, String)> {
        NAMES.iter().map(|name| (name.to_ascii_uppercase(), self.get(name)))
    }
}
