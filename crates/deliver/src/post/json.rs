//! A message as JSON, written while it is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use merpati_http::Body;
use merpati_plugin::{BodyReader, Job, async_trait};
use serde_json::json;

/// The message behind what it is about.
pub(super) fn body(job: &Job, message: Box<dyn BodyReader>) -> Body {
    let parcel = &job.parcel;
    let sender = parcel.reverse_path().mailbox().map_or_else(String::new, ToString::to_string);
    let recipients: Vec<_> =
        parcel.recipients().map(|(_, recipient)| recipient.address.to_string()).collect();
    let head = json!({
        "id": parcel.id.message.to_string(),
        "arrived": parcel.info.message.arrived.to_string(),
        "sender": sender,
        "recipients": recipients,
        "size": job.message.size(),
    });
    // Its last brace comes behind the message.
    let mut head = head.to_string();
    head.pop();
    head.push_str(",\"message\":\"");
    let end = Bytes::from_static(b"\"}");
    let encoded = job.message.size().div_ceil(3) * 4;
    let length = head.len() as u64 + encoded + end.len() as u64;
    let reader = Encoded {
        head: Some(head.into()),
        message: Some(message),
        left: BytesMut::new(),
        end: Some(end),
    };
    Body::Stream { length, reader: Box::new(reader) }
}

struct Encoded {
    head: Option<Bytes>,
    message: Option<Box<dyn BodyReader>>,
    /// Octets that are no whole group yet.
    left: BytesMut,
    end: Option<Bytes>,
}

#[async_trait]
impl BodyReader for Encoded {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        let Some(message) = &mut self.message else { return Ok(self.end.take()) };
        match message.next().await? {
            Some(piece) => {
                self.left.extend_from_slice(&piece);
                let whole = self.left.split_to(self.left.len() / 3 * 3);
                Ok(Some(STANDARD.encode(&whole).into()))
            }
            None => {
                self.message = None;
                Ok(Some(STANDARD.encode(&self.left).into()))
            }
        }
    }
}
