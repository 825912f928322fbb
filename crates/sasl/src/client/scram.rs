//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither shows it.
//!
//! ```text
//! client                                               server
//!   gs2-header n=user,r=nonce            ---->
//!                                        <----  r=nonce+more,s=salt,i=iterations
//!   c=gs2-header+binding,r=nonce+more,p=proof ->
//!                                        <----  v=signature, or e=error
//!   (empty)                              ---->
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use merpati_types::Secret;
use subtle::ConstantTimeEq as _;

use crate::mechanism::Mechanism;

use super::ExchangeError;
use super::choice::Channel;
use super::hash::Hash;

/// The fewest iterations a server may ask for (RFC 5802 §5.1, RFC 7677 §4): a proof made with
/// fewer can be tried against lists of passwords by whoever got it.
pub const ITERATIONS_LEAST: u32 = 4_096;
/// The most: about a second of work. Servers are told to take more as years go by, and none is
/// known to take so many.
pub const ITERATIONS_MOST: u32 = 2_000_000;

/// The shortest nonce of ours, in octets.
const NONCE_LEAST: usize = 12;
/// The longest message of a server.
const MESSAGE_LIMIT: usize = 4_096;

/// What a channel is bound by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// `tls-exporter` (RFC 9266), for TLS 1.3 and later.
    TlsExporter,
    /// `tls-server-end-point` (RFC 5929 §4): a hash of the server's certificate.
    TlsServerEndPoint,
}

impl BindingKind {
    /// The registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsExporter => "tls-exporter",
            Self::TlsServerEndPoint => "tls-server-end-point",
        }
    }
}

/// What names a TLS channel, so that nobody can stand in its middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    kind: BindingKind,
    data: Vec<u8>,
}

impl Binding {
    /// This data, which both ends of the channel know.
    #[must_use]
    pub fn new(kind: BindingKind, data: Vec<u8>) -> Self {
        Self { kind, data }
    }
}

/// An exchange.
#[derive(Debug)]
pub(super) struct Scram {
    hash: Hash,
    /// `gs2-header`, and the data of the channel if it is bound.
    header: String,
    binding: Vec<u8>,
    nonce: String,
    user: String,
    password: Secret<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Our first message is next.
    First,
    /// The server's salt is expected.
    Salt,
    /// The server's signature is expected, and this is the one that it has if it knows us.
    Signature(Vec<u8>),
    /// It does.
    Proven,
    Over,
}

impl Scram {
    pub(super) fn new(
        mechanism: Mechanism,
        user: &str,
        password: &Secret<String>,
        channel: &Channel<'_>,
        nonce: &[u8],
    ) -> Option<Self> {
        let (hash, binds) = match mechanism {
            Mechanism::ScramSha256Plus => (Hash::Sha256, true),
            Mechanism::ScramSha256 => (Hash::Sha256, false),
            Mechanism::ScramSha1Plus => (Hash::Sha1, true),
            Mechanism::ScramSha1 => (Hash::Sha1, false),
            _ => return None,
        };
        if nonce.len() < NONCE_LEAST {
            return None;
        }
        let (header, binding) = match (channel, binds) {
            (Channel::Encrypted { binding: Some(binding), .. }, true) => {
                (format!("p={},,", binding.kind.name()), binding.data.clone())
            }
            (_, true) => return None,
            // RFC 5802 §6: a server that does bind learns that somebody took that out of its offer.
            (Channel::Encrypted { binding: Some(_), server_binds: false }, false) => {
                ("y,,".to_owned(), Vec::new())
            }
            (_, false) => ("n,,".to_owned(), Vec::new()),
        };
        let user = prepared(user).replace('=', "=3D").replace(',', "=2C");
        let password = Secret::new(prepared(password.expose()));
        let nonce = STANDARD.encode(nonce);
        Some(Self { hash, header, binding, nonce, user, password, state: State::First })
    }

