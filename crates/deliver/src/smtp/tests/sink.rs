//! A server on loopback that takes mail by a script.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What follows the final dot.
#[derive(Clone, Copy)]
pub(super) enum After {
    /// These lines.
    Says(&'static [&'static str]),
    /// Not a word: the connection is closed.
    Closes,
}

/// What the server does; the default takes everything.
#[derive(Clone, Copy)]
pub(super) struct Script {
    /// Offers STARTTLS, and closes in the handshake.
    pub(super) breaks_tls: bool,
    /// Says this after the first octets of the body, and reads no further.
    pub(super) mid_body: Option<&'static str>,
    pub(super) after: After,
    /// Greets this address with a refusal.
    pub(super) blocks: Option<&'static str>,
}

impl Default for Script {
    fn default() -> Self {
        let after = After::Says(&["250 2.0.0 taken"]);
        Self { breaks_tls: false, mid_body: None, after, blocks: None }
    }
}

pub(super) struct Sink {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    task: JoinHandle<()>,
}

impl Sink {
    pub(super) async fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(super) async fn start_at(address: SocketAddr, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&heard);
        let peers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&peers);
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                seen.lock().unwrap().push(peer.ip());
                // A client that goes away ends its session, and nothing else.
                tokio::spawn(serve(stream, script, Arc::clone(&lines)));
            }
        });
        Self { address, heard, peers, task }
    }

    /// Every command of every session.
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Who has connected.
    pub(super) fn peers(&self) -> Vec<IpAddr> {
        self.peers.lock().unwrap().clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    script: Script,
    heard: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_string();
    let mut stream = BufReader::new(stream);
    if script.blocks == Some(&*peer) {
        return stream.write_all(b"421 4.7.0 your address is blocked\r\n").await;
    }
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        heard.lock().unwrap().push(line.trim_end().to_owned());
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" | "LHLO" if script.breaks_tls => "250-sink.test\r\n250 STARTTLS\r\n",
            "EHLO" | "LHLO" => "250-sink.test\r\n250 PIPELINING\r\n",
            "STAR" => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(());
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                if let Some(reply) = script.mid_body {
                    stream.read_exact(&mut [0; 1_000]).await?;
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                    return std::future::pending().await;
                }
                while line != ".\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                }
                let After::Says(lines) = script.after else { return Ok(()) };
                for line in lines {
                    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
                }
                continue;
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 2.0.0 ok\r\n",
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}
