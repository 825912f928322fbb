//! Bodies on their way out, as hyper wants them, and on their way in, within a limit.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};

use crate::error::HttpError;
use crate::request::{Body, Limits};

pub(crate) type Outgoing = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// How long it is, and what hyper reads.
pub(crate) fn outgoing(body: Body) -> (u64, Outgoing) {
    match body {
        Body::Nothing => (0, Empty::new().map_err(|never| match never {}).boxed_unsync()),
        Body::Bytes(bytes) => {
            let length = bytes.len() as u64;
            (length, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
        }
        Body::Stream { length, reader } => {
            let pieces = stream::unfold(Some(reader), |reader| async {
                let mut reader = reader?;
                match reader.next().await {
                    Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some(reader))),
                    Ok(None) => None,
                    Err(error) => Some((Err(error), None)),
                }
            });
            (length, StreamBody::new(pieces).boxed_unsync())
        }
    }
}

/// Reads a body to its end, or as much of it as may be.
pub(crate) async fn collect(mut body: Incoming, limits: &Limits) -> Result<Bytes, HttpError> {
    let limit = limits.body;
    if !limits.cut && body.size_hint().lower() > limit as u64 {
        return Err(HttpError::TooLarge { limit });
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| HttpError::Broken(error.to_string()))?;
        let Ok(piece) = frame.into_data() else { continue };
        let room = limit - whole.len();
        if piece.len() > room {
            if !limits.cut {
                return Err(HttpError::TooLarge { limit });
            }
            whole.extend_from_slice(&piece[..room]);
            break;
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
