//! One connection to the server that is measured.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::TlsKind;
use super::message::Outgoing;

/// The longest reply.
const MOST_REPLY: usize = 64 << 10;

/// How to reach the server.
pub(super) struct Dial {
    pub(super) to: SocketAddr,
    pub(super) tls: Option<(TlsKind, Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// What AUTH PLAIN says, base64.
    pub(super) auth: Option<String>,
    pub(super) pipelining: bool,
}

/// Why a message was not sent.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no; the connection may go on.
    Refused(String),
    /// There is no connection any more.
    Broken(String),
}

impl Failure {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::Broken(text) => text,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("connection: {error}"))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection that has said hello.
pub(super) struct Client {
    stream: Box<dyn Stream>,
    input: BytesMut,
    pipelining: bool,
    /// Whether a transaction was left behind.
    dirty: bool,
}

/// A reply: its code, and the text of its last line.
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    fn expect(self, class: u16) -> Result<Self, Failure> {
        if self.code / 100 == class {
            return Ok(self);
        }
        // Queue ids and the like would make every reply another.
        let enhanced = self.text.split(' ').next().filter(|word| word.contains('.'));
        Err(Failure::Refused(format!("{} {}", self.code, enhanced.unwrap_or(""))))
    }
}

impl Client {
    pub(super) async fn connect(dial: &Dial) -> Result<Self, Failure> {
        let stream = TcpStream::connect(dial.to).await?;
        stream.set_nodelay(true)?;
        let mut client = Self::over(Box::new(stream));
        if let Some((TlsKind::Implicit, ..)) = dial.tls {
            client = client.secure(dial).await?;
        }
        client.reply().await?.expect(2)?;
        client.hello(dial).await?;
        if let Some((TlsKind::Starttls, ..)) = dial.tls {
            client.say("STARTTLS\r\n").await?.expect(2)?;
            client = client.secure(dial).await?;
            client.hello(dial).await?;
        }
        if let Some(auth) = &dial.auth {
            client.say(&format!("AUTH PLAIN {auth}\r\n")).await?.expect(2)?;
        }
        Ok(client)
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: BytesMut::with_capacity(1024), pipelining: false, dirty: false }
    }

    async fn secure(self, dial: &Dial) -> Result<Self, Failure> {
        let Some((_, config, name)) = &dial.tls else { return Ok(self) };
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(name.clone(), self.stream).await?;
        Ok(Self::over(Box::new(stream)))
    }

    async fn hello(&mut self, dial: &Dial) -> Result<(), Failure> {
        self.write(b"EHLO load.test\r\n").await?;
        let mut has_pipelining = false;
        let reply = self.lines(|line| has_pipelining |= line.eq_ignore_ascii_case("PIPELINING"));
        reply.await?.expect(2)?;
        self.pipelining = has_pipelining && dial.pipelining;
        Ok(())
    }

    /// Sends a message; answers the text of the last reply.
    pub(super) async fn send(&mut self, message: &Outgoing) -> Result<String, Failure> {
        if std::mem::take(&mut self.dirty) {
            self.say("RSET\r\n").await?.expect(2)?;
        }
        self.dirty = true;
        if self.pipelining {
            let commands = [message.mail.as_bytes(), message.rcpt.as_bytes(), b"DATA\r\n"].concat();
            self.write(&commands).await?;
            let (mail, rcpt) = (self.reply().await?, self.reply().await?);
            let data = self.reply().await?;
            if data.code == 354 && (mail.code >= 300 || rcpt.code >= 300) {
                // It waits for content that goes to nobody.
                self.write(b".\r\n").await?;
                self.reply().await?;
            }
            mail.expect(2)?;
            rcpt.expect(2)?;
            data.expect(3)?;
        } else {
            self.say(&message.mail).await?.expect(2)?;
            self.say(&message.rcpt).await?.expect(2)?;
            self.say("DATA\r\n").await?.expect(3)?;
        }
        self.write_both(message.head.as_bytes(), &message.body).await?;
        let reply = self.reply().await?.expect(2)?;
        self.dirty = false;
        Ok(reply.text)
    }

    pub(super) async fn quit(mut self) {
        // It does not matter any more whether that works.
        let _ = self.say("QUIT\r\n").await;
    }

    /// Writes all of it. What an encrypted stream has taken it need not have sent: where a task
    /// has done much in one go, the runtime has it wait in between.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let (mut head, mut body) = (head, body);
        while !head.is_empty() {
            let slices = [IoSlice::new(head), IoSlice::new(body)];
            let written = self.stream.write_vectored(&slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_head = written.min(head.len());
            head = &head[of_head..];
            body = &body[written - of_head..];
        }
        self.stream.write_all(body).await?;
        self.stream.flush().await
    }

    async fn say(&mut self, line: &str) -> Result<Reply, Failure> {
        self.write(line.as_bytes()).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        self.lines(|_| ()).await
    }

    /// Reads a reply, and shows the text of each of its lines.
    async fn lines(&mut self, mut each: impl FnMut(&str)) -> Result<Reply, Failure> {
        loop {
            while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.input[..end]).trim_end().to_owned();
                self.input.advance(end + 1);
                let code = line.get(..3).and_then(|code| code.parse().ok());
                let code = code.ok_or_else(|| Failure::Broken("not a reply".to_owned()))?;
                let text = line.get(4..).unwrap_or("");
                each(text);
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(Reply { code, text: text.to_owned() });
                }
            }
            if self.input.len() > MOST_REPLY {
                return Err(Failure::Broken("an endless reply".to_owned()));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Failure::Broken("connection closed".to_owned()));
            }
        }
    }
}

/// What AUTH PLAIN says for a name and a password (RFC 4616).
pub(super) fn plain(login: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{login}\0{password}"))
}
