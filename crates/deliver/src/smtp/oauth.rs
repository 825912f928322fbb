//! Access tokens that are renewed: OAuth 2.0 with a refresh token (RFC 6749 §6).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use merpati_http::{Body, Client, HttpError, Limits, Request};
use merpati_types::Secret;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long before its end a token is renewed, so that none ends on the way.
const EARLY: Duration = Duration::from_secs(60);
/// How long a token counts whose end is not told.
const USUAL: Duration = Duration::from_secs(3_600);
/// The longest that a token counts, whatever is told.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How long the server is left alone after it gave none.
const REST: Duration = Duration::from_secs(30);
/// How much of a server's words is kept.
const WORDS: usize = 100;

/// Where tokens come from.
#[derive(Clone, Debug)]
pub struct OAuthConfig {
    /// The token endpoint.
    pub url: String,
    /// Who we are to it.
    pub client_id: String,
    /// What proves that, if it wants to know.
    pub client_secret: Option<Secret<String>>,
    /// What is exchanged for tokens. If the server gives another, that counts as long as this
    /// [`OAuth`] lives.
    pub refresh_token: Secret<String>,
    /// What the token is to be good for; what the refresh token is by default.
    pub scope: Option<String>,
    /// What a request may cost.
    pub limits: Limits,
}

/// Gives tokens, and renews them.
pub struct OAuth {
    config: OAuthConfig,
    client: Client,
    /// Held while a token is renewed, so that one request serves all who wait for it.
    held: Mutex<Held>,
}

struct Held {
    token: Option<(Secret<String>, Instant)>,
    refresh_token: Secret<String>,
    failed: Option<(TokenError, Instant)>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The server could not be asked.
    #[error("cannot ask for a token: {0}")]
    Http(#[from] HttpError),
    /// It refused: `error` of RFC 6749 §5.2, or the status of its answer.
    #[error("no token is given: {0}")]
    Refused(String),
    /// Its answer has no token that could be shown.
    #[error("the answer has no usable token")]
    Malformed,
}

struct Grant {
    token: Secret<String>,
    good_for: Duration,
    refresh_token: Option<Secret<String>>,
}

impl OAuth {
    /// No token yet.
    #[must_use]
    pub fn new(config: OAuthConfig, client: Client) -> Self {
        let refresh_token = config.refresh_token.clone();
        let held = Mutex::new(Held { token: None, refresh_token, failed: None });
        Self { config, client, held }
    }

    /// A token that is good for a minute at least.
    pub(crate) async fn token(&self) -> Result<Secret<String>, TokenError> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some((token, until)) = &held.token
            && now < *until
        {
            return Ok(token.clone());
        }
        if let Some((error, since)) = &held.failed
            && since.elapsed() < REST
        {
            return Err(error.clone());
        }
        match self.renew(&held.refresh_token).await {
            Ok(Grant { token, good_for, refresh_token }) => {
                held.token = Some((token.clone(), now + good_for.saturating_sub(EARLY)));
                held.failed = None;
                if let Some(next) = refresh_token {
                    held.refresh_token = next;
                }
                Ok(token)
            }
            Err(error) => {
                tracing::error!(url = self.config.url, %error, "mail waits for a token");
                held.failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }

    /// A server did not take the token: the next is another.
    pub(crate) async fn forget(&self) {
        self.held.lock().await.token = None;
    }

    async fn renew(&self, refresh_token: &Secret<String>) -> Result<Grant, TokenError> {
        let OAuthConfig { url, client_id, client_secret, scope, limits, .. } = &self.config;
        let mut form = "grant_type=refresh_token".to_owned();
        let mut field = |name: &str, value: &str| {
            let _ = write!(form, "&{name}=");
            form.extend(value.bytes().map(encoded));
        };
        field("refresh_token", refresh_token.expose());
        field("client_id", client_id);
        if let Some(secret) = client_secret {
            field("client_secret", secret.expose());
        }
        if let Some(scope) = scope {
            field("scope", scope);
        }
        let request = Request::post(url.as_str(), Body::Bytes(Bytes::from(form)))
            .with("Content-Type", "application/x-www-form-urlencoded")
            .with("Accept", "application/json");
        let response = self.client.send(request, limits).await?;
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if response.status != 200 {
            let said = answer.get("error").and_then(Value::as_str).unwrap_or_default();
            let said: String = said.chars().filter(|c| !c.is_control()).take(WORDS).collect();
            return Err(TokenError::Refused(format!("{} {said}", response.status)));
        }
        let text = |key| answer.get(key).and_then(Value::as_str);
        let token = text("access_token").filter(|token| !token.is_empty());
        let token = token.ok_or(TokenError::Malformed)?;
        let good_for = answer.get("expires_in").and_then(Value::as_u64);
        Ok(Grant {
            token: Secret::new(token.to_owned()),
            good_for: good_for.map_or(USUAL, Duration::from_secs).min(LONGEST),
            refresh_token: text("refresh_token").map(|token| Secret::new(token.to_owned())),
        })
    }
}

/// A byte of a form's value.
fn encoded(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex as SyncMutex};

