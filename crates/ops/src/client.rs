//! A client of the admin socket: blocking, one connection a request, no more HTTP than the
//! socket speaks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::ErrorView;

/// How long the server may be silent.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The longest head, and the longest JSON answer.
const HEAD_LIMIT: u64 = 64 * 1024;
const JSON_LIMIT: u64 = 64 * 1024 * 1024;

/// Speaks to the admin API of one server.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody is there.
    #[error("cannot reach the server at {}: {source}", socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer broke off, or a local write failed.
    #[error("the exchange with the server failed: {0}")]
    Broken(#[from] io::Error),
    /// The answer is no HTTP, or not the JSON that was expected.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
    /// The server refused.
    #[error("{text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}

impl Client {
    /// A client of the server whose socket is `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// GET, JSON back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send("GET", path, b"")?.json()
    }

    /// POST, JSON both ways.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Nonsense(error.to_string()))?;
        self.send("POST", path, &body)?.json()
    }

    /// GET, the body as it is into `out`; answers how many octets it had.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn download(&self, path: &str, out: &mut dyn Write) -> Result<u64, ClientError> {
        Ok(io::copy(&mut self.send("GET", path, b"")?.body, out)?)
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let mut stream = UnixStream::connect(&self.socket).map_err(unreachable)?;
        stream.set_read_timeout(Some(TIME_LIMIT))?;
        stream.set_write_timeout(Some(TIME_LIMIT))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request)?;
        Response::read(BufReader::new(stream))
    }
}

struct Response {
    body: Box<dyn Read>,
}

impl Response {
    fn read(stream: impl BufRead + 'static) -> Result<Self, ClientError> {
        let mut head = stream.take(HEAD_LIMIT);
        let status = read_line(&mut head)?;
        let nonsense = || ClientError::Nonsense(status.clone());
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let code: u16 = code.and_then(|code| code.parse().ok()).ok_or_else(nonsense)?;
        let mut framing = Framing::ToEnd;
        loop {
            let line = read_line(&mut head)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(nonsense)?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    framing = Framing::Length(value.trim().parse().map_err(|_| nonsense())?);
                }
                "transfer-encoding" => framing = Framing::Chunks,
                _ => {}
            }
        }
        let rest = head.into_inner();
        let body: Box<dyn Read> = match framing {
            Framing::Length(length) => Box::new(Exactly { rest, left: length }),
            Framing::Chunks => Box::new(Chunks { rest, left: 0, over: false }),
            Framing::ToEnd => Box::new(rest),
        };
        if (200..300).contains(&code) {
            return Ok(Self { body });
        }
        let mut text = String::new();
        body.take(HEAD_LIMIT).read_to_string(&mut text)?;
        let text = match serde_json::from_str::<ErrorView>(&text) {
            Ok(view) => view.error,
            Err(_) if text.is_empty() => status,
            Err(_) => text,
        };
        Err(ClientError::Refused { status: code, text })
    }

    fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let mut bytes = Vec::new();
        self.body.take(JSON_LIMIT).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Nonsense(error.to_string()))
    }
}

/// How the end of a body is known (RFC 9112 §6.3).
enum Framing {
    Length(u64),
    Chunks,
    ToEnd,
}

/// A body of a known length; shorter is an error.
struct Exactly<R> {
    rest: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.rest.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A body in chunks (RFC 9112 §7.1).
struct Chunks<R> {
    rest: R,
    /// Octets of this chunk that are still to come.
    left: u64,
    over: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.over {
            let line = read_line(&mut self.rest)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no chunk size"))?;
            self.over = self.left == 0;
        }
        if self.over || buffer.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.rest.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if self.left == 0 {
            // Each chunk ends with a CRLF of its own.
            read_line(&mut self.rest)?;
        }
        Ok(count)
    }
}

/// A line without its end.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(HEAD_LIMIT).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn check(answer: &'static str, expected: Result<&str, &str>) {
        let read = Response::read(Cursor::new(answer)).and_then(|mut response| {
            let mut text = String::new();
            response.body.read_to_string(&mut text)?;
            Ok(text)
        });
        let read = read.map_err(|error| error.to_string());
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{answer:?}");
    }

    #[test]
    fn reads_answers() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", Ok("ok"));
        check("HTTP/1.1 200 OK\r\n\r\nto the end", Ok("to the end"));
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
            Ok("abcd"),
        );
        let broken = "the exchange with the server failed: unexpected end of file";
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Err(broken));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Err(broken));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Err(broken));
        check("HTTP/1.1 200 OK\r\nContent-Le", Err(broken));
        check("SSH-2.0\r\n\r\n", Err("the server's answer makes no sense: SSH-2.0"));
        check("HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"gone\"}", Err("gone"));
        check("HTTP/1.1 405 No\r\n\r\n", Err("HTTP/1.1 405 No"));
    }
}
