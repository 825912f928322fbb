//! The client against servers that mean well, and servers that do not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use merpati_http::{Body, Client, HttpError, Limits, Request, Roots};
use merpati_plugin::resolver::{Lookup, MxRecord};
use merpati_plugin::{Answer, BodyReader, Dnssec, ResolveError, Resolver, async_trait};
use merpati_testkit::authority::{Authority, Dates};
use merpati_types::Domain;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Every name is this machine, but for one that is nowhere.
struct Here;

#[async_trait]
impl Resolver for Here {
    async fn mx(&self, _: &Domain) -> Lookup<MxRecord> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn addresses(&self, host: &Domain) -> Lookup<IpAddr> {
        match host.as_ascii() {
            "nowhere.test" => Err(ResolveError::NxDomain(Dnssec::Insecure)),
            _ => Ok(Answer::insecure(vec![Ipv4Addr::LOCALHOST.into()])),
        }
    }

    async fn names(&self, _: IpAddr) -> Lookup<Domain> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn txt(&self, _: &Domain) -> Lookup<Vec<u8>> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }
}

fn client(authority: &Authority) -> Client {
    Client::new(Arc::new(Here), &Roots::File(authority.file())).unwrap()
}

async fn tls(authority: &Authority, dates: Dates) -> u16 {
    serve(Some(authority.acceptor(&["good.test"], dates).unwrap())).await
}

/// Answers every request with what `answer` makes of its path; answers the port.
async fn serve(tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(stream).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream).await,
                        Err(error) => Err(error),
                    },
                }
            });
        }
    });
    port
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).await?;
        // Who begins with a handshake is at the wrong door.
        if count == 0 || request.is_empty() && piece[0] == 22 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..count]);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
    };
    let said = match path.as_str() {
        "/good" => head("200 OK", 4) + "Coo.",
        "/none" => head("404 Not Found", 0),
        "/away" => "HTTP/1.1 301 Moved\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/large" => head("200 OK", 200_000) + &"x".repeat(200_000),
        "/short" => head("200 OK", 10) + "Coo.",
        "/garbage" => "220 mail.test ESMTP\r\n".to_owned(),
        "/headers" => "HTTP/1.1 200 OK\r\n".to_owned() + &"X: y\r\n".repeat(100_000),
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(b"400\r\n").await?;
                stream.write_all(&[b'x'; 0x400]).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        "/echo" => {
            let end = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let length = text.to_ascii_lowercase();
            let length =
                length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.unwrap().parse().unwrap();
            let mut body = request.split_off(end);
            while body.len() < length {
                let mut piece = [0; 4_096];
                let count = stream.read(&mut piece).await?;
                body.extend_from_slice(&piece[..count]);
            }
            let reply = format!("{length} {}", String::from_utf8_lossy(&body));
            head("200 OK", reply.len()) + &reply
        }
        // Not a word.
        _ => return std::future::pending().await,
    };
    stream.write_all(said.as_bytes()).await?;
    stream.shutdown().await
}

#[tokio::test]
async fn answers_are_read_within_limits() {
    let authority = Authority::new().unwrap();
    let client = client(&authority);
    let port = tls(&authority, Dates::Valid).await;
    let get = async |path: &str| {
        let request = Request::get(format!("https://good.test:{port}{path}"));
        let time = Duration::from_millis(if path == "/mute" { 50 } else { 60_000 });
        client.send(request, &Limits { time, ..Limits::default() }).await
    };
    let good = get("/good").await.unwrap();
    assert_eq!((good.status, &good.body[..]), (200, &b"Coo."[..]));
    assert_eq!(good.header("content-type"), Some("text/plain"));
    for (path, status) in [("/none", 404), ("/away", 301)] {
        assert_eq!(get(path).await.unwrap().status, status, "{path}");
    }
    let too_large = Err(HttpError::TooLarge { limit: 64 << 10 });
    assert_eq!(get("/large").await, too_large);
    assert_eq!(get("/endless").await, too_large);
    // Who only wants to know the status hears it.
    let cut = Limits { cut: true, body: 10, ..Limits::default() };
    for path in ["/large", "/endless"] {
        let request = Request::get(format!("https://good.test:{port}{path}"));
        let answer = client.send(request, &cut).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"xxxxxxxxxx"[..]), "{path}");
    }
    for path in ["/short", "/garbage", "/headers"] {
        assert!(matches!(get(path).await, Err(HttpError::Broken(_))), "{path}");
    }
    assert_eq!(get("/mute").await, Err(HttpError::Unreachable("no answer in time".to_owned())));
}

struct Pieces(Vec<&'static str>);

#[async_trait]
impl BodyReader for Pieces {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        Ok(self.0.pop().map(Bytes::from))
    }
}

#[tokio::test]
async fn bodies_are_handed_over() {
    let authority = Authority::new().unwrap();
    let client = client(&authority);
    let port = tls(&authority, Dates::Valid).await;
    let post = async |body| {
        let request = Request::post(format!("https://good.test:{port}/echo"), body);
        let answer = client.send(request.with("X-Test", "yes"), &Limits::default()).await;
        answer.map(|answer| String::from_utf8(answer.body.to_vec()).unwrap())
    };
    assert_eq!(post(Body::Bytes(Bytes::from("Coo."))).await.as_deref(), Ok("4 Coo."));
    let reader = || Box::new(Pieces(vec!["lo", "hel"]));
    let stream = Body::Stream { length: 5, reader: reader() };
    assert_eq!(post(stream).await.as_deref(), Ok("5 hello"));
}

#[tokio::test]
async fn hosts_must_be_who_they_should_be() {
    let authority = Authority::new().unwrap();
    let client = client(&authority);
    let good = tls(&authority, Dates::Valid).await;
    let expired = tls(&authority, Dates::Expired).await;
    let foreign = tls(&Authority::new().unwrap(), Dates::Valid).await;
    let plain = serve(None).await;
    let allowed = Limits { plain: true, ..Limits::default() };
    for (url, limits, expected) in [
        (format!("https://good.test:{good}/good"), Limits::default(), "ok"),
        (format!("https://other.test:{good}/good"), Limits::default(), "certificate"),
        (format!("https://good.test:{expired}/good"), Limits::default(), "certificate"),
        (format!("https://good.test:{foreign}/good"), Limits::default(), "certificate"),
        (format!("https://good.test:{plain}/good"), Limits::default(), "unreachable"),
        (format!("https://nowhere.test:{good}/"), Limits::default(), "unreachable"),
        (format!("http://good.test:{plain}/good"), Limits::default(), "wrong"),
        (format!("http://good.test:{plain}/good"), allowed, "ok"),
        (format!("http://127.0.0.1:{plain}/good"), allowed, "ok"),
        (format!("https://user@good.test:{good}/good"), Limits::default(), "wrong"),
        ("/good".to_owned(), allowed, "wrong"),
    ] {
        let answer = client.send(Request::get(url.clone()), &limits).await;
        let found = match &answer {
            Ok(_) => "ok",
            Err(HttpError::Certificate(_)) => "certificate",
            Err(HttpError::Unreachable(_)) => "unreachable",
            Err(HttpError::Wrong(_)) => "wrong",
            Err(_) => "other",
        };
        assert_eq!(found, expected, "{url}: {answer:?}");
    }
    let wrong = Request::get("https://good.test/").with("X-Bad", "a\r\nb");
    let answer = client.send(wrong, &Limits::default()).await;
    assert!(matches!(answer, Err(HttpError::Wrong(_))), "{answer:?}");
}
