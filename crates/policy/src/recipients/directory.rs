//! The file of addresses. Its form is in the policy's documentation.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use merpati_types::{Domain, DomainError, LocalPart, Mailbox, MailboxError};

use super::RecipientsConfig;

/// The longest file, in octets: about two million addresses.
const SIZE_LIMIT: u64 = 64 * 1024 * 1024;

pub(super) const POSTMASTER: &str = "postmaster";

/// Why recipients are not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is longer than 64 MiB.
    #[error("{} is longer than {limit} octets", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A line is wrong.
    #[error("{}:{line}: {error}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
    /// No domain is ours.
    #[error("there must be at least one domain")]
    NoDomains,
    /// RFC 5321 §4.5.1: every domain has a postmaster.
    #[error(
        "{} has no mailbox postmaster@{domain}, which RFC 5321 §4.5.1 demands; add it, or set \
         `postmaster`", path.display()
    )]
    NoPostmaster {
        /// The file.
        path: PathBuf,
        /// The domain without one.
        domain: Domain,
    },
    /// The target for the postmasters is in one of our domains, and no mailbox of it.
    #[error("`postmaster` is {address}, which is not in {}", path.display())]
    UnknownTarget {
        /// The file.
        path: PathBuf,
        /// The target.
        address: Mailbox,
    },
}

/// What is wrong with a line of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// No address.
    #[error("not an address: {0}")]
    Address(#[from] MailboxError),
    /// No domain after the `@`.
    #[error("not a domain: {0}")]
    Domain(#[from] DomainError),
    /// Of a domain that is not ours, so that the line would never be used.
    #[error("not in one of the policy's domains")]
    Foreign,
}

/// Who is in our domains.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// `local@domain`, both in lower case.
    mailboxes: HashSet<Box<str>>,
    /// Domains of which every address is known.
    whole: HashSet<Domain>,
}

impl Directory {
    pub(super) fn load(config: &RecipientsConfig) -> Result<Self, RecipientsError> {
        let path = &config.file;
        let directory = Self::parse(&read(path)?, &config.domains)
            .map_err(|(line, error)| RecipientsError::Line { path: path.clone(), line, error })?;
        directory.check_postmasters(config)?;
        Ok(directory)
    }

    fn parse(text: &str, domains: &[Domain]) -> Result<Self, (usize, LineError)> {
        let mut directory = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                directory.add(line, domains).map_err(|error| (number + 1, error))?;
            }
        }
        Ok(directory)
    }

    fn add(&mut self, line: &str, domains: &[Domain]) -> Result<(), LineError> {
        let ours = |domain: &&Domain| domains.contains(domain);
        if let Some(domain) = line.strip_prefix('@') {
            let domain = Domain::parse(domain)?;
            ours(&&domain).then_some(()).ok_or(LineError::Foreign)?;
            self.whole.insert(domain);
            return Ok(());
        }
        let mailbox = Mailbox::parse(line)?;
        let domain = mailbox.host().domain().filter(ours).ok_or(LineError::Foreign)?;
        self.mailboxes.insert(key(mailbox.local().as_str(), domain).into());
        Ok(())
    }

    fn check_postmasters(&self, config: &RecipientsConfig) -> Result<(), RecipientsError> {
        let path = || config.file.clone();
        if config.domains.is_empty() {
            return Err(RecipientsError::NoDomains);
        }
        if let Some(target) = &config.postmaster {
            let domain = target.host().domain().filter(|domain| config.domains.contains(domain));
            if domain.is_some_and(|domain| !self.knows(target.local().as_str(), domain)) {
                let address = target.clone();
                return Err(RecipientsError::UnknownTarget { path: path(), address });
            }
            return Ok(());
        }
        match config.domains.iter().find(|domain| !self.knows(POSTMASTER, domain)) {
            Some(domain) => {
                Err(RecipientsError::NoPostmaster { path: path(), domain: domain.clone() })
            }
            None => Ok(()),
        }
    }

    /// How many mailboxes the file names.
    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// Whether mail for this local part is taken.
    pub(super) fn knows(&self, local: &str, domain: &Domain) -> bool {
        self.whole.contains(domain) || self.has_mailbox(local, domain)
    }

    /// Whether the file names this very mailbox.
    pub(super) fn has_mailbox(&self, local: &str, domain: &Domain) -> bool {
        self.mailboxes.contains(&*key(local, domain))
    }
}

pub(super) fn postmaster_of(domain: &Domain) -> Mailbox {
    let local = LocalPart::from_content(POSTMASTER).expect("it is a short word");
    Mailbox::new(local, domain.clone())
}

fn key(local: &str, domain: &Domain) -> String {
    let domain = domain.as_ascii();
    let mut key = String::with_capacity(local.len() + 1 + domain.len());
    key.push_str(local);
    key.make_ascii_lowercase();
    key.push('@');
    key.push_str(domain);
    key
}

fn read(path: &Path) -> Result<String, RecipientsError> {
    let unreadable = |source| RecipientsError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > SIZE_LIMIT {
        return Err(RecipientsError::TooLong { path: path.to_owned(), limit: SIZE_LIMIT });
    }
    Ok(text)
}
