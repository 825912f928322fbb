//! Servers that want to know who we are.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use merpati_plugin::Table;
use merpati_plugin::table::TableError;
use merpati_types::{ReversePath, Secret};
use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::config::SASLConfig;
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::mechanisms::xoauth2::properties::XOAuth2Validate;
use rsasl::mechname::Mechname;
use rsasl::prelude::{SASLServer, SessionError, State, Validation};
use rsasl::property::{AuthId, ChannelBindings, OAuthBearerToken};
use rsasl::validate::{Validate, ValidationError};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What SCRAM-SHA-256 keeps of the password `pencil`: salt, stored key, server key, with the salt
/// and the count of RFC 7677 §3.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const STORED_KEY: &str = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
const SERVER_KEY: &str = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// What names the channel, at the server's end.
struct Known(Vec<u8>);

struct Name;

impl Validation for Name {
    type Value = String;
}

impl SessionCallback for Known {
    fn callback(
        &self,
        _: &SessionData,
        context: &Context<'_>,
        request: &mut Request<'_>,
    ) -> Result<(), SessionError> {
        let keys = [SALT, STORED_KEY, SERVER_KEY].map(|key| STANDARD.decode(key).unwrap());
        let stored = ScramStoredPassword::new(4_096, &keys[0], &keys[1], &keys[2]);
        request.satisfy::<ScramStoredPassword<'static>>(&stored)?;
        request.satisfy::<ChannelBindings>(&self.0)?;
        let good = context.get_ref::<OAuthBearerToken>() == Some("pencil");
        let refused = "{\"status\":\"401\"}";
        request.satisfy::<XOAuth2Validate>(&if good { Ok(()) } else { Err(refused) })?;
        Ok(())
    }

    fn validate(
        &self,
        _: &SessionData,
        context: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let good = context.get_ref::<OAuthBearerToken>().is_none_or(|token| token == "pencil");
        let name = context.get_ref::<AuthId>().filter(|_| good).unwrap_or_default();
        validate.with::<Name, _>(|| Ok(name.to_owned()))?;
        Ok(())
    }
}

