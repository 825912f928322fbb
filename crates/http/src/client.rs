//! The client: one connection for each request.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri, header, uri::Scheme};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use merpati_plugin::Resolver;
use merpati_types::Domain;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::{Outgoing, collect, outgoing};
use crate::error::HttpError;
use crate::request::{Limits, Method, Request, Response};

/// The most addresses of a host that are tried.
const ADDRESSES: usize = 4;
/// How long one of them may take to answer, and to agree on TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Octets of an answer's status and headers together.
const HEAD: usize = 32 << 10;
/// The most headers of an answer.
const HEADERS: usize = 100;
/// What we call ourselves.
const AGENT: &str = concat!("merpati/", env!("CARGO_PKG_VERSION"));

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's list, as built in.
    #[default]
    BuiltIn,
    /// The certificates in this PEM file.
    File(PathBuf),
}

/// Roots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct RootsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
}

impl Client {
    /// A client that looks names up by `resolver` and believes these roots.
    ///
    /// # Errors
    /// [`RootsError`], when the file of roots cannot be used.
    pub fn new(resolver: Arc<dyn Resolver>, roots: &Roots) -> Result<Self, RootsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3");
        let mut config = builder.with_root_certificates(load(roots)?).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { resolver, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends a request and reads the answer, whatever its status: who asks decides what it means.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: Request, limits: &Limits) -> Result<Response, HttpError> {
        let late = |_| HttpError::Unreachable("no answer in time".to_owned());
        let exchange = self.exchange(request, limits);
        tokio::time::timeout(limits.time, exchange).await.map_err(late)?
    }

    async fn exchange(&self, request: Request, limits: &Limits) -> Result<Response, HttpError> {
        let target = Target::of(&request.url, limits)?;
        let head = target.head(&request)?;
        let stream = self.connect(&target).await?;
        if !target.tls {
            return converse(stream, head, request, limits).await;
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| HttpError::Wrong(format!("{} is no name of a host", target.host)))?;
        let handshake = tokio::time::timeout(CONNECT, self.tls.connect(name, stream));
        match handshake.await {
            Ok(Ok(stream)) => converse(stream, head, request, limits).await,
            Ok(Err(error)) => Err(tls_error(&error)),
            Err(_) => Err(HttpError::Unreachable("the TLS handshake takes too long".to_owned())),
        }
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, HttpError> {
        let unreachable = |why: String| HttpError::Unreachable(format!("{}: {why}", target.host));
        let addresses = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let domain = Domain::parse(&target.host)
                    .map_err(|error| HttpError::Wrong(format!("{}: {error}", target.host)))?;
                let answer = self.resolver.addresses(&domain).await;
                answer.map_err(|error| unreachable(error.to_string()))?.records
            }
        };
        let mut last = "there is no address".to_owned();
        for address in addresses.into_iter().take(ADDRESSES) {
            let address = SocketAddr::new(address, target.port);
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no connection in time".to_owned(),
            }
        }
        Err(unreachable(last))
    }
}

/// Where a URL leads.
struct Target {
    uri: Uri,
    tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(url: &str, limits: &Limits) -> Result<Self, HttpError> {
        let wrong = |why: &str| HttpError::Wrong(format!("the URL {url} {why}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is malformed"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP && limits.plain => false,
            _ => return Err(wrong("does not begin with https:")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("has a user in it"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { uri, tls, host, port })
    }

    /// The request without its body.
    fn head(&self, request: &Request) -> Result<http::request::Builder, HttpError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut head = http::Request::builder()
            .method(match request.method {
                Method::Get => http::Method::GET,
                Method::Post => http::Method::POST,
            })
            .uri(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, AGENT)
            .header(header::CONNECTION, "close");
        for (name, value) in &request.headers {
            let wrong = || HttpError::Wrong(format!("the header {name} is malformed"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            head = head.header(name, value);
        }
        Ok(head)
    }
}

/// Sends a request over a connection that stands, and reads the answer.
async fn converse<S>(
    stream: S,
    head: http::request::Builder,
    request: Request,
    limits: &Limits,
) -> Result<Response, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (length, body) = outgoing(request.body);
    let head = match request.method {
        Method::Get => head,
        Method::Post => head.header(header::CONTENT_LENGTH, length),
    };
    let whole = head.body(body).map_err(|error| HttpError::Wrong(error.to_string()))?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD).max_headers(HEADERS);
    let opened = builder.handshake::<_, Outgoing>(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| broken(&error))?;
    let exchange = async {
        let answer = sender.send_request(whole).await.map_err(|error| broken(&error))?;
        read(answer, limits).await
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    // The connection is driven here, so that nothing of it is left when the caller gives up.
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The rest of the answer is in its buffers.
            Ok(()) => exchange.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

async fn read(answer: http::Response<Incoming>, limits: &Limits) -> Result<Response, HttpError> {
    let (head, body) = answer.into_parts();
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers = head.headers.iter().filter_map(header).collect();
    let body = collect(body, limits).await?;
    Ok(Response { status: head.status.as_u16(), headers, body })
}

fn broken(error: &hyper::Error) -> HttpError {
    HttpError::Broken(error.to_string())
}

fn tls_error(error: &io::Error) -> HttpError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => HttpError::Certificate(why.to_string()),
        _ => HttpError::Unreachable(format!("TLS handshake: {error}")),
    }
}

fn load(roots: &Roots) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    let path = match roots {
        Roots::BuiltIn => {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(store);
        }
        Roots::File(path) => path,
    };
    let unusable = |reason: String| RootsError { path: path.clone(), reason };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(store)
}
