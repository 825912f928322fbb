//! AUTH (RFC 4954): the exchange on a connection.

use aws_lc_rs::rand;
use merpati_sasl::Mechanism;
use merpati_sasl::client::{
    Binding, BindingKind, Channel, Credentials, Exchange, ExchangeError, choose,
};
use rustls::ProtocolVersion;

use super::connection::DialError;
use super::credentials::User;

/// The longest AUTH command, with CR and LF: one that is longer goes without its initial response
/// (RFC 4954 §4, RFC 5321 §4.5.3.1.4).
const COMMAND_LIMIT: usize = 512;
/// What stands around mechanism and response in the command.
const AROUND: usize = "AUTH  \r\n".len();
/// Octets of a nonce.
const NONCE: usize = 18;
/// `tls-exporter` (RFC 9266 §2).
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";

/// An exchange under way.
pub(super) struct Conversation {
    /// `None` once something broke down.
    exchange: Option<Exchange>,
    mechanism: Mechanism,
    /// What was too long for the command.
    held: Option<Vec<u8>>,
    error: Option<ExchangeError>,
}

impl Conversation {
    /// Begins with the strongest mechanism there is; answers the initial response, if there is
    /// one and the command can take it.
    pub(super) fn begin(
        offered: &[String],
        user: &User,
        credentials: &Credentials,
        tls: Option<&rustls::ClientConnection>,
        encrypted: bool,
    ) -> Result<(Self, Option<Vec<u8>>), DialError> {
        let binding = tls.and_then(binding);
        let channel = match encrypted {
            true => Channel::encrypted(offered, binding.as_ref()),
            false => Channel::Clear(user.in_clear()),
        };
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| DialError::NoAuth)?;
        let mut exchange = choose(offered, credentials, &channel, user.mechanisms())
            .and_then(|mechanism| Exchange::new(mechanism, credentials, &channel, &nonce))
            .ok_or(DialError::NoAuth)?;
        let mechanism = exchange.mechanism();
        let room = COMMAND_LIMIT - AROUND - mechanism.name().len();
        let fits = |response: &Vec<u8>| response.len().div_ceil(3) * 4 <= room;
        let (initial, held) = match exchange.initial() {
            Some(response) if !fits(&response) => (None, Some(response)),
            initial => (initial, None),
        };
        Ok((Self { exchange: Some(exchange), mechanism, held, error: None }, initial))
    }

    /// The mechanism's name.
    pub(super) fn name(&self) -> &'static str {
        self.mechanism.name()
    }

    /// The response to a challenge; none cancels the exchange.
    pub(super) async fn respond(&mut self, challenge: Vec<u8>) -> Option<Vec<u8>> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let mut exchange = self.exchange.take()?;
        let hash = move || {
            let response = exchange.respond(&challenge);
            (exchange, response)
        };
        let (exchange, response) = match self.mechanism {
            // The others are done in an instant.
            Mechanism::ScramSha256Plus
            | Mechanism::ScramSha256
            | Mechanism::ScramSha1Plus
            | Mechanism::ScramSha1 => tokio::task::spawn_blocking(hash).await.ok()?,
            _ => hash(),
        };
        self.exchange = Some(exchange);
        match response {
            Ok(response) => Some(response),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    /// Whether the server that let us in may be trusted.
    pub(super) fn succeeded(&self) -> Result<(), DialError> {
        let finished = self.exchange.as_ref().map(Exchange::finish);
        finished.unwrap_or(Err(ExchangeError::Impostor)).map_err(DialError::Exchange)
    }

    /// What was wrong, where it was us who gave it up.
    pub(super) fn into_error(self) -> Option<ExchangeError> {
        let status = self.exchange.as_ref().and_then(Exchange::token_status);
        if let Some(status) = status {
            tracing::info!(status, "the server says what is wrong with our token");
        }
        self.error
    }
}

/// What names a TLS channel. The versions before 1.3 need more than an exporter for that (RFC
/// 9266 §4.2).
fn binding(tls: &rustls::ClientConnection) -> Option<Binding> {
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    let data = tls.export_keying_material(vec![0; 32], EXPORTER, Some(&[])).ok()?;
    Some(Binding::new(BindingKind::TlsExporter, data))
}
