//! One connection to a server: opened once, used for many messages.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use merpati_plugin::deliver::{AttemptNotes, MessageSource};
use merpati_plugin::spool::SpoolError;
use merpati_route::security::{
    Failure, Handshake, Outcome as Judgement, RequireTls, Security, Verdict,
};
use merpati_route::tls_rpt::Fault;
use merpati_sasl::client::ExchangeError;
use merpati_session::client::{
    Channel, Client, ClientAction, ClientConfig, Event, Loss, Mismatch, Outcome, Outgoing,
};
use merpati_types::{Domain, Rejection, Reply};
use merpati_wire::Capabilities;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::credentials::User;
use super::egress::{ConnectError, SourceError};
use super::login::Conversation;
use super::oauth::TokenError;
use super::stream::{Endpoint, Stream, timed};
use super::tls::{Tls, name_for};

const READ_SIZE: usize = 8 * 1024;
/// How long to listen to a server that takes nothing any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a connection is made.
pub(crate) struct Dial<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// Its name, or its address where it has none.
    pub(crate) host: &'a str,
    pub(crate) session: Arc<ClientConfig>,
    pub(crate) tls: &'a Tls,
    /// Where it is made from, if that has a name: sessions are resumed from there alone.
    pub(crate) source: Option<&'a str>,
    /// What it must have; `None` for a second try that goes in the clear whatever it has.
    pub(crate) security: Option<&'a Security>,
    /// Whether TLS begins with the first byte.
    pub(crate) implicit: bool,
    pub(crate) user: Option<&'a User>,
    /// Names by which the server would be ourselves.
    pub(crate) own_names: &'a [Domain],
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// No answer, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The handshake failed: a try in the clear may help.
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// The host is not as secure as it must be.
    #[error("{}", .0.failure.text)]
    Insecure(Box<Insecure>),
    /// The session ended before mail could be sent.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// It is we who have answered: whoever named this address would have us talk to ourselves.
    #[error("mail for {0} loops back to us")]
    Ourselves(String),
    /// The server does not know us.
    #[error("authentication refused: {0}")]
    Auth(Reply),
    /// We have credentials, and the server takes none that we may send.
    #[error("server offers no way to authenticate over this connection")]
    NoAuth,
    /// The exchange went wrong, or the server let us in without having shown that it knows us.
    #[error("authentication failed: {0}")]
    Exchange(#[from] ExchangeError),
    /// There is no token to show.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// An outbound policy does not want it.
    #[error("{0}")]
    Stopped(Rejection),
    /// We cannot send from where the message is to be sent from.
    #[error("{0}")]
    Source(#[from] SourceError),
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Host(error) => Self::Io(error),
            ConnectError::Source(error) => Self::Source(error),
        }
    }
}

/// How a host falls short of what it must have.
#[derive(Debug)]
pub(crate) struct Insecure {
    /// What that means for the message.
    pub(crate) failure: Failure,
    /// What the domain may want to hear of.
    pub(crate) faults: Vec<Fault>,
    /// Whether it was judged by a certificate of an earlier session.
    pub(crate) resumed: bool,
}

/// What became of a message.
pub(crate) enum Sent {
    /// Every recipient's fate is known, and the connection can be used again.
    Finished(Vec<Outcome>),
    /// The server lacks something; nothing was sent, and the connection can be used again.
    Mismatch(Mismatch),
    /// The connection is gone. `in_doubt` if the end of the message had been sent.
    Lost { why: Loss, known: Vec<Option<Outcome>>, in_doubt: bool },
    /// The message could not be read; the connection is gone.
    Unreadable(SpoolError),
}

/// A connection that is ready for mail.
pub(crate) struct Connection {
    stream: Stream,
    client: Client,
    /// `host [address]:port`.
    pub(crate) peer: String,
    /// What is wrong with its TLS and keeps nothing back.
    pub(crate) faults: Vec<Fault>,
    pub(crate) used: u32,
    pub(crate) idle_since: Instant,
}

impl Connection {
    /// Makes a stream that is connected ready for mail.
    pub(crate) async fn open(dial: Dial<'_>, mut stream: Stream) -> Result<Self, DialError> {
        let mut channel = Channel::Plain;
        let mut faults = Vec::new();
        if dial.implicit
            && let Some(security) = dial.security
        {
            (stream, faults) = encrypt(stream, &dial, security).await?;
            channel = Channel::Encrypted;
        }
        let client = Client::new(now(), Arc::clone(&dial.session), channel);
        let peer = match dial.endpoint {
            Endpoint::Tcp(_) => format!("{} {}", dial.host, dial.endpoint),
            Endpoint::Unix(_) => dial.endpoint.to_string(),
        };
        let connection = Self { stream, client, peer, faults, used: 0, idle_since: Instant::now() };
        connection.greet(&dial).await
    }

