//! A DNS server on loopback that answers from a zone given as text, over UDP and TCP.
//!
//! Besides records, a zone can say that a name fails (`SERVFAIL`) or that nothing is answered at
//! all (`SILENCE`). Its form is told at [`Zone`]. It can be signed, as a whole and in parts wrongly.
//!
//! ```
//! use merpati_testkit::dns::{DnsServer, Zone};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let zone = Zone::parse("receiver.test MX 10 mx.receiver.test\nmx.receiver.test A 127.0.0.1")?;
//! let server = DnsServer::start(zone).await?;
//! println!("resolve at {}", server.address());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod describe;
mod signing;
mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub use self::describe::describe;
pub use self::signing::ZoneKey;
use self::zone::Found;
pub use self::zone::{Zone, ZoneError, ZoneErrorKind};

/// The largest message over UDP without EDNS (RFC 1035 §4.2.1) and with it, as we offer it.
const EDNS_SIZE: u16 = 1_232;
/// How often a port that is free for UDP may be taken for TCP before we give up.
const PORT_ATTEMPTS: usize = 16;

/// A running server. It ends when this is dropped.
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    zone: Arc<Zone>,
    asked: Vec<String>,
}

impl DnsServer {
    /// Serves `zone` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// What binding said.
    pub async fn start(zone: Zone) -> io::Result<Self> {
        Self::bind((Ipv4Addr::LOCALHOST, 0).into(), zone).await
    }

    /// Serves `zone` at `address`; port 0 is any port that is free for both UDP and TCP.
    ///
    /// # Errors
    /// What binding said.
    pub async fn bind(address: SocketAddr, zone: Zone) -> io::Result<Self> {
        let (udp, tcp) = bind_both(address).await?;
        let address = udp.local_addr()?;
        let state = State { zone: Arc::new(zone), asked: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&shared)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens, for UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from another zone from now on.
    pub fn set_zone(&self, zone: Zone) {
        self.shared.lock().zone = Arc::new(zone);
    }

    /// What was asked so far, each as `name. TYPE`, in lower case but for the type. A query that
    /// comes again over TCP, or because it was not answered, counts again.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().asked.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a packet, if there is to be one, and how long it may be.
    fn answer(&self, packet: &[u8]) -> Option<(Message, u16)> {
        let request = Message::from_vec(packet).ok()?;
        let limit = request.max_payload();
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        let mut signed = false;
        if let Some(asked) = &request.edns {
            signed = asked.flags().dnssec_ok;
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_SIZE).set_dnssec_ok(signed);
            response.set_edns(edns);
        }
        let [query] = request.queries.as_slice() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return Some((response, limit));
        };
        response.add_query(query.clone());
        if request.metadata.op_code != OpCode::Query {
            response.metadata.response_code = ResponseCode::NotImp;
            return Some((response, limit));
        }
        self.look_up(query, signed, &mut response)?;
        Some((response, limit))
    }

    /// `signed`: with signatures, if the zone has a key (the bit DO, RFC 3225).
    fn look_up(&self, query: &Query, signed: bool, response: &mut Message) -> Option<()> {
        let zone = {
            let mut state = self.lock();
            let name = query.name.to_lowercase().to_ascii();
            state.asked.push(format!("{name} {}", query.query_type));
            Arc::clone(&state.zone)
        };
        let metadata = &mut response.metadata;
        let code = match zone.find(&query.name, query.query_type) {
            Found::Records(records) => {
                response.answers = if signed { zone.with_signatures(records) } else { records };
                return Some(());
            }
            Found::Nothing { owner, aliases, code } => {
                response.answers = if signed { zone.with_signatures(aliases) } else { aliases };
                response.authorities = match signed {
                    true => zone.proof(&owner, query.query_type, code),
                    false => vec![zone::authority()],
                };
                code
            }
            Found::Failure => ResponseCode::ServFail,
            Found::Silence => return None,
        };
        metadata.response_code = code;
        Some(())
    }
}

async fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 1;
    loop {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            // Another process has this port for UDP: ask for another one.
            Err(error) if address.port() != 0 || attempt == PORT_ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = [0; 4_096];
    loop {
        // An ICMP error that an earlier answer met ends nothing.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some((response, limit)) = shared.answer(&buffer[..length]) else { continue };
        let Ok(mut packet) = response.to_vec() else { continue };
        if packet.len() > usize::from(limit.min(EDNS_SIZE)) {
            let Ok(short) = response.truncate().to_vec() else { continue };
            packet = short;
        }
        let _ = socket.send_to(&packet, peer).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // The peer has gone; there is nobody to tell.
            let _ = serve_stream(stream, &shared).await;
        });
    }
}

async fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await?;
        let Some((response, _)) = shared.answer(&packet) else { continue };
        let packet = response.to_vec().map_err(io::Error::other)?;
        let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(packet);
        stream.write_all(&framed).await?;
    }
}

#[cfg(test)]
mod tests;
