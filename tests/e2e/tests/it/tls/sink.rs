//! Servers that take one kind of certificate into the world and every message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) encrypted: bool,
    pub(super) resumed: bool,
    pub(super) requiretls: bool,
}

pub(super) type Inbox = Arc<Mutex<Vec<(String, Came)>>>;

#[derive(Clone)]
pub(super) struct Offer {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) requiretls: bool,
    /// What came, and for whom.
    pub(super) inbox: Inbox,
}

pub(super) struct Sink(JoinHandle<()>);

impl Sink {
    pub(super) async fn start(address: SocketAddr, offer: Offer) -> std::io::Result<(Self, u16)> {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its session, and nothing else.
                tokio::spawn(serve(stream, offer.clone()));
            }
        });
        Ok((Self(task), port))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(mut stream: TcpStream, offer: Offer) -> std::io::Result<()> {
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let mut session = Session { offer: offer.clone(), encrypted: false, resumed: false };
    let Ended::StartTls = session.talk(&mut stream).await? else { return Ok(()) };
    let Some(config) = offer.tls else { return Ok(()) };
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    let kind = stream.get_ref().1.handshake_kind();
    session.resumed = kind == Some(rustls::HandshakeKind::Resumed);
    session.encrypted = true;
    session.talk(&mut stream).await?;
    stream.shutdown().await
}

enum Ended {
    StartTls,
    Over,
}

struct Session {
    offer: Offer,
    encrypted: bool,
    resumed: bool,
}

impl Session {
    async fn talk(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> std::io::Result<Ended> {
        let mut stream = BufReader::new(stream);
        let (mut requiretls, mut recipient) = (false, String::new());
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(Ended::Over);
            }
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let reply = match verb.as_str() {
                "EHLO" => self.hello(),
                "STAR" => {
                    stream.write_all(b"220 go on\r\n").await?;
                    return Ok(Ended::StartTls);
                }
                "MAIL" => {
                    requiretls = line.contains(" REQUIRETLS");
                    "250 2.1.0 ok\r\n".to_owned()
                }
                "RCPT" => {
                    recipient = line.trim_end().trim_start_matches("RCPT TO:").to_owned();
                    "250 2.1.5 ok\r\n".to_owned()
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    while line != ".\r\n" {
                        line.clear();
                        if stream.read_line(&mut line).await? == 0 {
                            return Ok(Ended::Over);
                        }
                    }
                    let Self { encrypted, resumed, .. } = *self;
                    let came = Came { encrypted, resumed, requiretls };
                    self.offer.inbox.lock().unwrap().push((recipient.clone(), came));
                    "250 2.0.0 taken\r\n".to_owned()
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await?;
                    return Ok(Ended::Over);
                }
                _ => "250 2.0.0 ok\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }

    fn hello(&self) -> String {
        let starttls =
            if self.offer.tls.is_some() && !self.encrypted { "250-STARTTLS\r\n" } else { "" };
        let requiretls =
            if self.offer.requiretls && self.encrypted { "250-REQUIRETLS\r\n" } else { "" };
        format!("250-sink.test\r\n{starttls}{requiretls}250 8BITMIME\r\n")
    }
}
