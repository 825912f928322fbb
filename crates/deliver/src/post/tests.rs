//! A server that answers one request after the other, and keeps what came.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use merpati_http::Roots;
use merpati_plugin::OutboundChain;
use merpati_plugin::deliver::AttemptNotes;
use merpati_testkit::spool_contract::parcel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::runner::tests::source;
use crate::smtp::tests::NoNames;

/// Counts what was in flight.
#[derive(Default)]
struct Notes(AtomicU32);

#[async_trait]
impl AttemptNotes for Notes {
    async fn final_dot(&self, _: &str) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers every request so; answers its URL, and what came.
async fn serve(answer: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mail", listener.local_addr().unwrap());
    let came = Arc::new(Mutex::new(String::new()));
    let keeps = Arc::clone(&came);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            let mut piece = [0; 4_096];
            let count = stream.read(&mut piece).await.unwrap();
            request.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            if let (Some(length), Some((_, body))) = (length, text.split_once("\r\n\r\n"))
                && body.len() >= length.parse().unwrap()
            {
                *keeps.lock().unwrap() = text;
                break;
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    (url, came)
}

const CONTENT: &[u8] = b"Subject: x\r\n\r\nCoo, \"coo\".\r\n";

async fn deliver(url: String, form: Form, token: Option<&str>) -> Vec<DeliveryOutcome> {
    let client = Client::new(Arc::new(NoNames), &Roots::BuiltIn).unwrap();
    let config = PostConfig {
        name: "http".to_owned(),
        url,
        form,
        token: token.map(|token| Secret::new(token.to_owned())),
        time_limit: Duration::from_secs(60),
        plain: true,
    };
    let notes = Arc::new(Notes::default());
    let job = Job {
        parcel: Arc::new(parcel(1, &["b@x.test", "c@x.test"], "x.test")),
        message: source(CONTENT),
        notes: Arc::<Notes>::clone(&notes),
        outbound: OutboundChain::default(),
    };
    let outcomes = Post::new(config, client).deliver(job).await;
    assert_eq!(notes.0.load(Ordering::Relaxed), 1);
    assert_eq!(outcomes.len(), 2);
    outcomes
}

#[tokio::test]
async fn messages_are_posted_as_they_are_and_as_json() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept";
    let (url, came) = serve(ok).await;
    let outcomes = deliver(url.clone(), Form::Raw, Some("sesame")).await;
    assert!(matches!(outcomes[1].result, DeliveryResult::Delivered(Handover::Final)));
    assert_eq!(outcomes[0].diagnostic, "HTTP 200: kept");
    assert_eq!(outcomes[0].remote.as_ref(), Some(&url));
    let came = came.lock().unwrap().clone();
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /mail HTTP/1.1\r\n"), "{head}");
    for field in [
        "content-type: message/rfc822",
        "authorization: Bearer sesame",
        "x-mail-from: <a@sender.test>",
        "x-rcpt-to: <b@x.test>",
        "x-rcpt-to: <c@x.test>",
        "idempotency-key: 0000000000001-0",
    ] {
        assert!(head.lines().any(|line| line == field), "{field} is not in\n{head}");
    }
    assert_eq!(body.as_bytes(), CONTENT);

    let (url, came) = serve(ok).await;
    deliver(url, Form::Json, None).await;
    let came = came.lock().unwrap().clone();
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["id"], "0000000000001");
    assert_eq!(json["sender"], "a@sender.test");
    assert_eq!(json["recipients"], serde_json::json!(["b@x.test", "c@x.test"]));
    assert_eq!(json["size"], CONTENT.len());
    assert_eq!(STANDARD.decode(json["message"].as_str().unwrap()).unwrap(), CONTENT);
}

#[tokio::test]
async fn answers_decide() {
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "delivered"),
        (
            "HTTP/1.1 429 Too Many\r\nContent-Length: 9\r\n\r\nslow\ndown",
            "waits 4.3.0 HTTP 429: slow down",
        ),
        ("HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "waits 4.3.0 HTTP 503"),
        ("HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n", "waits 4.3.5 HTTP 401"),
        ("HTTP/1.1 301 There\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "waits 4.3.5 HTTP 301"),
        ("HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n", "fails 5.3.0 HTTP 422"),
        ("220 mail.test\r\n", "waits 4.4.2 the answer is broken"),
        ("", "waits 4.4.2 the answer is broken"),
    ] {
        let (url, _) = serve(answer).await;
        let outcome = &deliver(url, Form::Raw, None).await[0];
        let told = match outcome.result {
            DeliveryResult::Delivered(_) => "delivered".to_owned(),
            DeliveryResult::Deferred { status, .. } => {
                format!("waits {status} {}", outcome.diagnostic)
            }
            DeliveryResult::Failed { status } => format!("fails {status} {}", outcome.diagnostic),
        };
        assert!(told.starts_with(expected), "{answer}: {told}");
    }
}