    pub(super) fn initial(&mut self) -> Option<Vec<u8>> {
        if !matches!(self.state, State::First) {
            return None;
        }
        self.state = State::Salt;
        Some(format!("{}{}", self.header, self.first_bare()).into_bytes())
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        if let Some(first) = self.initial() {
            return Ok(first);
        }
        if challenge.len() > MESSAGE_LIMIT {
            return Err(ExchangeError::Malformed("too long"));
        }
        let text = std::str::from_utf8(challenge).map_err(|_| ExchangeError::Malformed("UTF-8"))?;
        match std::mem::replace(&mut self.state, State::Over) {
            State::Salt => {
                let (response, signature) = self.prove(text)?;
                self.state = State::Signature(signature);
                Ok(response.into_bytes())
            }
            State::Signature(expected) => {
                verify(text, &expected)?;
                self.state = State::Proven;
                Ok(Vec::new())
            }
            State::First | State::Proven | State::Over => Err(ExchangeError::UnexpectedChallenge),
        }
    }

    pub(super) fn finish(&self) -> Result<(), ExchangeError> {
        match self.state {
            State::Proven => Ok(()),
            _ => Err(ExchangeError::Impostor),
        }
    }

    /// Our proof, and the signature that the server must show for it (RFC 5802 §3).
    fn prove(&self, server_first: &str) -> Result<(String, Vec<u8>), ExchangeError> {
        let Challenge { nonce, salt, iterations } = Challenge::parse(server_first, &self.nonce)?;
        let binding = STANDARD.encode([self.header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={binding},r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare());

        let hash = self.hash;
        let salted = hash.salted(self.password.expose().as_bytes(), &salt, iterations);
        let salted = Secret::new(salted);
        let client_key = Secret::new(hash.hmac(salted.expose(), b"Client Key"));
        let stored_key = Secret::new(hash.digest(client_key.expose()));
        let mut proof = hash.hmac(stored_key.expose(), signed.as_bytes());
        proof.iter_mut().zip(client_key.expose()).for_each(|(proof, key)| *proof ^= key);
        let server_key = Secret::new(hash.hmac(salted.expose(), b"Server Key"));
        let signature = hash.hmac(server_key.expose(), signed.as_bytes());
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), signature))
    }
}

/// ```text
/// server-first-message = [reserved-mext ","] nonce "," salt "," iteration-count ["," extensions]
/// ```
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn parse(text: &'a str, ours: &str) -> Result<Self, ExchangeError> {
        use ExchangeError::Malformed;
        let mut attributes = text.split(',');
        let mut attribute = |name: &str, missing| {
            let attribute = attributes.next().and_then(|text| text.strip_prefix(name));
            attribute.ok_or(Malformed(missing))
        };
        // An extension that must be understood (`m=`) comes first, and is no nonce.
        let nonce = attribute("r=", "no nonce")?;
        let salt = attribute("s=", "no salt")?;
        let iterations = attribute("i=", "no iteration count")?;
        let theirs = nonce.strip_prefix(ours).ok_or(Malformed("the nonce is not for us"))?;
        let printable = theirs.bytes().all(|byte| byte.is_ascii_graphic());
        if theirs.is_empty() || !printable {
            return Err(Malformed("the nonce adds nothing to ours"));
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(Malformed("the salt"))?;
        let asked: u64 = iterations.parse().map_err(|_| Malformed("the iteration count"))?;
        let iterations = u32::try_from(asked)
            .ok()
            .filter(|iterations| (ITERATIONS_LEAST..=ITERATIONS_MOST).contains(iterations))
            .ok_or(ExchangeError::Iterations(asked))?;
        Ok(Self { nonce, salt, iterations })
    }
}

/// ```text
/// server-final-message = (server-error / verifier) ["," extensions]
/// ```
fn verify(text: &str, expected: &[u8]) -> Result<(), ExchangeError> {
    let first = text.split(',').next().unwrap_or_default();
    if let Some(error) = first.strip_prefix("e=") {
        let printable = error.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(ExchangeError::Refused(printable));
    }
    let signature = first.strip_prefix("v=").ok_or(ExchangeError::Malformed("no signature"))?;
    let signature =
        STANDARD.decode(signature).map_err(|_| ExchangeError::Malformed("the signature"))?;
    match bool::from(signature.ct_eq(expected)) {
        true => Ok(()),
        false => Err(ExchangeError::Impostor),
    }
}

/// SASLprep (RFC 4013). What it does not take goes as it is, as servers do it that never prepare.
fn prepared(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests;
