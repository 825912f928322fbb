//! Delivery by HTTP: a POST for each parcel, of the message as it is or as JSON.
//!
//! ```text
//!   2xx                       delivered
//!   408, 425, 429, 5xx        later
//!   401, 403, 407, 3xx        later: our credentials or the URL are to be mended
//!   other                     failed
//! ```
//! Every attempt for a parcel has the same `Idempotency-Key`, so that a server can tell a message
//! it has from a new one, where its answer was lost.

mod json;

use std::sync::Arc;
use std::time::Duration;

use merpati_http::{Body, Client, HttpError, Limits, Request, Response};
use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{Deliverer, Job, async_trait};
use merpati_types::{Secret, Severity, Status};

use crate::said::readable;

/// How much of an answer is read.
const ANSWER: usize = 4_096;

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As it is (`message/rfc822`), with sender and recipients in header fields.
    #[default]
    Raw,
    /// As JSON: `id`, `arrived`, `sender`, `recipients`, `size`, and `message` in base 64.
    Json,
}

/// What an HTTP transport needs to know.
#[derive(Clone)]
pub struct PostConfig {
    /// The transport's name.
    pub name: String,
    /// Where messages go.
    pub url: String,
    /// How they are written.
    pub form: Form,
    /// What is shown in `Authorization: Bearer`.
    pub token: Option<Secret<String>>,
    /// How long a request may take.
    pub time_limit: Duration,
    /// Whether `http:` will do.
    pub plain: bool,
}

/// Posts messages.
#[derive(Clone)]
pub struct Post {
    config: Arc<PostConfig>,
    client: Client,
}

impl Post {
    /// A transport with this configuration.
    #[must_use]
    pub fn new(config: PostConfig, client: Client) -> Self {
        Self { config: Arc::new(config), client }
    }

    async fn post(&self, job: &Job) -> DeliveryOutcome {
        let reader = match job.message.open().await {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!(id = %job.parcel.id, %error, "cannot read the message");
                return deferred(
                    Status::SYSTEM,
                    DeferClass::Local,
                    "the message cannot be read now",
                );
            }
        };
        let size = job.message.size();
        let (kind, body) = match self.config.form {
            Form::Raw => ("message/rfc822", Body::Stream { length: size, reader }),
            Form::Json => ("application/json", json::body(job, reader)),
        };
        let mut request = Request::post(self.config.url.clone(), body)
            .with("Content-Type", kind)
            .with("Idempotency-Key", format!("{}-{}", job.parcel.id.message, job.parcel.id.number));
        if self.config.form == Form::Raw {
            request = request.with("X-Mail-From", job.parcel.reverse_path().to_string());
            for (_, recipient) in job.parcel.recipients() {
                request = request.with("X-Rcpt-To", format!("<{}>", recipient.address));
            }
        }
        if let Some(token) = &self.config.token {
            request = request.with("Authorization", format!("Bearer {}", token.expose()));
        }
        let limits = Limits {
            time: self.config.time_limit,
            body: ANSWER,
            cut: true,
            plain: self.config.plain,
        };
        job.notes.connecting();
        // From here on the server may have it although we do not know.
        job.notes.final_dot(&self.config.url).await;
        match self.client.send(request, &limits).await {
            Ok(response) => heard(&response),
            Err(error) => {
                tracing::info!(id = %job.parcel.id, %error, "no answer to a POST");
                unheard(&error)
            }
        }
    }
}

#[async_trait]
impl Deliverer for Post {
    fn name(&self) -> &str {
        &self.config.name
    }

    /// Whatever the domain, it is one server.
    async fn site(&self, _: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        Ok(self.config.url.as_str().into())
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let outcome = self.post(&job).await;
        let outcome = DeliveryOutcome { remote: Some(self.config.url.clone()), ..outcome };
        vec![outcome; job.parcel.pending.len()]
    }
}

/// What an answer means.
fn heard(response: &Response) -> DeliveryOutcome {
    let said = readable(&response.body);
    let diagnostic =
        format!("HTTP {}{}{said}", response.status, if said.is_empty() { "" } else { ": " });
    let peer = |status: Status| DeliveryResult::Deferred {
        status: status.with(Severity::Transient),
        class: DeferClass::Peer,
    };
    let result = match response.status {
        200..=299 => DeliveryResult::Delivered(Handover::Final),
        408 | 425 | 429 | 500..=599 => peer(Status::SYSTEM),
        300..=399 | 401 | 403 | 407 => peer(Status::MISCONFIGURED),
        _ => DeliveryResult::Failed { status: Status::SYSTEM.with(Severity::Permanent) },
    };
    DeliveryOutcome { result, remote: None, source: None, diagnostic }
}

/// What no answer means.
fn unheard(error: &HttpError) -> DeliveryOutcome {
    match error {
        HttpError::Certificate(_) => {
            deferred(Status::CRYPTOGRAPHIC_FAILURE, DeferClass::Security, &error.to_string())
        }
        HttpError::Unreachable(_) => {
            deferred(Status::NO_ANSWER, DeferClass::Connection, &error.to_string())
        }
        HttpError::Wrong(_) => {
            deferred(Status::MISCONFIGURED, DeferClass::Local, "the URL is wrong")
        }
        _ => deferred(Status::BAD_CONNECTION, DeferClass::Connection, &error.to_string()),
    }
}

fn deferred(status: Status, class: DeferClass, text: &str) -> DeliveryOutcome {
    let status = status.with(Severity::Transient);
    let result = DeliveryResult::Deferred { status, class };
    DeliveryOutcome { result, remote: None, source: None, diagnostic: text.to_owned() }
}

#[cfg(test)]
mod tests;
