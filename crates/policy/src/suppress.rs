#![doc = include_str!("../docs/suppress.md")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use merpati_dsn::{BounceClass, Classifier, Symptom};
use merpati_plugin::deliver::DeliveryResult;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{DeliveryOutcome, Failure, OutboundPolicy, Stopped, async_trait};
use merpati_types::{Mailbox, Rejection, Status, Timestamp};

use crate::stock::Environment;
use crate::suppression::{Bounce, Subject, Suppression};

/// The longest file, in octets: about a million addresses.
const SIZE_LIMIT: u64 = 64 << 20;

/// Why a file of suppressed addresses is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuppressError {
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
    #[error("{} is longer than {SIZE_LIMIT} octets", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line names neither an address nor a domain.
    #[error("{}:{line}: neither an address nor `@domain`: {text}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Who is not to be written to: by a file, by the suppression list, or by both.
#[derive(Debug)]
pub struct Suppress {
    now: fn() -> Timestamp,
    file: HashMap<Subject, Entry>,
    suppression: Option<Suppression>,
    classifier: Classifier,
}

#[derive(Debug)]
struct Entry {
    until: Option<Timestamp>,
    why: String,
}

impl Suppress {
    /// By the environment's list, if it has one.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            now: environment.now,
            file: HashMap::new(),
            suppression: environment.suppression.clone(),
            classifier: environment.classifier.clone(),
        }
    }

    /// Reads the file, too.
    ///
    /// # Errors
    /// [`SuppressError`].
    pub fn open(path: &Path, environment: &Environment) -> Result<Self, SuppressError> {
        let failed = |source| SuppressError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > SIZE_LIMIT {
            return Err(SuppressError::TooLong { path: path.to_owned() });
        }
        let mut entries = HashMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (who, entry) = read_line(text).ok_or_else(|| SuppressError::Line {
                path: path.to_owned(),
                line,
                text: text.to_owned(),
            })?;
            entries.insert(who, entry);
        }
        tracing::info!(file = %path.display(), addresses = entries.len(), "suppressions read");
        Ok(Self { file: entries, ..Self::new(environment) })
    }

    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, environment: &Environment) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let opened = match reader.optional::<PathBuf>("file") {
            Some(file) => Self::open(&file, environment)
                .map_err(|error| reader.reject("file", Failure::from(error))),
            None => Ok(Self::new(environment)),
        };
        let has_file = options.keys().any(|key| key.value == "file");
        reader.finish()?;
        if !has_file && environment.suppression.is_none() {
            return Err(options.reject("nobody is suppressed: set `file`, or add [suppression]"));
        }
        opened
    }

    /// Why an address is not written to, if it is not.
    fn why(&self, address: &Mailbox) -> Result<Option<String>, Failure> {
        let now = (self.now)();
        if !self.file.is_empty() {
            let whole = [Subject::of(address), Subject::domain_of(address)];
            let entries = whole.iter().filter_map(|who| self.file.get(who));
            let mut entries = entries.filter(|entry| entry.until.is_none_or(|until| now < until));
            if let Some(entry) = entries.next() {
                return Ok(Some(entry.why.clone()));
            }
        }
        let Some(suppression) = &self.suppression else { return Ok(None) };
        let found = suppression.list()?.find(address, now);
        Ok(found.map(|(_, entry)| entry.reason))
    }

    /// What a refusal for good says of an address, if a server has refused it.
    fn class(&self, outcome: &DeliveryOutcome) -> Option<BounceClass> {
        let DeliveryResult::Failed { status } = outcome.result else { return None };
        outcome.remote.as_ref()?;
        let symptom = Symptom::of(&outcome.diagnostic);
        let symptom = Symptom { status: symptom.status.or(Some(status)), ..symptom };
        Some(self.classifier.class(&symptom))
    }
}

#[async_trait]
impl OutboundPolicy for Suppress {
    fn name(&self) -> &str {
        "suppress"
    }

    async fn route(&self, parcel: &Parcel) -> Result<Vec<Stopped>, Failure> {
        let mut stopped = Vec::new();
        for (recipient, to) in parcel.recipients() {
            let Some(why) = self.why(&to.address)? else { continue };
            let text = match why.as_str() {
                "" => "this address is suppressed here".to_owned(),
                why => format!("this address is suppressed here: {why}"),
            };
            stopped.push(Stopped { recipient, why: Rejection::permanent(Status::POLICY, &text) });
        }
        Ok(stopped)
    }

    async fn outcome(&self, parcel: &Parcel, outcomes: &[DeliveryOutcome]) {
        let Some(suppression) = &self.suppression else { return };
        let attempted = parcel.recipients().zip(outcomes);
        let bounces: Vec<_> = attempted
            .filter_map(|((_, to), outcome)| {
                let class = self.class(outcome)?;
                Some(Bounce { address: &to.address, class, why: &outcome.diagnostic })
            })
            .collect();
        let id = parcel.id;
        match suppression.bounced(&bounces, (self.now)()).await {
            Ok(listed) => {
                for (bounce, _) in bounces.iter().zip(listed).filter(|(_, listed)| *listed) {
                    let Bounce { address: to, class, why } = bounce;
                    tracing::info!(event = "suppressed", %id, %to, %class, reply = why);
                }
            }
            Err(error) => {
                let error = Failure::from(error);
                tracing::warn!(%id, %error, "bounces are not noted");
            }
        }
    }
}