    async fn greet(mut self, dial: &Dial<'_>) -> Result<Self, DialError> {
        let mut login: Option<Conversation> = None;
        let mut renewed = false;
        loop {
            match self.client.poll_action() {
                ClientAction::Write(bytes) => self.write(&bytes).await?,
                ClientAction::StartTls => {
                    self.judge_name(dial)?;
                    let Some(security) = dial.security else { return Err(Loss::NoTls.into()) };
                    (self.stream, self.faults) = encrypt(self.stream, dial, security).await?;
                    self.client.handle_tls(now());
                }
                ClientAction::Event(Event::Ready(offered)) => {
                    if let Some(login) = login {
                        return login.succeeded().map(|()| self);
                    }
                    self.judge_name(dial)?;
                    self.judge_hello(dial, &offered)?;
                    let Some(user) = dial.user else { return Ok(self) };
                    login = Some(self.log_in(&offered, user).await?);
                }
                ClientAction::Event(Event::Challenge(challenge)) => {
                    let response = match &mut login {
                        Some(login) => login.respond(challenge).await,
                        None => None,
                    };
                    match response {
                        Some(response) => self.client.respond(now(), response),
                        None => self.client.cancel(now()),
                    }
                }
                ClientAction::Event(Event::AuthRefused(reply)) => {
                    if let Some(ours) = login.take().and_then(Conversation::into_error) {
                        return Err(DialError::Exchange(ours));
                    }
                    // A token may have been taken back before its end; another is tried once.
                    match dial.user {
                        Some(user) if !renewed && user.renew().await => {
                            renewed = true;
                            let offered = self.client.offered().clone();
                            login = Some(self.log_in(&offered, user).await?);
                        }
                        _ => return Err(DialError::Auth(reply)),
                    }
                }
                ClientAction::Event(Event::Lost { why: Loss::NoTls, .. }) => {
                    if let Some(security) = dial.security {
                        judge(security, &Handshake::NotOffered, false)?;
                    }
                    return Err(Loss::NoTls.into());
                }
                ClientAction::Event(Event::Lost { why, .. }) => return Err(why.into()),
                ClientAction::Wait { until } => self.read(until).await?,
                ClientAction::Close => return Err(Loss::Closed.into()),
                ClientAction::Event(_) | ClientAction::NeedBody | ClientAction::Idle => {}
            }
        }
    }

    /// Begins to authenticate.
    async fn log_in(
        &mut self,
        offered: &Capabilities,
        user: &User,
    ) -> Result<Conversation, DialError> {
        let credentials = user.credentials().await?;
        let (encrypted, tls) = (self.client.is_encrypted(), self.stream.tls());
        let (login, initial) =
            Conversation::begin(&offered.auth, user, &credentials, tls, encrypted)?;
        self.client.authenticate(now(), login.name(), initial);
        Ok(login)
    }

    /// Whether the server is ourselves, by the name it gives.
    fn judge_name(&self, dial: &Dial<'_>) -> Result<(), DialError> {
        let name = self.client.server_name();
        match dial.own_names.iter().any(|own| own.as_ascii().eq_ignore_ascii_case(name)) {
            true => Err(DialError::Ourselves(dial.host.to_owned())),
            false => Ok(()),
        }
    }

    /// What the server's last hello means.
    fn judge_hello(&mut self, dial: &Dial<'_>, offered: &Capabilities) -> Result<(), DialError> {
        let Some(security) = dial.security else { return Ok(()) };
        if !self.client.is_encrypted() {
            self.faults = judge(security, &Handshake::NotOffered, false)?;
        }
        let offer = match offered.requiretls {
            true => RequireTls::Offered,
            false => RequireTls::NotOffered,
        };
        security.judge_hello(dial.host, offer).map_err(|failure| {
            DialError::Insecure(Box::new(Insecure {
                failure,
                faults: std::mem::take(&mut self.faults),
                resumed: false,
            }))
        })
    }

    /// How it is encrypted.
    pub(crate) fn tls(&self) -> Option<&rustls::ClientConnection> {
        self.stream.tls()
    }

    /// What the server offers.
    pub(crate) fn offered(&self) -> &Capabilities {
        self.client.offered()
    }

