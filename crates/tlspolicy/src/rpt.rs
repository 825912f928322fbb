//! TLS reports (RFC 8460): sessions are counted, and each day those domains hear of them that ask.

mod mail;
mod report;
mod results;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use merpati_http::{Body, Client, Limits, Request};
use merpati_ledger::LedgerError;
use merpati_plugin::spool::{Attributes, Durability, NewMessage, Origin};
use merpati_plugin::{ResolveError, Resolver, Spool, SpoolError, TLS_REPORT_TAG};
use merpati_route::tls_rpt::{Destination, find_destinations, record_name};
use merpati_types::{
    BodyType, Domain, Envelope, HeaderEdits, Mailbox, Notify, Recipient, ReversePath, Timestamp,
};
use tokio::sync::watch;

use mail::Letter;
use report::{DateRange, Report};
use results::{Entry, Key};

pub use results::{Results, ResultsSlot};

const DAY_MS: i64 = 86_400_000;
/// How often counts are made durable: what a crash may lose.
const WRITE: Duration = Duration::from_secs(5);
/// How often it is looked whether reports are due.
const LOOK: Duration = Duration::from_secs(60);
/// After midnight, reports leave within this time (RFC 8460 §4.1 has four hours for example).
const SPREAD: Duration = Duration::from_secs(4 * 3_600);
/// How long after a failure the next attempt is made.
const RETRY: Duration = Duration::from_secs(3_600);
/// How long after it was due a report is given up.
const GIVE_UP: Duration = Duration::from_secs(24 * 3_600);
/// The most domains whose reports are sent at once.
const AT_ONCE: usize = 8;
const MEDIA_TYPE: &str = "application/tlsrpt+gzip";

/// Why counts cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsError {
    /// The directory cannot be used.
    #[error("{directory}: {reason}")]
    Directory {
        /// Which.
        directory: String,
        /// What is wrong with it.
        reason: LedgerError,
    },
    /// The directory is not there, or not ours.
    #[error("{directory}: {reason}")]
    Io {
        /// Which.
        directory: String,
        /// What the system says.
        reason: std::io::Error,
    },
}

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// `organization-name`.
    pub organization: String,
    /// `contact-info`: how to reach those who can say more.
    pub contact: String,
    /// From whom reports come by mail. Its domain has to sign them with DKIM (RFC 8460 §3).
    pub from: Mailbox,
    /// The name of this server.
    pub submitter: Domain,
}

/// Sends reports of what [`Results`] has counted.
pub struct Reporter {
    results: Results,
    resolver: Arc<dyn Resolver>,
    client: Client,
    spool: Arc<dyn Spool>,
    settings: ReportSettings,
}

/// What became of a report.
enum Fate {
    /// Sent to all, or wanted by nobody.
    Done,
    /// Not everybody has it yet.
    Again(String),
}

impl Reporter {
    /// Reports `results`: where to is looked up by `resolver`, `https:` goes by `client`, and mail
    /// into `spool`.
    #[must_use]
    pub fn new(
        results: Results,
        resolver: Arc<dyn Resolver>,
        client: Client,
        spool: Arc<dyn Spool>,
        settings: ReportSettings,
    ) -> Self {
        Self { results, resolver, client, spool, settings }
    }

