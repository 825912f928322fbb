//! How a connection is made from a source: directly, or by its proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use merpati_wire::ProxyHeader;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::socks::{self, SocksError};
use super::source::{Socks5, Source, Via};
use super::stream::{Endpoint, Stream, timed};

/// How long one address may take to answer. RFC 5321 names no limit; the kernel's is minutes.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a proxy, which is near, may take.
const PROXY_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The host did not answer.
    #[error("{0}")]
    Host(io::Error),
    /// Our source cannot send.
    #[error("{0}")]
    Source(#[from] SourceError),
}

/// Why a source cannot send: ours to mend, and no fault of the host's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The address is not one of this machine's.
    #[error("cannot send from {address}: {error}")]
    Address { address: IpAddr, error: io::Error },
    /// The proxy has no address to send from.
    #[error("the source has no address of the family of {0}")]
    Family(IpAddr),
    /// The proxy does not answer.
    #[error("proxy {proxy} does not answer: {error}")]
    Unreachable { proxy: SocketAddr, error: io::Error },
    /// The proxy answers, and does not do what it is there for.
    #[error("proxy {proxy} fails: {error}")]
    Proxy { proxy: SocketAddr, error: SocksError },
}

impl SourceError {
    /// Whether it would be the same with every host, for now.
    pub(crate) fn is_of_every_host(&self, source: &Source) -> bool {
        match self {
            Self::Family(_) | Self::Proxy { error: SocksError::Refused(_), .. } => false,
            // The address of the other family may be there.
            Self::Address { .. } => source.addresses.len() == 1,
            Self::Unreachable { .. } | Self::Proxy { .. } => true,
        }
    }
}

/// Connects to a host from a source.
///
/// # Errors
/// [`ConnectError`], which says whose fault it is.
pub(crate) async fn connect(endpoint: &Endpoint, source: &Source) -> Result<Stream, ConnectError> {
    let address = match endpoint {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(path) => {
            let stream = timed(CONNECT_LIMIT, UnixStream::connect(path)).await;
            return stream.map(Stream::Unix).map_err(ConnectError::Host);
        }
    };
    let stream = match &source.via {
        Via::Direct => directly(address, source.address_for(address.ip())).await?,
        Via::Socks5(proxy) => by_socks(address, proxy).await?,
        Via::Haproxy(proxy) => by_haproxy(address, *proxy, source).await?,
    };
    stream.set_nodelay(true).map_err(ConnectError::Host)?;
    Ok(Stream::Tcp(stream))
}

async fn directly(to: SocketAddr, from: Option<IpAddr>) -> Result<TcpStream, ConnectError> {
    let Some(from) = from else {
        return timed(CONNECT_LIMIT, TcpStream::connect(to)).await.map_err(ConnectError::Host);
    };
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(ConnectError::Host)?;
    socket.bind((from, 0).into()).map_err(|error| SourceError::Address { address: from, error })?;
    timed(CONNECT_LIMIT, socket.connect(to)).await.map_err(ConnectError::Host)
}

async fn reach(proxy: SocketAddr) -> Result<TcpStream, SourceError> {
    let stream = timed(PROXY_LIMIT, TcpStream::connect(proxy)).await;
    stream.map_err(|error| SourceError::Unreachable { proxy, error })
}

async fn by_socks(to: SocketAddr, proxy: &Socks5) -> Result<TcpStream, ConnectError> {
    let mut stream = reach(proxy.address).await?;
    let agreed = match socks::authenticate(&mut stream, proxy.user.as_ref()).await {
        Ok(()) => socks::connect(&mut stream, to).await,
        Err(error) => Err(error),
    };
    match agreed {
        Ok(()) => Ok(stream),
        Err(error) if error.is_of_host() => Err(ConnectError::Host(io::Error::other(error))),
        Err(error) => Err(SourceError::Proxy { proxy: proxy.address, error }.into()),
    }
}

/// The proxy takes the connection at once, and breaks it off if it cannot connect: that looks like
/// a host that hangs up, and is taken for one.
async fn by_haproxy(
    to: SocketAddr,
    proxy: SocketAddr,
    source: &Source,
) -> Result<TcpStream, ConnectError> {
    let from = source.address_for(to.ip()).ok_or(SourceError::Family(to.ip()))?;
    let mut stream = reach(proxy).await?;
    // The port is the proxy's to choose.
    let header = ProxyHeader::Tcp { source: (from, 0).into(), destination: to };
    let mut octets = BytesMut::new();
    header.encode_v2(&mut octets);
    let sent = timed(PROXY_LIMIT, stream.write_all(&octets)).await;
    sent.map_err(|error| SourceError::Unreachable { proxy, error })?;
    Ok(stream)
}
