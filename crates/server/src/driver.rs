//! Drives one session over a byte stream.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use merpati_plugin::{Connection, TlsFacts};
use merpati_session::server::{Action, Channel, Question, Session, Start, Verdict, XclientRight};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::conversation::Answerer;
use crate::service::{Service, TlsMode};
use crate::stream::{Stream, Transport};

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
/// How long one write may wait for the peer to read.
const WRITE_LIMIT: Duration = Duration::from_secs(300);
/// After our last word: how long, and how much, to read from a peer that still talks. A socket
/// closed with bytes unread is reset, and the reset eats our last reply.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 64 * 1024;
/// The most that is read at once. The buffer is on the stack only while bytes are copied, so that
/// an idle connection holds none.
const READ_SIZE: usize = 32 * 1024;

/// Holds a conversation with the peer at the other end of `io`, until it is over.
///
/// When `drain` becomes true, a transaction in hand is finished and everything else ends with
/// 421.
pub async fn run<T: Transport>(
    io: T,
    service: Arc<Service>,
    connection: Connection,
    xclient: XclientRight,
    drain: watch::Receiver<bool>,
) {
    let began = now();
    let peer = connection.peer;
    let mut stream = Stream::Plain(io);
    let mut tls = None;
    if service.parts.tls_mode == TlsMode::Implicit {
        match handshake(stream, &service).await {
            Ok((encrypted, facts)) => (stream, tls) = (encrypted, Some(facts)),
            Err(error) => {
                tracing::info!(%peer, %error, "TLS handshake failed");
                return;
            }
        }
    }
    let channel = if tls.is_some() { Channel::Encrypted } else { Channel::Plain };
    let time = service.parts.clock.now();
    let start = Start { channel, xclient, time };
    let session = Session::new(began, Arc::clone(&service.session), start);
    let answerer = Answerer::new(Arc::clone(&service), connection, tls);
    let mut driver = Driver {
        stream: Some(stream),
        out: BytesMut::new(),
        session,
        answerer,
        service,
        drain,
        told: false,
    };
    if let Err(error) = driver.drive().await {
        tracing::debug!(%peer, %error, "connection broke");
        driver.session.handle_eof();
    }
    driver.answerer.closed(began.elapsed());
}

struct Driver<T> {
    /// Absent only while it is being encrypted.
    stream: Option<Stream<T>>,
    out: BytesMut,
    session: Session,
    answerer: Answerer,
    service: Arc<Service>,
    drain: watch::Receiver<bool>,
    /// The session knows that the server drains.
    told: bool,
}

impl<T: Transport> Driver<T> {
    async fn drive(&mut self) -> io::Result<()> {
        loop {
            match self.session.poll_action() {
                Action::Write(bytes) => self.write(&bytes),
                Action::Ask(question) => {
                    let verdict = self.ask(question).await?;
                    self.session.answer(now(), verdict);
                }
                Action::Body(bytes) => self.body(bytes).await,
                Action::Aborted => self.answerer.aborted(),
                Action::StartTls => self.start_tls().await?,
                Action::Wait { until } => {
                    self.flush().await?;
                    self.read(until).await?;
                }
                Action::Close => return self.close().await,
                // Every question is answered before the machine is asked again.
                Action::Blocked => return Err(io::Error::other("the session is stuck")),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Answers a question. Where the answer takes its time, what has been said already goes out
    /// first: most answers are there at once, and then replies travel together.
    async fn ask(&mut self, question: Question) -> io::Result<Verdict> {
        let Self { answerer, stream, out, .. } = self;
        let mut answer = pin!(answerer.answer(question));
        let at_once = poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(verdict) => Poll::Ready(Some(verdict)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(verdict) = at_once.await {
            return Ok(verdict);
        }
        flush(stream, out).await?;
        Ok(answer.await)
    }

    async fn body(&mut self, bytes: Bytes) {
        if let Err(why) = self.answerer.body(bytes).await {
            self.session.handle_body_error(why);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        flush(&mut self.stream, &mut self.out).await
    }

    async fn read(&mut self, until: Instant) -> io::Result<()> {
        let stream = present(&mut self.stream)?;
        let session = &mut self.session;
        tokio::select! {
            biased;
            changed = self.drain.changed(), if !self.told => {
                // A sender that is gone has stopped without draining: the same to us.
                let _ = changed;
                self.told = true;
                session.handle_drain(now());
            }
            read = read_some(stream, |bytes| session.handle_bytes(now(), bytes)) => {
                match read? {
                    0 => session.handle_eof(),
                    _ => self.answerer.heard(),
                }
            }
            () = tokio::time::sleep_until(until.into()) => {
                session.handle_timeout(now());
            }
        }
        Ok(())
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        self.flush().await?;
        let stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let (stream, facts) = handshake(stream, &self.service).await?;
        self.stream = Some(stream);
        self.answerer.encrypted(facts);
        self.session.handle_tls(now());
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        let stream = present(&mut self.stream)?;
        let linger = async {
            stream.shutdown().await?;
            let mut left = LINGER_OCTETS;
            while left > 0 {
                match read_some(stream, |_| {}).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            Ok(())
        };
        // A peer that goes on talking has had its time.
        let _ = timed(LINGER_TIME, linger).await;
        Ok(())
    }
}

/// Now, by the runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn flush<T: Transport>(stream: &mut Option<Stream<T>>, out: &mut BytesMut) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let stream = present(stream)?;
    let write = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    timed(WRITE_LIMIT, write).await?;
    out.clear();
    if out.capacity() > READ_SIZE {
        *out = BytesMut::new();
    }
    Ok(())
}

fn present<T>(stream: &mut Option<Stream<T>>) -> io::Result<&mut Stream<T>> {
    stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

async fn handshake<T: Transport>(
    stream: Stream<T>,
    service: &Service,
) -> io::Result<(Stream<T>, TlsFacts)> {
    let Some(store) = &service.parts.tls else {
        return Err(io::Error::other("no certificate is configured"));
    };
    timed(HANDSHAKE_LIMIT, stream.accept_tls(store.current())).await
}

async fn timed<O>(limit: Duration, work: impl Future<Output = io::Result<O>>) -> io::Result<O> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads once and hands on what came; answers how much, 0 at the end.
async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let filled = buffer.filled();
                if !filled.is_empty() {
                    take(filled);
                }
                Poll::Ready(Ok(filled.len()))
            }
        }
    })
    .await
}
