//! What reports say, as events, and what follows from it.

use merpati_dsn::{
    Action, BounceClass, DeliveryReport, FeedbackKind, FeedbackReport, ReceivedReport, Returned,
};
use merpati_plugin::{Failure, News};
use merpati_types::{Mailbox, ReversePath, Timestamp};

use super::config::Believe;
use super::{Arrival, Shared};
use crate::suppression::Bounce;

/// The most recipients of one report that are looked at.
const MOST: usize = 100;

impl Shared {
    /// What a report says, a piece of news for each recipient. What is believed has been acted on.
    pub(super) async fn read(&self, report: &ReceivedReport, arrivals: &[Arrival]) -> Vec<News> {
        let now = (self.environment.now)();
        let mut all = match report {
            ReceivedReport::Delivery(report) => self.delivery(report, arrivals),
            ReceivedReport::Feedback(report) => self.feedback(report, arrivals, now),
        };
        for news in &mut all {
            if news.is_signed || self.config.believe == Believe::All {
                news.suppressed = self.act(news, now).await.unwrap_or_else(|error| {
                    // The report is kept, and its sender need not send it again.
                    tracing::warn!(%error, "a report does not reach the suppression list");
                    false
                });
            }
        }
        all
    }

    /// Whether the recipient is suppressed now because of it.
    async fn act(&self, news: &News, now: Timestamp) -> Result<bool, Failure> {
        let Some(suppression) = &self.environment.suppression else { return Ok(false) };
        let Some(recipient) = &news.recipient else { return Ok(false) };
        let class = news.class.and_then(|class| class.parse::<BounceClass>().ok());
        if news.kind == Action::Failed.name()
            && let Some(class) = class
        {
            let why = news.diagnostic.as_deref().unwrap_or("a report came back");
            let bounce = Bounce { address: recipient, class, why };
            return Ok(suppression.bounced(&[bounce], now).await? == [true]);
        }
        if news.kind == FeedbackKind::Abuse.as_str() {
            return Ok(suppression.complained(recipient, "its owner has complained", now).await?);
        }
        Ok(false)
    }

    fn delivery(&self, report: &DeliveryReport, arrivals: &[Arrival]) -> Vec<News> {
        // The address it came to is ours, and says more than the report can.
        let about = arrivals.iter().find_map(|arrival| arrival.about.as_ref());
        let is_signed = arrivals.iter().any(|arrival| arrival.is_signed);
        let one = |status: &merpati_dsn::RecipientStatus| {
            let original = status.original.as_ref();
            let original = original.and_then(|typed| Mailbox::parse(&typed.value).ok());
            let symptom = status.symptom();
            let is_trouble = matches!(status.action, Action::Failed | Action::Delayed);
            News {
                kind: status.action.name(),
                recipient: about.cloned().or(original).or_else(|| status.mailbox()),
                class: is_trouble.then(|| self.environment.classifier.class(&symptom).as_str()),
                status: Some(status.status),
                diagnostic: status.diagnostic.as_ref().map(|typed| typed.value.clone()),
                envid: report.status.envid.clone(),
                message_id: report.returned.as_ref().and_then(Returned::message_id),
                is_signed,
                suppressed: false,
            }
        };
        // An address that names a recipient is about no other one.
        let most = if about.is_some() { 1 } else { MOST };
        report.status.recipients.iter().take(most).map(one).collect()
    }

    fn feedback(&self, report: &FeedbackReport, arrivals: &[Arrival], now: Timestamp) -> Vec<News> {
        // The sender of the message complained about is an address of ours.
        let returned = report.returned.as_ref();
        let path = returned.and_then(|returned| returned.headers.find("Return-Path"));
        let path = path.map(|field| field.unfolded().trim().to_owned());
        let path = path.and_then(|path| ReversePath::parse(&path).ok());
        let sent_as = report.mail_from.as_deref().and_then(|text| Mailbox::parse(text).ok());
        let sent_as = sent_as.or_else(|| path.and_then(|path| path.mailbox().cloned()));
        let sent_as =
            sent_as.and_then(|address| self.config.resolve(&address, false, now).ok().flatten());
        let is_signed = arrivals.iter().any(|arrival| arrival.is_signed)
            || sent_as.as_ref().is_some_and(|resolved| resolved.is_signed);
        let named = arrivals.iter().find_map(|arrival| arrival.about.clone());
        let about = named.or_else(|| sent_as.and_then(|resolved| resolved.about));
        let recipients: Vec<_> = match about {
            Some(about) => vec![Some(about)],
            None if report.recipients.is_empty() => vec![None],
            None => {
                let named = report.recipients.iter().take(MOST);
                named.map(|text| Mailbox::parse(text).ok()).collect()
            }
        };
        let news = |recipient| News {
            kind: report.kind.as_str(),
            recipient,
            envid: report.envid.clone(),
            message_id: returned.and_then(Returned::message_id),
            is_signed,
            ..News::default()
        };
        recipients.into_iter().map(news).collect()
    }
}
