//! Sockets that wait for connections.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How many connections the kernel may complete before we accept them.
const BACKLOG: i32 = 1_024;

/// An address that could not be bound; the text names it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Which address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Binds and listens. Needs no runtime, so that it can be done before privileges are dropped.
///
/// An IPv6 socket takes IPv6 only: whoever wants both families lists both addresses.
///
/// # Errors
/// [`BindError`], when the address is in use or not ours.
pub fn bind(address: SocketAddr) -> Result<StdListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections in TIME_WAIT from our last life do not keep us from starting again.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError { address, source })
}

/// Hands a bound socket to the runtime.
///
/// # Errors
/// What the system said.
pub fn into_tokio(listener: StdListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}
