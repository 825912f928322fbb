#![doc = include_str!("../docs/recipients.md")]

mod directory;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use merpati_plugin::{
    Connection, Conversation, Decision, Effect, Effects, Outcome, Policy, PolicyFactory,
    PolicyResult, Transaction, async_trait,
};
use merpati_types::{Domain, Mailbox, Orcpt, Recipient, Rejection, Status};

use self::directory::{Directory, POSTMASTER};
pub use self::directory::{LineError, RecipientsError};
use crate::stock::Environment;

/// Which domains are ours, and who is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientsConfig {
    /// Our domains, at least one.
    pub domains: Vec<Domain>,
    /// The file of addresses.
    pub file: PathBuf,
    /// What begins a sub-address.
    pub separator: Option<char>,
    /// Where mail to a postmaster without a mailbox goes.
    pub postmaster: Option<Mailbox>,
}

impl RecipientsConfig {
    /// The defaults: `+` begins a sub-address, and the postmaster has a mailbox.
    #[must_use]
    pub fn new(domains: Vec<Domain>, file: impl Into<PathBuf>) -> Self {
        Self { domains, file: file.into(), separator: Some('+'), postmaster: None }
    }
}

/// Vouches for the recipients of our domains that exist, refuses those that do not.
#[derive(Clone)]
pub struct Recipients {
    shared: Arc<Shared>,
}

struct Shared {
    config: RecipientsConfig,
    hostname: Domain,
    directory: RwLock<Arc<Directory>>,
}

impl Recipients {
    /// Reads the file.
    ///
    /// # Errors
    /// [`RecipientsError`], when the file cannot be read or has a wrong line, or when a domain
    /// has no postmaster.
    pub fn open(
        config: RecipientsConfig,
        environment: &Environment,
    ) -> Result<Self, RecipientsError> {
        let directory = Directory::load(&config)?;
        tracing::info!(file = %config.file.display(), mailboxes = directory.len(), "recipients read");
        let directory = RwLock::new(Arc::new(directory));
        let hostname = environment.hostname.clone();
        Ok(Self { shared: Arc::new(Shared { config, hostname, directory }) })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// [`RecipientsError`]; the recipients stay as they were.
    pub fn reload(&self) -> Result<(), RecipientsError> {
        let config = &self.shared.config;
        let directory = Arc::new(Directory::load(config)?);
        tracing::info!(file = %config.file.display(), mailboxes = directory.len(), "recipients read");
        // A writer only swaps a pointer: there is no half-made state behind a poisoned lock.
        *self.shared.directory.write().unwrap_or_else(PoisonError::into_inner) = directory;
        Ok(())
    }
}

impl PolicyFactory for Recipients {
    fn name(&self) -> &str {
        "recipients"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Policy for Recipients {
    async fn rcpt(
        &mut self,
        _conversation: &Conversation,
        _transaction: &Transaction,
        recipient: &Recipient,
    ) -> PolicyResult {
        Ok(self.shared.judge(recipient))
    }
}

impl Shared {
    fn judge(&self, recipient: &Recipient) -> Outcome {
        let Some(domain) = recipient.address.host().domain() else {
            return Outcome::CONTINUE;
        };
        let directory = Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner));
        let local = recipient.address.local();
        let ours = self.config.domains.contains(domain);
        if local.as_str().eq_ignore_ascii_case(POSTMASTER) && (ours || *domain == self.hostname) {
            return self.judge_postmaster(&directory, domain, recipient);
        }
        if !ours {
            return Outcome::CONTINUE;
        }
        let detail = self.config.separator.and_then(|separator| local.split_detail(separator));
        if directory.knows(local.as_str(), domain)
            || detail.is_some_and(|(user, _)| directory.knows(user, domain))
        {
            return Decision::Accept.into();
        }
        Rejection::permanent(Status::NO_MAILBOX, "no such mailbox here").into()
    }

    /// RFC 5321 §4.5.1: there is always one. Loading the directory has made sure of it.
    fn judge_postmaster(
        &self,
        directory: &Directory,
        domain: &Domain,
        recipient: &Recipient,
    ) -> Outcome {
        if directory.has_mailbox(POSTMASTER, domain) {
            return Decision::Accept.into();
        }
        let home = if self.config.domains.contains(domain) {
            domain
        } else {
            // The server's own name, which is what `<Postmaster>` without a domain becomes.
            let Some(first) = self.config.domains.first() else { return Outcome::CONTINUE };
            if directory.has_mailbox(POSTMASTER, first) {
                return redirect(recipient, directory::postmaster_of(first));
            }
            first
        };
        match &self.config.postmaster {
            Some(target) => redirect(recipient, target.clone()),
            None if home == domain => Decision::Accept.into(),
            None => redirect(recipient, directory::postmaster_of(home)),
        }
    }
}

/// Vouches for another mailbox in the recipient's place. Reports name the one that was asked for.
fn redirect(recipient: &Recipient, address: Mailbox) -> Outcome {
    let orcpt = recipient.orcpt.clone().unwrap_or_else(|| Orcpt::of(&recipient.address));
    let target = Recipient { address, notify: recipient.notify, orcpt: Some(orcpt) };
    let effects = Effects::NONE
        .with(Effect::AddRecipient(target))
        .with(Effect::RemoveRecipient(recipient.address.clone()));
    Outcome { decision: Decision::Accept, effects }
}

#[cfg(test)]
mod tests;
