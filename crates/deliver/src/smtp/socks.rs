//! The client's side of SOCKS5 (RFC 1928), with names and passwords (RFC 1929): CONNECT to an
//! address. Names are never handed to a proxy: which addresses mail goes to is judged here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::source::SocksUser;
use super::stream::timed;

/// How long a proxy may take for what it can say by itself.
const TALK_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;

/// What a proxy said that is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SocksError {
    /// It broke off, or took too long.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It speaks something else.
    #[error("it does not speak SOCKS5: {0}")]
    Protocol(&'static str),
    /// It wants a method that we have not offered.
    #[error("it takes none of the ways to authenticate that are configured")]
    Method,
    /// It does not take user and password.
    #[error("it refuses user and password")]
    Password,
    /// It does not connect, and it is not the host's fault.
    #[error("it does not connect: {}", meaning(*.0))]
    Refused(u8),
    /// It could not reach the host.
    #[error("the proxy says: {}", meaning(*.0))]
    Host(u8),
    /// It has not said a word since it was asked to connect.
    #[error("the proxy has no connection in time")]
    Silent,
}

impl SocksError {
    /// Whether it is about the host, and the proxy is well.
    pub(crate) fn is_of_host(&self) -> bool {
        matches!(self, Self::Host(_) | Self::Silent)
    }
}

/// What a reply means (RFC 1928 §6).
fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "connection not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reply",
    }
}

/// Agrees with a proxy on how to authenticate, and does so, in ten seconds.
///
/// # Errors
/// [`SocksError`].
pub(crate) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    user: Option<&SocksUser>,
) -> Result<(), SocksError> {
    in_time(agree(stream, user)).await
}

async fn in_time<T>(talk: impl Future<Output = Result<T, SocksError>>) -> Result<T, SocksError> {
    let late = |_| Err(SocksError::Io(io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(TALK_LIMIT, talk).await.unwrap_or_else(late)
}

async fn agree<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    user: Option<&SocksUser>,
) -> Result<(), SocksError> {
    let greeting: &[u8] = match user {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        // A proxy that asks nobody may be content without.
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    };
    stream.write_all(greeting).await?;
    let [version, method] = read(stream).await?;
    if version != VERSION {
        return Err(SocksError::Protocol("another version answers the greeting"));
    }
    match (method, user) {
        (NO_AUTHENTICATION, _) => Ok(()),
        (USER_AND_PASSWORD, Some(user)) => {
            stream.write_all(&sub_negotiation(user)).await?;
            // RFC 1929 §2: the version is that of the sub-negotiation; some write 5 there.
            let [_, status] = read(stream).await?;
            if status == 0 { Ok(()) } else { Err(SocksError::Password) }
        }
        _ => Err(SocksError::Method),
    }
}

/// Has the proxy connect to an address: 30 seconds until it begins to answer, which may be the
/// host's fault, and ten more for the rest. Not an octet beyond the reply is taken: what follows is
/// the host's.
///
/// # Errors
/// [`SocksError`].
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    to: SocketAddr,
) -> Result<(), SocksError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match to.ip() {
        IpAddr::V4(address) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
    }
    request.extend_from_slice(&to.port().to_be_bytes());
    in_time(async { Ok(stream.write_all(&request).await?) }).await?;
    let first = timed(CONNECT_LIMIT, read(stream)).await;
    let [version] = match first {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(SocksError::Silent),
        first => first?,
    };
    if version != VERSION {
        return Err(SocksError::Protocol("another version answers the request"));
    }
    in_time(reply(stream)).await
}

/// What follows the version in a reply.
async fn reply<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), SocksError> {
    let [reply, _, kind] = read(stream).await?;
    match reply {
        0 => {}
        3..=6 => return Err(SocksError::Host(reply)),
        _ => return Err(SocksError::Refused(reply)),
    }
    // The address that it connects from, and its port: read, and of no use, since many proxies
    // write zeros.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read(stream).await?;
            usize::from(length)
        }
        _ => return Err(SocksError::Protocol("an address of no known kind")),
    };
    let mut bound = [0; 255 + 2];
    stream.read_exact(&mut bound[..length + 2]).await?;
    Ok(())
}

/// `VER ULEN UNAME PLEN PASSWD` (RFC 1929 §2). What is too long is cut: configuration refuses it.
fn sub_negotiation(user: &SocksUser) -> Vec<u8> {
    let mut request = vec![1];
    for part in [user.name.as_str(), user.password.expose()] {
        let octets = &part.as_bytes()[..part.len().min(255)];
        request.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
        request.extend_from_slice(octets);
    }
    request
}

