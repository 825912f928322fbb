//! The PROXY header at the start of a connection from a trusted balancer.

use std::io;
use std::time::Duration;

use merpati_wire::{PROXY_HEADER_LIMIT, ProxyHeader, ProxyProgress};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a balancer may take for its header: it sends it at once, or it is none.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Reads the header and not one byte more: what follows may be a TLS handshake.
///
/// # Errors
/// The connection broke, the header is malformed, or it took longer than [`TIME_LIMIT`].
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    match tokio::time::timeout(TIME_LIMIT, read_unlimited(stream)).await {
        Ok(header) => header,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no PROXY header in time")),
    }
}

async fn read_unlimited(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    let mut taken = Vec::new();
    let mut peeked = [0; 512];
    loop {
        let length = stream.peek(&mut peeked).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = taken.len();
        taken.extend_from_slice(&peeked[..length]);
        let progress = ProxyHeader::parse(&taken)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let (consume, done) = match progress {
            ProxyProgress::Complete { header, length } => (length - before, Some(header)),
            ProxyProgress::Incomplete => (length, None),
        };
        stream.read_exact(&mut peeked[..consume]).await?;
        if let Some(header) = done {
            return Ok(header);
        }
        // The parser never asks for more than its limit; this bounds the buffer all the same.
        if taken.len() > PROXY_HEADER_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "PROXY header is too long"));
        }
    }
}
