//! A server that takes everything and keeps what it is asked to keep.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::until;

/// What a sink offers and keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinkSettings {
    /// Lines of the answer to EHLO, after the name.
    pub extensions: &'static [&'static str],
    /// Whether every byte that comes in is kept.
    pub keeps: Keeps,
    /// What goes out at once with the 220 after STARTTLS, for a client to fall for.
    pub behind_starttls: &'static str,
    /// How long every reply is awaited.
    pub delay: Duration,
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// They are counted.
    #[default]
    Nothing,
    /// They are kept as they came.
    Everything,
}

/// A sink that listens; its threads end with the process.
pub struct Sink {
    /// Where.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    settings: SinkSettings,
    messages: AtomicUsize,
    /// One entry a connection.
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Sink {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// The system gives no port.
    pub fn start(settings: SinkSettings) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), settings)
    }

    /// Starts one at this address.
    ///
    /// # Errors
    /// The system does not give it.
    pub fn start_at(address: SocketAddr, settings: SinkSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let messages = AtomicUsize::new(0);
        let shared = Arc::new(Shared { settings, messages, kept: Mutex::default() });
        let of_threads = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&of_threads);
                thread::spawn(move || {
                    // The client's errors are the client's.
                    let _ = shared.serve(socket);
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// How many messages were taken.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// What each connection sent so far.
    #[must_use]
    pub fn kept(&self) -> Vec<Vec<u8>> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The client's side of one connection.
struct Connection<'a> {
    reader: BufReader<TcpStream>,
    shared: &'a Shared,
    /// Which entry of `kept` is this one's.
    number: usize,
}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let number = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(Vec::new());
            kept.len() - 1
        };
        let mut connection =
            Connection { reader: BufReader::with_capacity(65_536, socket), shared: self, number };
        connection.say("220 sink.test ESMTP\r\n")?;
        while let Some(line) = connection.line()? {
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => connection.hello()?,
                "DATA" => connection.data()?,
                "BDAT" => connection.chunk(&line)?,
                "STAR" => {
                    connection.say("220 go\r\n")?;
                    return connection.read_handshake();
                }
                "QUIT" => return connection.say("221 bye\r\n"),
                _ => connection.say("250 2.0.0 ok\r\n")?,
            }
        }
        Ok(())
    }
}

impl Connection<'_> {
    fn say(&mut self, text: &str) -> io::Result<()> {
        let injected = self.shared.settings.behind_starttls;
        let injected = if text.starts_with("220 go") { injected } else { "" };
        if !self.shared.settings.delay.is_zero() {
            until::pass(self.shared.settings.delay);
        }
        // Pipelined commands are answered in one packet.
        self.reader.get_mut().write_all(format!("{text}{injected}").as_bytes())
    }

    fn keep(&self, bytes: &[u8]) {
        if self.shared.settings.keeps == Keeps::Everything {
            let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept[self.number].extend_from_slice(bytes);
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.keep(&line);
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
    }

    fn hello(&mut self) -> io::Result<()> {
        let mut lines = vec!["sink.test"];
        lines.extend(self.shared.settings.extensions);
        let last = lines.len() - 1;
        let line = |(index, line): (usize, &&str)| {
            format!("250{}{line}\r\n", if index == last { ' ' } else { '-' })
        };
        let text: String = lines.iter().enumerate().map(line).collect();
        self.say(&text)
    }

    fn data(&mut self) -> io::Result<()> {
        self.say("354 go on\r\n")?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.keep(&line);
            if line == b".\r\n" {
                break;
            }
        }
        self.take()
    }

    fn chunk(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split_whitespace().skip(1);
        let size = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk)?;
        self.keep(&chunk);
        match words.next() {
            Some(_) => self.take(),
            None => self.say("250 2.0.0 go on\r\n"),
        }
    }

    fn take(&mut self) -> io::Result<()> {
        self.shared.messages.fetch_add(1, Ordering::Relaxed);
        self.say("250 2.0.0 taken\r\n")
    }

    /// Keeps what comes after STARTTLS; nothing here can shake hands.
    fn read_handshake(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let length = self.reader.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            self.keep(&bytes[..length]);
        }
    }
}
