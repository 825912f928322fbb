//! Who we are to a server: one account for all mail, or one for each sender.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use merpati_plugin::Table;
use merpati_plugin::deliver::{DeferClass, DeliveryOutcome};
use merpati_plugin::spool::Parcel;
use merpati_plugin::table::{TableError, lookup_address};
use merpati_sasl::Mechanism;
use merpati_sasl::client::{Credentials, CredentialsError, InClear};
use merpati_types::{Rejection, ReversePath, Secret, Severity, Status};

use super::connection::DialError;
use super::oauth::{OAuth, TokenError};
use super::pool::Key;
use super::stream::Endpoint;

/// How long a host that refused our credentials is not asked again: servers lock accounts that
/// fail too often.
const REST: Duration = Duration::from_secs(5 * 60);
/// The most refusals that are remembered.
const REMEMBERED: usize = 1_000;

/// How a transport authenticates.
#[derive(Clone, Default)]
pub struct Login {
    /// Accounts by sender: an address or a domain, and `user:password`.
    pub by_sender: Option<Arc<dyn Table>>,
    /// The account of every other sender; without it their mail goes without authentication.
    pub account: Option<Account>,
    /// The mechanisms that may be used; empty is all.
    pub mechanisms: Vec<Mechanism>,
    /// What may go over a connection without TLS.
    pub in_clear: InClear,
}

/// An account.
#[derive(Clone)]
pub enum Account {
    /// What proves it stays the same.
    Fixed(Credentials),
    /// It is proved by tokens that end.
    Renewed {
        /// The user.
        user: String,
        /// Gives the tokens.
        tokens: Arc<OAuth>,
    },
}

/// Who a message is sent as. Two are the same if the user is.
#[derive(Clone)]
pub(crate) struct User(Arc<Known>);

struct Known {
    account: Account,
    mechanisms: Vec<Mechanism>,
    in_clear: InClear,
}

/// Why it is not known who we are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownUser {
    #[error("{0}")]
    Table(#[from] TableError),
    #[error("the row for {key} is not `user:password`")]
    NoPassword { key: String },
    #[error("the row for {key}: {error}")]
    Credentials { key: String, error: CredentialsError },
}

impl Login {
    /// Who a parcel's mail is sent as; nobody, if there is no account for its sender. That is who
    /// has sent it, and not the reverse path that a policy may have made of it.
    pub(crate) async fn user(&self, parcel: &Parcel) -> Result<Option<User>, UnknownUser> {
        let own = match (&self.by_sender, &parcel.info.message.envelope.sender) {
            (Some(table), ReversePath::Mailbox(sender)) => {
                let hit = lookup_address(table.as_ref(), sender).await?;
                hit.map(account).transpose()?.map(Account::Fixed)
            }
            _ => None,
        };
        Ok(own.or_else(|| self.account.clone()).map(|account| self.with(account)))
    }

    fn with(&self, account: Account) -> User {
        let mechanisms = self.mechanisms.clone();
        User(Arc::new(Known { account, mechanisms, in_clear: self.in_clear }))
    }
}

fn account(hit: merpati_plugin::table::Hit) -> Result<Credentials, UnknownUser> {
    let merpati_plugin::table::Hit { key, value } = hit;
    let value = Secret::new(value);
    let Some((user, password)) = value.expose().split_once(':') else {
        return Err(UnknownUser::NoPassword { key });
    };
    Credentials::password(user, Secret::new(password.to_owned()))
        .map_err(|error| UnknownUser::Credentials { key, error })
}

impl UnknownUser {
    /// It is our configuration: mail waits until that is mended.
    pub(crate) fn to_outcome(&self) -> DeliveryOutcome {
        let text = "the account for this sender cannot be found out now";
        let rejection = Rejection::transient(Status::MISCONFIGURED, text);
        DeliveryOutcome::refused(&rejection, DeferClass::Local)
    }
}

impl User {
    /// What proves it now.
    pub(crate) async fn credentials(&self) -> Result<Credentials, TokenError> {
        match &self.0.account {
            Account::Fixed(credentials) => Ok(credentials.clone()),
            Account::Renewed { user, tokens } => {
                let token = tokens.token().await?;
                Credentials::token(user, token).map_err(|_| TokenError::Malformed)
            }
        }
    }

    /// What proves it was not taken; answers whether there may be another proof.
    pub(crate) async fn renew(&self) -> bool {
        match &self.0.account {
            Account::Fixed(_) => false,
            Account::Renewed { tokens, .. } => {
                tokens.forget().await;
                true
            }
        }
    }

    /// The mechanisms that may be used; empty is all.
    pub(crate) fn mechanisms(&self) -> &[Mechanism] {
        &self.0.mechanisms
    }

    /// What may go over a connection without TLS.
    pub(crate) fn in_clear(&self) -> InClear {
        self.0.in_clear
    }

    pub(crate) fn name(&self) -> &str {
        match &self.0.account {
            Account::Fixed(credentials) => credentials.user(),
            Account::Renewed { user, .. } => user,
        }
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for User {}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.name())
    }
}

impl Hash for User {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// Which hosts do not know us as whom.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<(String, String), Instant>>);

impl Refusals {
    /// Whether it is too early to try this host again.
    pub(super) fn rests(&self, key: &Key) -> bool {
        let Some(user) = &key.user else { return false };
        let since = self.lock().get(&name(key, user)).copied();
        since.is_some_and(|since| since.elapsed() < REST)
    }

    /// Takes note of how a host answered; says so in the log, once until it is well again.
    pub(super) fn heard<T>(&self, key: &Key, answer: &Result<T, DialError>) {
        let Some(user) = &key.user else { return };
        let mut refused = self.lock();
        match answer {
            Ok(_) => drop(refused.remove(&name(key, user))),
            Err(error) if is_refusal(error) => {
                if refused.len() >= REMEMBERED {
                    refused.retain(|_, since| since.elapsed() < REST);
                }
                if refused.len() < REMEMBERED
                    && refused.insert(name(key, user), Instant::now()).is_none()
                {
                    let (host, user) = (&key.host, user.name());
                    tracing::error!(host, user, %error, "cannot log in; mail waits");
                }
            }
            Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Instant>> {
        // The map is whole between statements, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of a host are one: what one says the others would say.
fn name(key: &Key, user: &User) -> (String, String) {
    let host = match &key.endpoint {
        Endpoint::Tcp(address) => format!("{}:{}", key.host, address.port()),
        Endpoint::Unix(path) => path.display().to_string(),
    };
    (host, user.name().to_owned())
}

/// Whether the same would be said again: 454 may be otherwise in a moment (RFC 4954 §6).
fn is_refusal(error: &DialError) -> bool {
    match error {
        DialError::Auth(reply) => reply.severity() == Some(Severity::Permanent),
        DialError::NoAuth | DialError::Exchange(_) => true,
        _ => false,
    }
}

/// What a host that does not know us means.
pub(super) fn resting(host: &str) -> DeliveryOutcome {
    let text = "the server has refused our credentials a moment ago";
    let rejection = Rejection::transient(Status::SECURITY, text);
    let outcome = DeliveryOutcome::refused(&rejection, DeferClass::Local);
    DeliveryOutcome { remote: Some(host.to_owned()), ..outcome }
}
