//! A user's mail client, as small as it can be: SMTP over TLS from the first byte, AUTH LOGIN, one
//! command after the other. Blocking.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use merpati_wire::encode_challenge;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// How long the server may take for a reply.
const REPLY_LIMIT: Duration = Duration::from_secs(30);

/// A session with a submission server.
pub struct MailClient(Stream);

impl MailClient {
    /// Connects, checks the server's certificate against the roots in `ca`, and authenticates.
    ///
    /// # Errors
    /// What the connection, the handshake or the server said.
    pub fn connect(
        address: SocketAddr,
        server_name: &str,
        ca: &Path,
        login: &str,
        password: &str,
    ) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
        roots.add(root).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(REPLY_LIMIT))?;
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut client = Self(BufReader::new(StreamOwned::new(connection, socket)));
        client.expect("220")?;
        client.say("EHLO client.test", "250")?;
        client.say("AUTH LOGIN", "334")?;
        client.say(&encode_challenge(login.as_bytes()), "334")?;
        client.say(&encode_challenge(password.as_bytes()), "235")?;
        Ok(client)
    }

    /// Sends `message`, which has CRLF line ends and one at its end; answers the server's last
    /// word.
    ///
    /// # Errors
    /// What the server said, if it is not what was hoped for.
    pub fn send(&mut self, from: &str, to: &[&str], message: &str) -> io::Result<String> {
        self.say(&format!("MAIL FROM:<{from}>"), "250")?;
        for recipient in to {
            self.say(&format!("RCPT TO:<{recipient}>"), "250")?;
        }
        self.say("DATA", "354")?;
        let dot = if message.starts_with('.') { "." } else { "" };
        let stuffed = message.replace("\r\n.", "\r\n..");
        self.say(&format!("{dot}{stuffed}."), "250")
    }

    /// Sends octets as they are, in BDAT chunks; `parameters` follow the sender, such as
    /// ` BODY=BINARYMIME`. Answers the server's last word.
    ///
    /// # Errors
    /// What the server said, if it is not what was hoped for.
    pub fn send_chunks(
        &mut self,
        from: &str,
        parameters: &str,
        to: &[&str],
        chunks: &[&[u8]],
    ) -> io::Result<String> {
        self.say(&format!("MAIL FROM:<{from}>{parameters}"), "250")?;
        for recipient in to {
            self.say(&format!("RCPT TO:<{recipient}>"), "250")?;
        }
        let mut said = String::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let last = if number + 1 == chunks.len() { " LAST" } else { "" };
            let stream = self.0.get_mut();
            stream.write_all(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes())?;
            stream.write_all(chunk)?;
            stream.flush()?;
            said = self.expect("250")?;
        }
        Ok(said)
    }

    /// Takes leave.
    ///
    /// # Errors
    /// What the server said.
    pub fn quit(mut self) -> io::Result<()> {
        self.say("QUIT", "221").map(drop)
    }

    /// Says a line and expects a reply of this code; answers its last line.
    ///
    /// # Errors
    /// The server said something else, or nothing.
    pub fn say(&mut self, line: &str, code: &str) -> io::Result<String> {
        let stream = self.0.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        stream.flush()?;
        self.expect(code)
    }

    fn expect(&mut self, code: &str) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if !line.starts_with(code) {
                return Err(io::Error::other(format!("the server said: {line}")));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.to_owned());
            }
        }
    }
}