async fn read<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    stream.read_exact(&mut octets).await?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use merpati_types::Secret;

    use super::*;

    /// What is said to a proxy that says all this at once, and what comes of it; `rest` is what
    /// follows the proxy's words.
    async fn meet(user: Option<&SocksUser>, to: &str, says: &[u8]) -> (Vec<u8>, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(1_024);
        theirs.write_all(says).await.unwrap();
        let talk = async {
            authenticate(&mut ours, user).await?;
            connect(&mut ours, to.parse().unwrap()).await
        };
        theirs.shutdown().await.unwrap();
        let became = match talk.await {
            Ok(()) => {
                let mut rest = String::new();
                ours.read_to_string(&mut rest).await.unwrap();
                format!("connected: {rest}")
            }
            Err(error) if error.is_of_host() => format!("host: {error}"),
            Err(error) => format!("proxy: {error}"),
        };
        drop(ours);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (said, became)
    }

    fn user() -> SocksUser {
        SocksUser { name: "us".to_owned(), password: Secret::new("pw".to_owned()) }
    }

    #[tokio::test]
    async fn what_is_said_is_as_the_rfcs_write_it() {
        let granted = b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\x00220 hi";
        let (said, became) = meet(None, "192.0.2.1:25", granted).await;
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19");
        assert_eq!(became, "connected: 220 hi");
        let granted = b"\x05\x02\x01\x00\x05\x00\x00\x03\x04four\x00\x19220 hi";
        let (said, became) = meet(Some(&user()), "[2001:db8::1]:587", granted).await;
        let mut expected = b"\x05\x02\x00\x02\x01\x02us\x02pw\x05\x01\x00\x04".to_vec();
        expected.extend_from_slice(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x4b");
        assert_eq!(said, expected);
        assert_eq!(became, "connected: 220 hi");
        // Nobody asks.
        let granted = b"\x05\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x19220 hi";
        assert_eq!(meet(Some(&user()), "192.0.2.1:25", granted).await.1, "connected: 220 hi");
    }

    #[tokio::test]
    async fn whose_fault_it_is_is_told() {
        let check = async |user: Option<&SocksUser>, says: &[u8], expected: &str| {
            let (_, became) = meet(user, "192.0.2.1:25", says).await;
            assert_eq!(became, expected, "{says:?}");
        };
        let user = user();
        let user = Some(&user);
        check(None, b"", "proxy: early eof").await;
        check(None, b"\x05", "proxy: early eof").await;
        let other = "proxy: it does not speak SOCKS5: another version answers the greeting";
        check(None, b"HTTP/1.1 400 Bad Request\r\n", other).await;
        check(None, b"\x04\x5a", other).await;
        let none = "proxy: it takes none of the ways to authenticate that are configured";
        check(None, b"\x05\xff", none).await;
        check(None, b"\x05\x02", none).await;
        check(user, b"\x05\x01", none).await;
        check(user, b"\x05\x02\x01\x01", "proxy: it refuses user and password").await;
        let reply = async |code: u8, expected: &str| {
            let says = [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0];
            check(None, &says, expected).await;
        };
        reply(1, "proxy: it does not connect: general failure").await;
        reply(2, "proxy: it does not connect: connection not allowed by its rules").await;
        reply(3, "host: the proxy says: network unreachable").await;
        reply(4, "host: the proxy says: host unreachable").await;
        reply(5, "host: the proxy says: connection refused").await;
        reply(6, "host: the proxy says: TTL expired").await;
        reply(7, "proxy: it does not connect: command not supported").await;
        reply(8, "proxy: it does not connect: address type not supported").await;
        reply(200, "proxy: it does not connect: unknown reply").await;
        let kind = "proxy: it does not speak SOCKS5: an address of no known kind";
        check(None, b"\x05\0\x05\0\0\x09\0\0\0\0\0\0", kind).await;
        let other = "proxy: it does not speak SOCKS5: another version answers the request";
        check(None, b"\x05\0\x04\0\0\x01\0\0\0\0\0\0", other).await;
        check(None, b"\x05\0\x05\0\0\x01\0\0", "proxy: early eof").await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_he_must() {
        /// A proxy that says these and then nothing more.
        async fn meet(says: &[u8]) -> (String, u64) {
            let (mut ours, mut theirs) = tokio::io::duplex(1_024);
            theirs.write_all(says).await.unwrap();
            let begun = tokio::time::Instant::now();
            let talk = async {
                authenticate(&mut ours, None).await?;
                connect(&mut ours, "192.0.2.1:25".parse().unwrap()).await
            };
            let error = talk.await.unwrap_err();
            let whose = if error.is_of_host() { "host" } else { "proxy" };
            (format!("{whose}: {error}"), begun.elapsed().as_secs())
        }
        assert_eq!(meet(b"").await, ("proxy: timed out".to_owned(), 10));
        assert_eq!(meet(b"\x05").await, ("proxy: timed out".to_owned(), 10));
        let silent = "host: the proxy has no connection in time".to_owned();
        assert_eq!(meet(b"\x05\x00").await, (silent, 30));
        let late = ("proxy: timed out".to_owned(), 10);
        assert_eq!(meet(b"\x05\x00\x05\x00").await, late);
        assert_eq!(meet(b"\x05\x00\x05\x00\x00\x03\xff\x00").await, late);
    }
}
