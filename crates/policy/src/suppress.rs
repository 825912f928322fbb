#![doc = include_str!("../docs/suppress.md")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::{NextHop, Parcel};
use merpati_plugin::{Failure, OutboundPolicy, Stopped, async_trait};
use merpati_types::{Domain, Mailbox, Rejection, Status, Timestamp};

use crate::stock::Environment;

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

/// Who is not to be written to.
#[derive(Debug)]
pub struct Suppress {
    now: fn() -> Timestamp,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    until: Option<Timestamp>,
    why: String,
}

impl Suppress {
    /// Reads the file.
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
        Ok(Self { now: environment.now, entries })
    }

    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, environment: &Environment) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let file = reader.required::<PathBuf>("file");
        let opened = file.and_then(|file| {
            Self::open(&file, environment)
                .map_err(|error| reader.reject("file", Failure::from(error)))
        });
        reader.finish()?;
        opened
    }

    fn why(&self, address: &Mailbox) -> Option<&Entry> {
        let host = NextHop::of(address);
        let whole = [format!("{}@{host}", address.local().as_str()), format!("@{host}")];
        whole
            .iter()
            .filter_map(|who| self.entries.get(&who.to_lowercase()))
            .find(|entry| entry.until.is_none_or(|until| (self.now)() < until))
    }
}

#[async_trait]
impl OutboundPolicy for Suppress {
    fn name(&self) -> &str {
        "suppress"
    }

    async fn route(&self, parcel: &Parcel) -> Result<Vec<Stopped>, Failure> {
        let stopped = |(place, recipient): (u32, &merpati_types::Recipient)| {
            let entry = self.why(&recipient.address)?;
            let text = match entry.why.as_str() {
                "" => "this address is suppressed here".to_owned(),
                why => format!("this address is suppressed here: {why}"),
            };
            let why = Rejection::permanent(Status::POLICY, &text);
            Some(Stopped { recipient: place, why })
        };
        Ok(parcel.recipients().filter_map(stopped).collect())
    }
}

fn read_line(line: &str) -> Option<(String, Entry)> {
    let (who, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let who = match who.strip_prefix('@') {
        Some(domain) => format!("@{}", Domain::parse(domain).ok()?.as_ascii()),
        None => {
            let mailbox = Mailbox::parse(who).ok()?;
            format!("{}@{}", mailbox.local().as_str(), NextHop::of(&mailbox))
        }
    };
    let rest = rest.trim_start();
    let (first, why) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let moment = || first.parse().or_else(|_| format!("{first}T00:00:00Z").parse()).ok();
    let (until, why) = match moment() {
        Some(until) => (Some(until), why.trim_start()),
        None => (None, rest),
    };
    Some((who.to_lowercase(), Entry { until, why: why.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use merpati_plugin::OutboundChain;
    use merpati_testkit::spool_contract::parcel;

    use super::*;

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

    #[test]
    fn wrong_lines_are_told() {
        let error = open("a@b.test\nnobody\n").unwrap_err();
        assert_eq!(error, "FILE:2: neither an address nor `@domain`: nobody");
        assert!(open("@-x-\n").is_err());
    }
}