    /// Sends one message.
    pub(crate) async fn send(
        &mut self,
        outgoing: Outgoing,
        message: &dyn MessageSource,
        notes: &dyn AttemptNotes,
    ) -> Sent {
        self.used += 1;
        if let Err(mismatch) = self.client.begin(now(), outgoing) {
            return Sent::Mismatch(mismatch);
        }
        let mut reader = None;
        let mut in_doubt = false;
        let mut pieces = 0_u64;
        loop {
            let step = match self.client.poll_action() {
                // What is short is sent before anybody can say a word.
                ClientAction::Write(bytes) if pieces <= 1 => self.write(&bytes).await,
                ClientAction::Write(bytes) => self.write_and_listen(&bytes).await,
                ClientAction::NeedBody => {
                    let open = match &mut reader {
                        Some(open) => open,
                        None => match message.open().await {
                            Ok(open) => reader.insert(open),
                            Err(error) => return Sent::Unreadable(error),
                        },
                    };
                    pieces += 1;
                    match open.next().await {
                        Ok(Some(piece)) => self.client.body(now(), piece),
                        Ok(None) => self.client.body_end(now()),
                        Err(error) => return Sent::Unreadable(SpoolError::Unavailable(error)),
                    }
                    Ok(())
                }
                ClientAction::Event(Event::FinalDot) => {
                    notes.final_dot(&self.peer).await;
                    in_doubt = true;
                    Ok(())
                }
                ClientAction::Event(Event::Finished(outcomes)) => {
                    self.idle_since = Instant::now();
                    return Sent::Finished(outcomes);
                }
                ClientAction::Event(Event::Lost { why, known }) => {
                    return Sent::Lost { why, known, in_doubt };
                }
                ClientAction::Wait { until } => self.read(until).await,
                ClientAction::StartTls | ClientAction::Close | ClientAction::Idle => {
                    return Sent::Lost { why: Loss::Closed, known: Vec::new(), in_doubt };
                }
                ClientAction::Event(_) => Ok(()),
            };
            if step.is_err() {
                self.hear_last_words().await;
                // The machine knows what was settled before the connection broke.
                self.client.handle_eof();
            }
        }
    }

    /// Reads what the server said before it stopped reading: its reply tells more than our failure
    /// to write.
    async fn hear_last_words(&mut self) {
        let (stream, client) = (&mut self.stream, &mut self.client);
        let hear = async {
            while read_some(stream, |bytes| client.handle_bytes(now(), bytes)).await? > 0 {}
            Ok(())
        };
        // Whatever ends it, there is no more to hear.
        let _ = timed(LAST_WORDS, hear).await;
    }

    /// Writes a piece of a long body, with an ear for a server that refuses it on the way: it may
    /// have stopped reading.
    async fn write_and_listen(&mut self, bytes: &[u8]) -> io::Result<()> {
        let limit = ClientConfig::default().timeouts.piece;
        let client = &mut self.client;
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let write = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        let listen = async {
            while read_some(&mut reader, |bytes| client.handle_bytes(now(), bytes)).await? > 0 {
                if client.is_over() {
                    return Ok(());
                }
            }
            client.handle_eof();
            Ok(())
        };
        timed(limit, async {
            tokio::select! {
                biased;
                written = write => written,
                heard = listen => heard,
            }
        })
        .await
    }

    /// Takes leave; nothing depends on it.
    pub(crate) async fn quit(mut self) {
        self.client.quit(now());
        loop {
            let step = match self.client.poll_action() {
                ClientAction::Write(bytes) => self.write(&bytes).await,
                ClientAction::Wait { until } => self.read(until).await,
                ClientAction::Event(_) => Ok(()),
                _ => break,
            };
            if step.is_err() {
                break;
            }
        }
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let limit = ClientConfig::default().timeouts.piece;
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        timed(limit, write).await
    }

    async fn read(&mut self, until: Instant) -> io::Result<()> {
        let (stream, client) = (&mut self.stream, &mut self.client);
        tokio::select! {
            biased;
            read = read_some(stream, |bytes| client.handle_bytes(now(), bytes)) => {
                if read? == 0 {
                    client.handle_eof();
                }
            }
            () = tokio::time::sleep_until(until.into()) => client.handle_timeout(now()),
        }
        Ok(())
    }
}

/// Performs a handshake; answers what is wrong with it and keeps nothing back.
async fn encrypt(
    stream: Stream,
    dial: &Dial<'_>,
    security: &Security,
) -> Result<(Stream, Vec<Fault>), DialError> {
    let name = server_name(dial, security)?;
    let config = dial.tls.config(&security.need, dial.source);
    let stream = stream.encrypt(config, name).await.map_err(DialError::Tls)?;
    let Some(connection) = stream.tls() else { return Err(Loss::NoTls.into()) };
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let presented = Handshake::Done(dial.tls.presented(connection, security));
    let faults = judge(security, &presented, resumed)?;
    Ok((stream, faults))
}

/// What a handshake means for the message; answers what is wrong and keeps nothing back.
fn judge(
    security: &Security,
    handshake: &Handshake,
    resumed: bool,
) -> Result<Vec<Fault>, DialError> {
    let Verdict { outcome, reports } = security.judge(handshake);
    match outcome {
        Judgement::NextHost(failure) => {
            let insecure = Insecure { failure, faults: reports, resumed };
            Err(DialError::Insecure(Box::new(insecure)))
        }
        _ => Ok(reports),
    }
}

fn server_name(dial: &Dial<'_>, security: &Security) -> Result<ServerName<'static>, DialError> {
    let name = name_for(security, dial.host).into_owned();
    ServerName::try_from(name).or_else(|_| match dial.endpoint {
        Endpoint::Tcp(address) => Ok(ServerName::IpAddress(address.ip().into())),
        Endpoint::Unix(_) => Err(Loss::NoTls.into()),
    })
}

/// What the time is to the session: by the clock of its timers.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Reads once and hands on what came; answers how much, 0 at the end.
async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    std::future::poll_fn(|context| {
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