    /// Keeps counts durable, and sends reports as they become due, until `stop` says true or is
    /// gone.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let writing = async {
            loop {
                tokio::time::sleep(WRITE).await;
                self.results.write().await;
            }
        };
        let sending = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.send_due(self.results.now()).await;
            }
        };
        tokio::select! {
            () = writing => {}
            () = sending => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        self.results.write().await;
    }

    /// Sends the reports that are due at `now`.
    pub async fn send_due(&self, now: Timestamp) {
        let due = self.results.before(now.as_millis().div_euclid(DAY_MS), |key, entry| {
            self.due(key) <= now && entry.retry.is_none_or(|retry| retry <= now)
        });
        let attempts = futures_util::stream::iter(due);
        attempts.for_each_concurrent(AT_ONCE, |(key, entry)| self.settle(key, entry, now)).await;
        self.results.write().await;
    }

    /// When the report of a day leaves: spread over some hours, for those who get many.
    fn due(&self, key: &Key) -> Timestamp {
        let mut hasher = DefaultHasher::new();
        (self.results.token(), key.domain.as_ascii(), key.day).hash(&mut hasher);
        let spread = Duration::from_secs(hasher.finish() % SPREAD.as_secs());
        midnight(key.day + 1).after(spread)
    }

    async fn settle(&self, key: Key, entry: Entry, now: Timestamp) {
        let domain = &key.domain;
        match self.send(&key, &entry, now).await {
            Fate::Done => self.results.remove(&key),
            Fate::Again(why) if now.since(self.due(&key)) >= GIVE_UP => {
                tracing::warn!(%domain, why, "a TLS report is given up");
                self.results.remove(&key);
            }
            Fate::Again(why) => {
                tracing::info!(%domain, why, "a TLS report is tried again later");
                self.results.change(&key, |entry| entry.retry = Some(now.after(RETRY)));
            }
        }
    }

    async fn send(&self, key: &Key, entry: &Entry, now: Timestamp) -> Fate {
        let places = match self.destinations(&key.domain).await {
            Ok(places) => places,
            Err(why) => return Fate::Again(why),
        };
        let report_id = self.report_id(key);
        let gzip = Bytes::from(self.report(key, entry, &report_id).gzip());
        let mut failed = Vec::new();
        for place in places {
            let name = match &place {
                Destination::Mail(address) => format!("mailto:{address}"),
                Destination::Https(url) => url.clone(),
            };
            if entry.sent.contains(&name) {
                continue;
            }
            let result = match &place {
                Destination::Mail(to) => self.mail(key, &report_id, to, &gzip, now).await,
                Destination::Https(url) => self.post(url, &gzip).await,
            };
            match result {
                Ok(()) => {
                    tracing::info!(domain = %key.domain, to = name, report_id, "TLS report sent");
                    self.results.change(key, |entry| entry.sent.push(name));
                    // Sooner is better: what a crash forgets is sent twice.
                    self.results.write().await;
                }
                Err(why) => failed.push(format!("{name}: {why}")),
            }
        }
        if failed.is_empty() { Fate::Done } else { Fate::Again(failed.join("; ")) }
    }

    /// Where a domain wants its reports: nowhere, mostly.
    async fn destinations(&self, domain: &Domain) -> Result<Vec<Destination>, String> {
        let Some(name) = record_name(domain) else { return Ok(Vec::new()) };
        match self.resolver.txt(&name).await {
            Ok(answer) => {
                let texts = answer.records.iter().map(Vec::as_slice);
                Ok(find_destinations(texts).unwrap_or_default())
            }
            Err(ResolveError::NoData(_) | ResolveError::NxDomain(_)) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The same for each attempt, so that a report that comes twice is known.
    fn report_id(&self, key: &Key) -> String {
        let (date, token) = (date(midnight(key.day)), self.results.token());
        let (domain, submitter) = (key.domain.as_ascii(), self.settings.submitter.as_ascii());
        format!("{}.{token}.{domain}@{submitter}", &date[..10])
    }

    fn report<'a>(&'a self, key: &Key, entry: &'a Entry, report_id: &'a str) -> Report<'a> {
        Report {
            organization_name: &self.settings.organization,
            date_range: DateRange {
                start_datetime: date(midnight(key.day)),
                end_datetime: date(last_second(key.day)),
            },
            contact_info: &self.settings.contact,
            report_id,
            policies: &entry.policies,
        }
    }

    async fn post(&self, url: &str, gzip: &Bytes) -> Result<(), String> {
        let request =
            Request::post(url, Body::Bytes(gzip.clone())).with("Content-Type", MEDIA_TYPE);
        match self.client.send(request, &Limits::default()).await {
            Ok(response) if (200..300).contains(&response.status) => Ok(()),
            Ok(response) => Err(format!("status {}", response.status)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn mail(
        &self,
        key: &Key,
        report_id: &str,
        to: &Mailbox,
        gzip: &[u8],
        now: Timestamp,
    ) -> Result<(), String> {
        let (domain, submitter) = (&key.domain, &self.settings.submitter);
        let seconds = |at: Timestamp| at.as_millis() / 1_000;
        let filename = format!(
            "{}!{}!{}!{}.json.gz",
            submitter.as_ascii(),
            domain.as_ascii(),
            seconds(midnight(key.day)),
            seconds(last_second(key.day)),
        );
        let from = &self.settings.from;
        let letter =
            Letter { from, to, domain, submitter, report_id, filename: &filename, gzip, now };
        self.commit(letter.write(), to, now).await.map_err(|error| error.to_string())
    }

    async fn commit(&self, bytes: Bytes, to: &Mailbox, now: Timestamp) -> Result<(), SpoolError> {
        let international = [to, &self.settings.from].iter().any(|who| who.is_internationalized());
        let mut attributes = Attributes::default();
        attributes.tags.insert(TLS_REPORT_TAG.to_owned(), String::new());
        let message = NewMessage {
            envelope: Envelope {
                // Nobody hears of a report that does not arrive.
                sender: ReversePath::Null,
                recipients: vec![Recipient { notify: Notify::Never, ..Recipient::new(to.clone()) }],
                ret: None,
                envid: None,
                body: if international { BodyType::EightBitMime } else { BodyType::SevenBit },
                smtputf8: international,
                requiretls: false,
                submitter: None,
            },
            edits: HeaderEdits::default(),
            attributes,
            origin: Origin::default(),
            arrived: now,
        };
        let mut writer = self.spool.begin().await?;
        writer.write(bytes).await?;
        writer.commit(message, Durability::Sync).await.map(drop)
    }
}

/// When a day begins.
fn midnight(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

fn last_second(day: i64) -> Timestamp {
    Timestamp::from_millis(midnight(day + 1).as_millis() - 1_000)
}

/// Without the milliseconds, which are none.
fn date(at: Timestamp) -> String {
    at.to_string().replace(".000Z", "Z")
}