/// A server that offers these mechanisms, and takes mail of those it knows: anybody with the
/// password or the token `pencil`.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(offered: &'static str, encrypted: bool) -> Self {
        Self::start_at("127.0.0.1", offered, encrypted).await
    }

    async fn start_at(address: &str, offered: &'static str, encrypted: bool) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&heard);
        let tls = acceptor();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (lines, tls) = (Arc::clone(&lines), tls.clone());
                tokio::spawn(async move {
                    // A client that goes away ends its session, and nothing else.
                    let _ = match encrypted {
                        true => {
                            let stream = tls.accept(stream).await?;
                            let tls = stream.get_ref().1;
                            let name = b"EXPORTER-Channel-Binding";
                            let binding = tls.export_keying_material(vec![0; 32], name, Some(&[]));
                            serve(stream, offered, lines, binding.unwrap()).await
                        }
                        false => serve(stream, offered, lines, Vec::new()).await,
                    };
                    Ok::<(), std::io::Error>(())
                });
            }
        });
        Self { address, heard, task }
    }

    /// Who has logged in how, and who has sent mail, in order.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["sink.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    offered: &str,
    heard: Arc<Mutex<Vec<String>>>,
    binding: Vec<u8>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink.test ESMTP\r\n").await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => format!("250-sink.test\r\n250-PIPELINING\r\n250 AUTH {offered}\r\n"),
            "AUTH" => {
                let (said, reply) = authenticate(&mut stream, line.trim_end(), &binding).await?;
                heard.lock().unwrap().push(said);
                reply
            }
            "MAIL" => {
                heard.lock().unwrap().push(line.trim_end().to_owned());
                "250 2.1.0 ok\r\n".to_owned()
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                while line != ".\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                }
                "250 2.0.0 taken\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 2.0.0 ok\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// An exchange: what to tell of it, and its last reply.
async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    command: &str,
    binding: &[u8],
) -> std::io::Result<(String, String)> {
    assert!(command.len() <= 510, "{command}");
    let mut words = command.split(' ').skip(1);
    let mechanism = words.next().unwrap_or_default().to_owned();
    let refused = "535 5.7.8 who are you?\r\n".to_owned();
    let mut response = words.next().map(|initial| STANDARD.decode(initial).unwrap());
    if mechanism == "CRAM-MD5" {
        // RFC 2195 §2: tim, tanstaaftanstaaf.
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        stream.write_all(format!("334 {challenge}\r\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let good =
            STANDARD.decode(line.trim_end()).unwrap() == b"tim b913a602c7eda7a495b4e6e7334d3890";
        let reply = if good { "235 2.7.0 hello\r\n".to_owned() } else { refused };
        return Ok((format!("{mechanism} {good}"), reply));
    }
    let config =
        SASLConfig::builder().with_defaults().with_callback(Known(binding.to_vec())).unwrap();
    // Its machine is the same with and without -PLUS: what binds is in the first message.
    let name = mechanism.strip_suffix("-PLUS").unwrap_or(&mechanism);
    let name = Mechname::parse(name.as_bytes()).unwrap();
    let mut server = SASLServer::<Name>::new(config).start_suggested(name).unwrap();
    loop {
        let mut challenge = Cursor::new(Vec::new());
        let finished = match &response {
            None => false,
            Some(response) => match server.step(Some(response), &mut challenge) {
                Ok(state) => matches!(state, State::Finished(_)),
                Err(_) => return Ok((format!("{mechanism} refused"), refused)),
            },
        };
        let challenge = challenge.into_inner();
        if finished && challenge.is_empty() {
            let user = server.validation().unwrap_or_default();
            return Ok(match user.is_empty() {
                true => (format!("{mechanism} refused"), refused),
                false => (format!("{mechanism} {user}"), "235 2.7.0 hello\r\n".to_owned()),
            });
        }
        stream.write_all(format!("334 {}\r\n", STANDARD.encode(challenge)).as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim_end() == "*" {
            return Ok((format!("{mechanism} cancelled"), "501 5.7.0 cancelled\r\n".to_owned()));
        }
        response = Some(STANDARD.decode(line.trim_end()).unwrap());
        if finished {
            let user = server.validation().unwrap_or_default();
            return Ok((format!("{mechanism} {user}"), "235 2.7.0 hello\r\n".to_owned()));
        }
    }
}

fn smarthosts(servers: &[&Server], login: Login, encrypted: bool) -> Smtp {
    let host = |server: &&Server| RelayHost {
        host: Host::Literal(server.address.ip()),
        port: Some(server.address.port()),
    };
    let wanted = Some(if encrypted { Override::Encrypt } else { Override::None });
    let config = SmtpConfig {
        name: "smtp".to_owned(),
        protocol: Protocol::Smtp,
        target: Target::Hosts(servers.iter().map(host).collect()),
        port: 25,
        hello: "relay.test".to_owned(),
        tls: TlsSettings { wanted, implicit: encrypted, ..TlsSettings::default() },
        sts: None,
        tls_results: None,
        login: Some(login),
        own_names: Vec::new(),
        barred: Barred::default(),
        sources: Arc::default(),
        recipients: 100,
    };
    Smtp::new(config, Arc::new(NoNames)).unwrap()
}

fn password(user: &str, password: &str) -> Login {
    let password = Secret::new(password.to_owned());
    let account = Credentials::password(user, password).unwrap();
    let account = Some(Account::Fixed(account));
    Login { account, ..Login::default() }
}

fn token(token: &str) -> Login {
    let account = Credentials::token("tim", Secret::new(token.to_owned())).unwrap();
    let account = Some(Account::Fixed(account));
    Login { account, ..Login::default() }
}

const MAIL: &str = "MAIL FROM:<a@sender.test>";

/// What a server offers, whether the connection is encrypted, who we are, what the server hears, and
/// how the outcome begins.
type Case = (&'static str, bool, Login, &'static [&'static str], &'static str);

fn cases() -> [Case; 12] {
    let clear = |login: Login| Login { in_clear: InClear::Challenges, ..login };
    let only = |login: Login, mechanism| Login { mechanisms: vec![mechanism], ..login };
    [
        (
            "PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
            true,
            password("user", "pencil"),
            &["SCRAM-SHA-256-PLUS user", MAIL],
            "250",
        ),
        (
            "PLAIN SCRAM-SHA-256",
            true,
            password("user", "pencil"),
            &["SCRAM-SHA-256 user", MAIL],
            "250",
        ),
        (
            "SCRAM-SHA-256",
            true,
            password("user", "pen"),
            &["SCRAM-SHA-256 cancelled"],
            "authentication failed",
        ),
        (
            "CRAM-MD5 XOAUTH2",
            true,
            password("tim", "tanstaaftanstaaf"),
            &["CRAM-MD5 true", MAIL],
            "250",
        ),
        ("CRAM-MD5 XOAUTH2", true, password("tim", "wrong"), &["CRAM-MD5 false"], "535"),
        ("XOAUTH2", true, token("pencil"), &["XOAUTH2 tim", MAIL], "250"),
        ("XOAUTH2", true, token("pen"), &["XOAUTH2 refused"], "535"),
        ("XOAUTH2", true, token(&"x".repeat(600)), &["XOAUTH2 refused"], "535"),
        (
            "PLAIN LOGIN XOAUTH2",
            false,
            clear(password("tim", "pencil")),
            &[],
            "server offers no way",
        ),
        (
            "PLAIN SCRAM-SHA-256",
            false,
            clear(password("user", "pencil")),
            &["SCRAM-SHA-256 user", MAIL],
            "250",
        ),
        ("PLAIN SCRAM-SHA-256", false, password("user", "pencil"), &[], "server offers no way"),
        (
            "CRAM-MD5 SCRAM-SHA-256",
            true,
            only(password("tim", "tanstaaftanstaaf"), Mechanism::CramMd5),
            &["CRAM-MD5 true", MAIL],
            "250",
        ),
    ]
}

#[tokio::test]
async fn the_strongest_mechanism_is_spoken() {
    for (offered, encrypted, login, expected, says) in cases() {
        let server = Server::start(offered, encrypted).await;
        let transport = smarthosts(&[&server], login, encrypted);
        let became = deliver(&transport, &["1@x.test"], 1).await;
        let outcome = &became.outcomes[0];
        assert_eq!(server.heard(), expected, "{offered} {outcome:?}");
        assert!(outcome.diagnostic.starts_with(says), "{offered} {outcome:?}");
        if says != "250" {
            // Never a bounce; and the server is left alone for a while.
            assert_eq!(deferred(outcome), DeferClass::Local);
            let again = deliver(&transport, &["1@x.test"], 1).await;
            assert_eq!((again.connections, server.heard()), (0, Vec::<String>::new()));
            assert_eq!(deferred(&again.outcomes[0]), DeferClass::Local);
        }
    }
}

#[tokio::test]
async fn the_next_host_is_tried_where_one_is_down_or_does_not_know_us() {
    let down = Server::start_at("127.0.0.2", "PLAIN", false).await;
    down.task.abort();
    let stranger = Server::start_at("127.0.0.3", "CRAM-MD5", true).await;
    let good = Server::start_at("127.0.0.4", "SCRAM-SHA-256", true).await;
    while TcpStream::connect(down.address).await.is_ok() {}
    let transport = smarthosts(&[&down, &stranger, &good], password("user", "pencil"), true);
    for connections in [3, 0] {
        let became = deliver(&transport, &["1@x.test"], 1).await;
        assert!(became.outcomes[0].diagnostic.starts_with("250"), "{:?}", became.outcomes[0]);
        assert_eq!(became.connections, connections);
    }
    assert_eq!(stranger.heard(), ["CRAM-MD5 false"]);
    assert_eq!(good.heard(), ["SCRAM-SHA-256 user", MAIL, MAIL]);
}

struct Rows(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl Table for Rows {
    async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
        match self.0.get(key) {
            Some(&"broken") => Err(TableError::Unavailable("it is broken".into())),
            found => Ok(found.map(|value| (*value).to_owned())),
        }
    }
}

#[tokio::test]
async fn connections_are_shared_by_senders_of_one_account_alone() {
    let rows = [
        ("a@one.test", "anna:pencil"),
        ("one.test", "one:pencil"),
        ("two.test", "broken"),
        ("three.test", "pencil"),
    ];
    let login = Login { by_sender: Some(Arc::new(Rows(rows.into()))), ..Login::default() };
    let server = Server::start("SCRAM-SHA-256", true).await;
    let transport = smarthosts(&[&server], login, true);
    let send = async |sender: &str| {
        let mut parcel = parcel(1, &["1@x.test"], "mail.test");
        let info = Arc::get_mut(&mut parcel.info).unwrap();
        info.message.envelope.sender = ReversePath::parse(sender).unwrap();
        let piece = Bytes::from_static(b"Subject: x\r\n\r\nx\r\n");
        let job = Job {
            parcel: Arc::new(parcel),
            message: Arc::new(Pieces { piece, count: 1 }),
            notes: Arc::new(Notes::default()),
            outbound: OutboundChain::default(),
        };
        let outcomes = transport.deliver(job).await;
        let mut said = server.heard();
        said.push(outcomes[0].diagnostic.clone());
        said.join(", ")
    };
    let check = async |sender: &str, expected: &str| assert_eq!(send(sender).await, expected);
    let ok = "250 2.0.0 taken";
    check("<a@one.test>", &format!("SCRAM-SHA-256 anna, MAIL FROM:<a@one.test>, {ok}")).await;
    check("<b@one.test>", &format!("SCRAM-SHA-256 one, MAIL FROM:<b@one.test>, {ok}")).await;
    check("<a+x@one.test>", &format!("MAIL FROM:<a+x@one.test>, {ok}")).await;
    check("<c@one.test>", &format!("MAIL FROM:<c@one.test>, {ok}")).await;
    check("<a@other.test>", &format!("MAIL FROM:<a@other.test>, {ok}")).await;
    check("<>", &format!("MAIL FROM:<>, {ok}")).await;
    let unknown = "451 4.3.5 the account for this sender cannot be found out now";
    check("<a@two.test>", unknown).await;
    check("<a@three.test>", unknown).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    use crate::smtp::oauth::tests::{oauth, serve};

    type Answer = (u16, &'static str);
    let stale: Answer = (200, r#"{"access_token":"stale"}"#);
    let good = (200, r#"{"access_token":"pencil"}"#);
    let broken = (500, "");
    let cases: [(&[Answer], &[&str], &str); 3] = [
        (&[stale, good], &["XOAUTH2 refused", "XOAUTH2 tim", MAIL], "250"),
        (&[stale, stale, good], &["XOAUTH2 refused", "XOAUTH2 refused"], "535"),
        (&[broken], &[], "no token is given: 500"),
    ];
    for (answers, expected, says) in cases {
        let (url, _) = serve(answers).await;
        let account = Account::Renewed { user: "tim".to_owned(), tokens: Arc::new(oauth(url)) };
        let login = Login { account: Some(account), ..Login::default() };
        let server = Server::start("PLAIN XOAUTH2", true).await;
        let transport = smarthosts(&[&server], login, true);
        let became = deliver(&transport, &["1@x.test"], 1).await;
        assert_eq!(server.heard(), expected);
        let outcome = &became.outcomes[0];
        assert!(outcome.diagnostic.starts_with(says), "{outcome:?}");
        if says != "250" {
            assert_eq!(deferred(outcome), DeferClass::Local);
        }
    }
}
