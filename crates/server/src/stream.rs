//! A byte stream that can turn into TLS half-way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use merpati_plugin::TlsFacts;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls;

/// What a session runs over: TCP, or a pipe in memory.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Plain bytes, or TLS over them.
pub(crate) enum Stream<T> {
    /// Plain.
    Plain(T),
    /// Encrypted.
    Tls(Box<TlsStream<T>>),
}

impl<T: Transport> Stream<T> {
    /// Performs the server's side of a handshake.
    ///
    /// # Errors
    /// What the handshake said; the stream is of no further use.
    pub(crate) async fn accept_tls(
        self,
        config: Arc<ServerConfig>,
    ) -> io::Result<(Self, TlsFacts)> {
        let Self::Plain(plain) = self else {
            return Err(io::Error::other("the stream is encrypted already"));
        };
        let stream = TlsAcceptor::from(config).accept(plain).await?;
        let facts = tls::facts(stream.get_ref().1);
        Ok((Self::Tls(Box::new(stream)), facts))
    }
}

impl<T: Transport> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl<T: Transport> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
