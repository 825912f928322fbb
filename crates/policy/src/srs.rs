#![doc = include_str!("../docs/srs.md")]

use merpati_dsn::Srs;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{Failure, OutboundPolicy, SendAs, async_trait};
use merpati_types::{Domain, Mailbox, ReversePath, Timestamp};

use crate::addresses::{Writes, read_srs};
use crate::stock::Environment;

/// Rewrites the senders of forwarded mail.
#[derive(Debug)]
pub struct SrsPolicy {
    srs: Srs,
    /// Whose mail is not forwarded mail.
    ours: Vec<Domain>,
    fallback: Option<Mailbox>,
    now: fn() -> Timestamp,
}

impl SrsPolicy {
    /// Rewrites by `srs` what comes from none of the domains that are ours and goes to none of
    /// them; under `fallback` what cannot be rewritten.
    #[must_use]
    pub fn new(
        srs: Srs,
        ours: Vec<Domain>,
        fallback: Option<Mailbox>,
        environment: &Environment,
    ) -> Self {
        Self { srs, ours, fallback, now: environment.now }
    }

    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, environment: &Environment) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let srs = read_srs(&mut reader, Writes::Yes);
        let mut ours = reader.or("domains", Vec::new());
        ours.extend(reader.optional::<Domain>("domain"));
        let fallback = reader.optional("fallback");
        reader.finish()?;
        Ok(Self::new(srs?, ours, fallback, environment))
    }
}

#[async_trait]
impl OutboundPolicy for SrsPolicy {
    fn name(&self) -> &str {
        "srs"
    }

    async fn send_as(&self, parcel: &Parcel) -> Result<SendAs, Failure> {
        let ReversePath::Mailbox(sender) = parcel.reverse_path() else {
            return Ok(SendAs::Itself);
        };
        let is_from_us = sender.host().domain().is_some_and(|domain| self.ours.contains(domain));
        let is_for_us = self.ours.iter().any(|ours| ours.as_ascii() == parcel.next_hop.as_str());
        if is_from_us || is_for_us {
            return Ok(SendAs::Itself);
        }
        match (self.srs.forward(sender, (self.now)()), &self.fallback) {
            (Ok(rewritten), _) => Ok(SendAs::All(ReversePath::Mailbox(rewritten))),
            (Err(error), Some(fallback)) => {
                tracing::debug!(id = %parcel.id, %sender, %error, %fallback, "not rewritten");
                Ok(SendAs::All(ReversePath::Mailbox(fallback.clone())))
            }
            (Err(error), None) => {
                tracing::info!(id = %parcel.id, %sender, %error, "forwarded under its sender");
                Ok(SendAs::Itself)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use merpati_dsn::{Keyring, SrsOptions};
    use merpati_testkit::spool_contract::parcel;
    use merpati_types::Secret;

    use super::*;

    async fn check(sender: &str, to: &str, fallback: Option<&str>, expected: &str) {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let now = || Timestamp::from_millis(1_795_443_000_000);
        let environment = Environment { now, ..Environment::new(domain("fwd.test")) };
        let keys = Keyring::new(Secret::new(b"tops3cret".to_vec()));
        let srs = Srs::new(keys, domain("fwd.test"), SrsOptions::default());
        let ours = vec![domain("fwd.test"), domain("ours.test")];
        let fallback = fallback.map(|address| Mailbox::parse(address).unwrap());
        let policy = SrsPolicy::new(srs, ours, fallback, &environment);
        let path = ReversePath::parse(sender).unwrap();
        let parcel = parcel(1, &[&format!("bob@{to}")], to).under(path);
        let sent = match policy.send_as(&parcel).await.unwrap() {
            SendAs::Itself => sender.to_owned(),
            SendAs::All(path) => path.to_string(),
            SendAs::Each(_) => unreachable!("all recipients have one sender"),
        };
        assert_eq!(sent, expected, "{sender} to {to}");
    }

    #[tokio::test]
    async fn forwarded_mail_has_a_sender_of_ours() {
        let alice = "<alice@sender.test>";
        let rewritten = "<SRS0=+aFq=JM=sender.test=alice@fwd.test>";
        check(alice, "away.test", None, rewritten).await;
        check(alice, "ours.test", None, alice).await;
        check(alice, "fwd.test", None, alice).await;
        check("<carol@Ours.test>", "away.test", None, "<carol@Ours.test>").await;
        check("<>", "away.test", None, "<>").await;
        check(rewritten, "away.test", None, rewritten).await;
        let long = format!("<{}@sender.test>", "a".repeat(50));
        check(&long, "away.test", None, &long).await;
        check(&long, "away.test", Some("forward@fwd.test"), "<forward@fwd.test>").await;
        let literal = "<alice@[192.0.2.1]>";
        check(literal, "away.test", None, literal).await;
    }
}
