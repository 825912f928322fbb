//! The peer's end of a byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::play::{Peer, Said};

/// How long a line is waited for. On the paused clock of a test it costs no time.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence has to last until it is called so.
const SILENCE: Duration = Duration::from_millis(1);

/// A peer that speaks over `T`: a pipe in memory, or TCP.
pub struct StreamPeer<T> {
    stream: Stream<T>,
    heard: BytesMut,
    piece: usize,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    kept: Box<dyn FnMut() -> Option<Vec<Vec<u8>>>>,
}

enum Stream<T> {
    Plain(T),
    Tls(Box<TlsStream<T>>),
    /// While it is being encrypted.
    Gone,
}

impl<T: AsyncRead + AsyncWrite + Unpin> StreamPeer<T> {
    /// A peer that takes the server for `name` in the handshake, writes in pieces of at most
    /// `piece` octets, and asks `kept` what messages were kept.
    pub fn new(
        io: T,
        tls: Arc<ClientConfig>,
        name: ServerName<'static>,
        piece: usize,
        kept: impl FnMut() -> Option<Vec<Vec<u8>>> + 'static,
    ) -> Self {
        let stream = Stream::Plain(io);
        Self { stream, heard: BytesMut::new(), piece, tls, name, kept: Box::new(kept) }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Peer for StreamPeer<T> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(self.piece.max(1)) {
            let written = async {
                self.stream.write_all(piece).await?;
                self.stream.flush().await
            };
            match written.await {
                // The server may have closed already; its last word is still to be read.
                Err(error) if is_closed(&error) => return Ok(()),
                other => other?,
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Said> {
        loop {
            if let Some(end) = self.heard.iter().position(|&octet| octet == b'\n') {
                return line(&self.heard.split_to(end + 1)).map(Said::Line);
            }
            let read = self.stream.read_buf(&mut self.heard);
            match tokio::time::timeout(PATIENCE, read).await {
                Err(_) => return Ok(Said::Nothing),
                Ok(Ok(0)) if self.heard.is_empty() => return Ok(Said::Closed),
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if is_closed(&error) => return Ok(Said::Closed),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        if !self.heard.is_empty() {
            return Err(io::Error::other("the server spoke before the handshake"));
        }
        let Stream::Plain(plain) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::Error::other("the stream is encrypted already"));
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(self.name.clone(), plain).await?;
        self.stream = Stream::Tls(Box::new(tls));
        Ok(())
    }

    async fn leave(&mut self) -> io::Result<()> {
        match self.stream.shutdown().await {
            Err(error) if is_closed(&error) => Ok(()),
            other => other,
        }
    }

    async fn waits(&mut self) -> io::Result<bool> {
        if !self.heard.is_empty() {
            return Ok(false);
        }
        let read = self.stream.read_buf(&mut self.heard);
        Ok(tokio::time::timeout(SILENCE, read).await.is_err())
    }

    async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn kept(&mut self) -> Option<Vec<Vec<u8>>> {
        (self.kept)()
    }
}

/// A line of the server, given with its end.
pub(super) fn line(line: &[u8]) -> io::Result<String> {
    let text = line.strip_suffix(b"\r\n").filter(|text| !text.contains(&b'\r'));
    let wrong = || io::Error::other(format!("no line of SMTP: {}", line.escape_ascii()));
    let text = text.ok_or_else(wrong)?;
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| wrong())
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
