//! The reports that an attempt makes due.

use bytes::{Bytes, BytesMut};
use merpati_dsn::{
    About, Action, Classifier, Languages, OriginalMessage, Report, ReportedRecipient, Symptom,
    Wording, told, wanted,
};
use merpati_plugin::deliver::{DeliveryOutcome, MessageSource};
use merpati_plugin::spool::{Attributes, FollowUp, NewMessage, Origin, Parcel};
use merpati_types::{EnhancedStatus, HeaderEdits, HeaderSection, Recipient, Ret, Timestamp};

/// The most of a message that is read for a report.
const READ_LIMIT: usize = 128 * 1024;

/// What became of one recipient, as far as its sender is concerned.
pub(crate) struct Fate<'a> {
    pub(crate) recipient: &'a Recipient,
    pub(crate) outcome: &'a DeliveryOutcome,
    pub(crate) action: Action,
    pub(crate) status: EnhancedStatus,
    pub(crate) retry_until: Option<Timestamp>,
}

/// How senders are told what became of their mail.
#[derive(Clone, Debug)]
pub struct Reporting {
    /// In which words.
    pub languages: Languages,
    /// What a reply means.
    pub classifier: Classifier,
}

/// In English, by the rules that come with `merpati-dsn`.
impl Default for Reporting {
    fn default() -> Self {
        let languages = Languages::fixed(Wording::english().clone());
        Self { languages, classifier: Classifier::default() }
    }
}

/// The reports that are due, one for each kind of news, ready to be queued.
pub(crate) async fn follow_ups(
    (hostname, reporting): (&str, &Reporting),
    parcel: &Parcel,
    fates: &[Fate<'_>],
    message: Option<&dyn MessageSource>,
    now: Timestamp,
) -> Vec<(Action, FollowUp)> {
    // Nobody is told of a report that failed: it ends here (RFC 5321 §4.5.5).
    let Some(sender) = told(&parcel.info.message.envelope) else { return Vec::new() };
    let kinds: [&[Action]; 3] = [
        &[Action::Failed],
        &[Action::Delayed],
        &[Action::Delivered, Action::Relayed, Action::Expanded],
    ];
    let envelope = &parcel.info.message.envelope;
    // RFC 8689 §5: the report may travel in the clear, so that nothing of the body is in it.
    let ret = if envelope.requiretls { Some(Ret::Headers) } else { envelope.ret };
    let mut due = Vec::new();
    let mut original = None;
    for (number, kind) in (0_u64..).zip(kinds) {
        let about_them = |fate: &&Fate<'_>| {
            kind.contains(&fate.action) && wanted(fate.recipient.notify, fate.action)
        };
        let reported = |fate| reported(fate, &reporting.classifier);
        let recipients: Vec<_> = fates.iter().filter(about_them).map(reported).collect();
        let Some(first) = recipients.first().map(|recipient| recipient.action) else { continue };
        if original.is_none() {
            original = Some(Original::read(message, ret).await);
        }
        let Some(original) = &original else { continue };
        let about = About {
            reporting_mta: hostname.to_owned(),
            message: parcel.id.message,
            // Unique among the reports about this message: parcel, attempt, kind.
            seed: u64::from(parcel.id.number) << 32 | u64::from(parcel.attempts) << 2 | number,
            to: sender.clone(),
            envid: envelope.envid.clone(),
            ret,
            arrived: parcel.info.message.arrived,
            received_from: parcel.info.message.origin.hello.clone(),
            utf8: envelope.smtputf8,
            now,
        };
        let original = original.as_returned();
        let wording = reporting.languages.choose(original.headers);
        let report = Report::write_in(wording, &about, &recipients, original);
        due.push((first, follow_up(report, &about, now)));
    }
    due
}

fn reported(fate: &Fate<'_>, classifier: &Classifier) -> ReportedRecipient {
    // `name [address]:port` is for our logs; a report names the host.
    let host = |remote: &String| remote.split(' ').next().unwrap_or_default().to_owned();
    let symptom = Symptom::of(&fate.outcome.diagnostic);
    let symptom = Symptom { status: symptom.status.or(Some(fate.status)), ..symptom };
    ReportedRecipient {
        address: fate.recipient.address.clone(),
        orcpt: fate.recipient.orcpt.clone(),
        action: fate.action,
        status: fate.status,
        class: classifier.class(&symptom),
        remote_mta: fate.outcome.remote.as_ref().map(host),
        diagnostic: fate.outcome.diagnostic.clone(),
        retry_until: fate.retry_until,
    }
}

fn follow_up(report: Report, about: &About, now: Timestamp) -> FollowUp {
    let message = NewMessage {
        envelope: report.envelope(about.to.clone()),
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived: now,
    };
    FollowUp { message, body: Bytes::from(report.bytes) }
}

/// As much of the message as a report may return.
struct Original {
    bytes: Bytes,
    headers: usize,
    whole: bool,
}

impl Original {
    async fn read(message: Option<&dyn MessageSource>, ret: Option<Ret>) -> Self {
        let mut bytes = BytesMut::new();
        let mut whole = false;
        if let Some(Ok(mut reader)) = match message {
            Some(message) => Some(message.open().await),
            None => None,
        } {
            loop {
                match reader.next().await {
                    Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                    Ok(None) => {
                        whole = ret == Some(Ret::Full);
                        break;
                    }
                    // A report without the message is better than none.
                    Err(_) => break,
                }
                let headers_only = ret != Some(Ret::Full);
                if bytes.len() > READ_LIMIT
                    || (headers_only && memchr::memmem::find(&bytes, b"\r\n\r\n").is_some())
                {
                    break;
                }
            }
        }
        bytes.truncate(READ_LIMIT);
        let bytes = bytes.freeze();
        let headers = HeaderSection::read(&bytes).map_or(0, |section| section.raw().len());
        Self { bytes, headers, whole }
    }

    fn as_returned(&self) -> OriginalMessage<'_> {
        OriginalMessage {
            headers: &self.bytes[..self.headers],
            whole: self.whole.then_some(&self.bytes[..]),
        }
    }
}
