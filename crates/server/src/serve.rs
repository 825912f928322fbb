//! Accepts connections, and stops.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use merpati_plugin::Connection;
use merpati_plugin::connection::Protocol;
use merpati_session::server::{self as session, XclientRight};
use merpati_wire::ProxyHeader;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::driver;
use crate::limits::{Gate, Ticket};
use crate::proxy;
use crate::service::Service;

/// How long to wait after accepting failed: the process is out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which peers are asked for a PROXY header, or may speak for others.
pub type PeerTest = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// A bound socket, and what is behind it.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What is behind it; a reload replaces it for connections to come.
    pub service: Arc<ArcSwap<Service>>,
    /// Peers that begin with a PROXY header. Nobody else's is read.
    pub proxies: PeerTest,
    /// Peers that may use XCLIENT.
    pub xclients: PeerTest,
}

/// Accepts connections for several listeners, within common limits.
pub struct Server {
    gate: Arc<Gate>,
    drain: watch::Sender<bool>,
}

impl Server {
    /// A server that admits connections through `gate`.
    #[must_use]
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate, drain: watch::Sender::new(false) }
    }

    /// Starts accepting.
    pub fn listen(&self, listener: Listener) {
        let gate = Arc::clone(&self.gate);
        let drain = self.drain.subscribe();
        tokio::spawn(accept(listener, gate, drain));
    }

    /// Stops accepting, lets transactions in hand finish, and answers how many connections were
    /// still open after `limit`.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.drain.send_replace(true);
        // Every listener and every session holds a receiver until it is done.
        let _ = tokio::time::timeout(limit, self.drain.closed()).await;
        self.gate.total()
    }
}

/// What connections of one listener have in common. The socket is not in it: sessions outlast it
/// in a drain, and whoever connects then is to be refused, not kept waiting.
struct Entrance {
    service: Arc<ArcSwap<Service>>,
    proxies: PeerTest,
    xclients: PeerTest,
}

async fn accept(listener: Listener, gate: Arc<Gate>, mut drain: watch::Receiver<bool>) {
    let Listener { socket, service, proxies, xclients } = listener;
    let entrance = Arc::new(Entrance { service, proxies, xclients });
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.changed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(welcome(
                    stream,
                    peer,
                    Arc::clone(&entrance),
                    Arc::clone(&gate),
                    drain.clone(),
                ));
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(
    mut stream: TcpStream,
    peer: SocketAddr,
    entrance: Arc<Entrance>,
    gate: Arc<Gate>,
    drain: watch::Receiver<bool>,
) {
    let service = entrance.service.load_full();
    // Replies are written when the peer is waited for: there is nothing to gather.
    let _ = stream.set_nodelay(true);
    match identify(&mut stream, peer, &entrance, &service).await {
        Ok(connection) => match gate.admit(connection.peer.ip()) {
            Ok(ticket) => {
                let right = if (entrance.xclients)(peer.ip()) {
                    XclientRight::Granted
                } else {
                    XclientRight::Refused
                };
                driver::run(stream, service, connection, right, drain).await;
                drop::<Ticket>(ticket);
            }
            Err(why) => {
                tracing::info!(%peer, ?why, "too many connections");
                // One small write into an empty socket buffer: it cannot block.
                let _ =
                    stream.write_all(b"421 4.7.0 too many connections, try again later\r\n").await;
            }
        },
        Err(error) => tracing::info!(%peer, %error, "connection refused before the session"),
    }
}

/// Who is at the other end, as far as a trusted balancer says.
async fn identify(
    stream: &mut TcpStream,
    mut peer: SocketAddr,
    entrance: &Entrance,
    service: &Service,
) -> io::Result<Connection> {
    let mut local = stream.local_addr()?;
    if (entrance.proxies)(peer.ip())
        && let ProxyHeader::Tcp { source, destination } = proxy::read(stream).await?
    {
        (peer, local) = (source, destination);
    }
    Ok(Connection {
        id: Service::next_connection(),
        listener: Arc::clone(&service.parts.listener),
        protocol: match service.session.protocol {
            session::Protocol::Smtp => Protocol::Smtp,
            session::Protocol::Lmtp => Protocol::Lmtp,
        },
        local,
        peer,
    })
}