fn read_line(line: &str) -> Option<(Subject, Entry)> {
    let (who, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let who = who.parse().ok()?;
    let rest = rest.trim_start();
    let (first, why) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let moment = || first.parse().or_else(|_| format!("{first}T00:00:00Z").parse()).ok();
    let (until, why) = match moment() {
        Some(until) => (Some(until), why.trim_start()),
        None => (None, rest),
    };
    Some((who, Entry { until, why: why.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use merpati_ledger::Ledger;
    use merpati_plugin::OutboundChain;
    use merpati_testkit::spool_contract::parcel;
    use merpati_types::Domain;

    use super::*;
    use crate::suppression::{SuppressionList, SuppressionRules};

    fn open(text: &str) -> Result<Suppress, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let now = || "2026-11-23T00:00:00Z".parse().unwrap();
        let domain = Domain::parse("relay.test").unwrap();
        let environment = Environment { now, ..Environment::new(domain) };
        Suppress::open(file.path(), &environment)
            .map_err(|error| error.to_string().replace(file.path().to_str().unwrap(), "FILE"))
    }

    async fn check(text: &str, address: &str, expected: Option<&str>) {
        let parcel = parcel(1, &[address], "x.test");
        let policy: Arc<dyn OutboundPolicy> = Arc::new(open(text).unwrap());
        let chain = OutboundChain::new(vec![(policy, std::time::Duration::from_secs(1))]);
        let said = chain.route(&parcel).await.remove(0).map(|why| why.to_string());
        assert_eq!(said.as_deref(), expected, "{address} by {text}");
    }

    #[tokio::test]
    async fn addresses_and_domains_are_kept_from_mail() {
        let file = "# who\n\nBounced@Example.org\nloud@example.org 2026-12-31 full\n\
                    quiet@example.org 2026-11-22\n@gone.test 2027-01-31T12:00:00Z  they asked\n\
                    a@b\u{fc}cher.test because of that\n";
        let plain = Some("550 5.7.1 this address is suppressed here");
        check(file, "bounced@EXAMPLE.org", plain).await;
        check(file, "loud@example.org", Some("550 5.7.1 this address is suppressed here: full"))
            .await;
        check(
            file,
            "anyone@gone.test",
            Some("550 5.7.1 this address is suppressed here: they asked"),
        )
        .await;
        let reason = Some("550 5.7.1 this address is suppressed here: because of that");
        check(file, "a@xn--bcher-kva.test", reason).await;
        for other in ["quiet@example.org", "other@example.org", "a@sub.gone.test", "a@[192.0.2.1]"]
        {
            check(file, other, None).await;
        }
    }

    /// Two refusals of an address, then mail to it: by servers, of what class, or by ourselves.
    #[tokio::test]
    async fn who_bounces_is_not_written_to() {
        let refused = |text: &str, remote: Option<&str>| DeliveryOutcome {
            result: DeliveryResult::Failed { status: "5.0.0".parse().unwrap() },
            remote: remote.map(str::to_owned),
            source: None,
            diagnostic: text.to_owned(),
        };
        let server = Some("mx.x.test [192.0.2.1]:25");
        for (outcome, expected) in [
            (refused("550 5.1.1 no such user", server), true),
            (refused("550 5.1.1 no such user", None), false),
            (refused("552 5.2.2 mailbox full", server), false),
            (
                DeliveryOutcome {
                    result: DeliveryResult::Delivered(merpati_plugin::deliver::Handover::Final),
                    ..refused("250 2.1.1 no such user", server)
                },
                false,
            ),
        ] {
            let rules = SuppressionRules { bounces: 2, ..SuppressionRules::default() };
            let disk = Arc::new(merpati_testkit::disk::SimDisk::new());
            let ledger = Ledger::open(disk, rules.ledger_limits()).unwrap().0;
            let suppression = Suppression::new(rules);
            let domain = Domain::parse("relay.test").unwrap();
            let environment =
                Environment { suppression: Some(suppression.clone()), ..Environment::new(domain) };
            let policy = Suppress::new(&environment);
            let parcel = parcel(1, &["a@x.test"], "x.test");
            assert!(policy.route(&parcel).await.is_err(), "the list is not open yet");
            suppression.connect(SuppressionList::new(ledger));
            for _ in 0..2 {
                assert_eq!(policy.route(&parcel).await.unwrap(), []);
                policy.outcome(&parcel, std::slice::from_ref(&outcome)).await;
            }
            let stopped = policy.route(&parcel).await.unwrap();
            let why = "550 5.7.1 this address is suppressed here: 550 5.1.1 no such user";
            let stopped: Vec<_> = stopped.iter().map(|stop| stop.why.to_string()).collect();
            assert_eq!(stopped, if expected { vec![why] } else { vec![] }, "{outcome:?}");
        }
    }

    #[test]
    fn wrong_lines_are_told() {
        let error = open("a@b.test\nnobody\n").unwrap_err();
        assert_eq!(error, "FILE:2: neither an address nor `@domain`: nobody");
        assert!(open("@-x-\n").is_err());
    }
}
