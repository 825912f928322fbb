//! A client that says exactly what it is told to. Blocking.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long the server may take for a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A session with a server.
pub struct Smtp(BufReader<Box<dyn Stream>>);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

impl Reply {
    /// `self`, if it has this code.
    ///
    /// # Errors
    /// It has another.
    pub fn expect(self, code: u16) -> io::Result<Self> {
        let wrong = || io::Error::other(format!("the server said: {self}"));
        if self.code == code { Ok(self) } else { Err(wrong()) }
    }
}

/// How a message is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `DATA`, dots doubled; the message ends in CRLF.
    Data,
    /// `BDAT` in chunks of this many octets.
    Chunks(usize),
}

/// A message and to whom it goes.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// Without angle brackets; empty for the null sender.
    pub from: &'a str,
    /// Without angle brackets.
    pub to: &'a [&'a str],
    /// Parameters of MAIL, each with a blank before it.
    pub parameters: &'a str,
    /// Header section and body as they are to arrive.
    pub content: &'a [u8],
    /// How it is handed over.
    pub by: By,
}

impl Smtp {
    /// Connects, and says EHLO.
    ///
    /// # Errors
    /// What the connection or the server said.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Self::greet(Box::new(connect(address)?))
    }

    /// Connects as if from `client`, to a server that believes the PROXY header, and says EHLO.
    ///
    /// # Errors
    /// What the connection or the server said.
    pub fn proxied(address: SocketAddr, client: &str) -> io::Result<Self> {
        let mut stream = connect(address)?;
        let header = format!("PROXY TCP4 {client} 127.0.0.1 40000 {}\r\n", address.port());
        stream.write_all(header.as_bytes())?;
        Self::greet(Box::new(stream))
    }

    /// Connects with TLS from the first byte, checks the certificate for `name` against the roots
    /// in `ca`, and says EHLO.
    ///
    /// # Errors
    /// What the connection, the handshake or the server said.
    pub fn tls(address: SocketAddr, name: &str, ca: &Path) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config(ca)?, name).map_err(io::Error::other)?;
        Self::greet(Box::new(StreamOwned::new(connection, connect(address)?)))
    }

    fn greet(stream: Box<dyn Stream>) -> io::Result<Self> {
        let mut client = Self(BufReader::new(stream));
        client.reply()?.expect(220)?;
        client.say("EHLO client.test")?.expect(250)?;
        Ok(client)
    }

    /// Authenticates by AUTH PLAIN.
    ///
    /// # Errors
    /// What the server said.
    pub fn log_in(&mut self, login: &str, password: &str) -> io::Result<()> {
        let response = format!("\0{login}\0{password}");
        let response = base64::engine::general_purpose::STANDARD.encode(response);
        self.say(&format!("AUTH PLAIN {response}"))?.expect(235).map(drop)
    }

    /// Says a line; answers the reply.
    ///
    /// # Errors
    /// The connection's.
    pub fn say(&mut self, line: &str) -> io::Result<Reply> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.0.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// The connection's; an odd line.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let odd = || io::Error::other(format!("this is no reply: {line}"));
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or_else(odd)?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Sends a message; answers the last reply, a 250.
    ///
    /// # Errors
    /// The server said something else on the way, or the connection ended.
    pub fn send(&mut self, mail: &Mail<'_>) -> io::Result<Reply> {
        self.envelope(mail)?;
        match mail.by {
            By::Data => {
                self.say("DATA")?.expect(354)?;
                let mut stuffed = stuff(mail.content);
                stuffed.extend_from_slice(b".\r\n");
                self.write(&stuffed)?;
                self.reply()?.expect(250)
            }
            By::Chunks(size) => {
                let mut chunks = mail.content.chunks(size).peekable();
                while let Some(chunk) = chunks.next() {
                    let last = if chunks.peek().is_none() { " LAST" } else { "" };
                    let command = format!("BDAT {}{last}\r\n", chunk.len());
                    self.write(&[command.as_bytes(), chunk].concat())?;
                    let reply = self.reply()?.expect(250)?;
                    if !last.is_empty() {
                        return Ok(reply);
                    }
                }
                self.say("BDAT 0 LAST")?.expect(250)
            }
        }
    }

    /// Says MAIL, and RCPT for every recipient.
    ///
    /// # Errors
    /// The server said something else than 250, or the connection ended.
    pub fn envelope(&mut self, mail: &Mail<'_>) -> io::Result<()> {
        self.say(&format!("MAIL FROM:<{}>{}", mail.from, mail.parameters))?.expect(250)?;
        for recipient in mail.to {
            self.say(&format!("RCPT TO:<{recipient}>"))?.expect(250)?;
        }
        Ok(())
    }

    /// Whether the server has nothing more to say.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock && rest.is_empty(),
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(REPLY_LIMIT))?;
    socket.set_write_timeout(Some(REPLY_LIMIT))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn config(ca: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
    roots.add(root).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// `content` with every dot that begins a line doubled.
fn stuff(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + content.len() / 64 + 8);
    let mut from = 0;
    if content.first() == Some(&b'.') {
        stuffed.push(b'.');
    }
    for at in memchr::memmem::find_iter(content, b"\r\n.") {
        stuffed.extend_from_slice(&content[from..at + 2]);
        stuffed.push(b'.');
        from = at + 2;
    }
    stuffed.extend_from_slice(&content[from..]);
    stuffed
}