    use merpati_http::Roots;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::smtp::tests::NoNames;

    /// Answers requests with these, one after the other, and keeps what was asked.
    pub(crate) async fn serve(
        answers: &[(u16, &'static str)],
    ) -> (String, Arc<SyncMutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let asked = Arc::new(SyncMutex::new(Vec::new()));
        let (kept, mut answers) = (Arc::clone(&asked), VecDeque::from(answers.to_vec()));
        tokio::spawn(async move {
            while let (Ok((mut stream, _)), Some((status, body))) =
                (listener.accept().await, answers.pop_front())
            {
                let mut request = Vec::new();
                while !request.ends_with(b"end") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap();
                let form = request.rsplit("\r\n").next().unwrap_or_default().to_owned();
                kept.lock().unwrap().push(form);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    pub(crate) fn oauth(url: String) -> OAuth {
        let client = Client::new(Arc::new(NoNames), &Roots::BuiltIn).unwrap();
        let secret = |text: &str| Secret::new(text.to_owned());
        let config = OAuthConfig {
            url,
            client_id: "me & you".to_owned(),
            client_secret: Some(secret("s=1")),
            refresh_token: secret("first"),
            scope: Some("https://mail.test/ end".to_owned()),
            limits: Limits { plain: true, ..Limits::default() },
        };
        OAuth::new(config, client)
    }

    async fn said(oauth: &OAuth) -> String {
        match oauth.token().await {
            Ok(token) => token.expose().clone(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn tokens_are_kept_until_they_end_or_are_refused() {
        let (url, asked) = serve(&[
            (200, r#"{"access_token":"one","expires_in":3600,"refresh_token":"second"}"#),
            (200, r#"{"access_token":"two","expires_in":30}"#),
            (200, r#"{"access_token":"three"}"#),
        ])
        .await;
        let oauth = oauth(url);
        assert_eq!((said(&oauth).await, said(&oauth).await), ("one".to_owned(), "one".to_owned()));
        oauth.forget().await;
        assert_eq!(said(&oauth).await, "two");
        // It has less than a minute left.
        assert_eq!(said(&oauth).await, "three");
        let form = |token| {
            format!(
                "grant_type=refresh_token&refresh_token={token}&client_id=me%20%26%20you\
                 &client_secret=s%3D1&scope=https%3A%2F%2Fmail.test%2F%20end"
            )
        };
        assert_eq!(*asked.lock().unwrap(), [form("first"), form("second"), form("second")]);
    }

    #[tokio::test]
    async fn a_server_that_gives_none_is_left_alone_for_a_while() {
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, "no token is given: 400 invalid_grant"),
            (503, "try later", "no token is given: 503 "),
            (200, r#"{"access_token":""}"#, "the answer has no usable token"),
            (200, "[]", "the answer has no usable token"),
        ] {
            let (url, asked) = serve(&[(status, body), (200, "{}")]).await;
            let oauth = oauth(url);
            assert_eq!(said(&oauth).await, expected);
            assert_eq!(said(&oauth).await, expected);
            assert_eq!(asked.lock().unwrap().len(), 1);
        }
    }
}
