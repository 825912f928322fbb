//! The PROXY protocol, versions 1 and 2: what a load balancer says of the client it speaks for.
//!
//! The format is HAProxy's `proxy-protocol.txt`. A server reads the header before anything else,
//! TLS included, and only from peers it trusts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

/// Longest version 1 header, CRLF included (`proxy-protocol.txt` §2.1).
const V1_LIMIT: usize = 107;

/// Longest version 2 header that is taken: the fixed part, addresses, and room for TLVs. The format
/// allows 65,551 octets; real headers stay below a few hundred.
pub const PROXY_HEADER_LIMIT: usize = 4_096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Who is at the other end, as the proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy speaks for itself (version 2 `LOCAL`, a health check), or does not know or can't
    /// say whom it speaks for (version 1 `UNKNOWN`; version 2 without addresses, or with those of
    /// Unix sockets). The addresses of the connection itself hold.
    Local,
    /// The proxy speaks for a client over TCP.
    Tcp {
        /// The client's address and port.
        source: SocketAddr,
        /// The address and port the client connected to; of the same family as `source`.
        destination: SocketAddr,
    },
}

/// How far [`ProxyHeader::parse`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProgress {
    /// What has come so far may be the beginning of a header; read more.
    Incomplete,
    /// A header, in the first `length` octets.
    Complete {
        /// What it says.
        header: ProxyHeader,
        /// Its length in octets; what follows belongs to the connection proper.
        length: usize,
    },
}

/// Bytes that are not a PROXY header. There is no reply: the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither version's beginning.
    #[error("no PROXY header")]
    Signature,
    /// Begins like a header, and breaks the format later.
    #[error("malformed PROXY header: {what}")]
    Malformed {
        /// Which part is wrong.
        what: &'static str,
    },
    /// Longer than [`PROXY_HEADER_LIMIT`], or for version 1 than 107 octets.
    #[error("PROXY header longer than {limit} octets")]
    TooLong {
        /// The limit in octets.
        limit: usize,
    },
}

impl ProxyHeader {
    /// Reads a header of either version from the beginning of `input`.
    ///
    /// It never asks for more than [`PROXY_HEADER_LIMIT`] octets.
    ///
    /// # Errors
    /// `input` can't be the beginning of a header.
    pub fn parse(input: &[u8]) -> Result<ProxyProgress, ProxyError> {
        if input.is_empty() {
            return Ok(ProxyProgress::Incomplete);
        }
        if agree(input, V2_SIGNATURE) {
            return parse_v2(input);
        }
        if agree(input, b"PROXY ") {
            return parse_v1(input);
        }
        Err(ProxyError::Signature)
    }

    /// Writes the version 1 header.
    pub fn encode_v1(&self, out: &mut BytesMut) {
        let line = match self {
            ProxyHeader::Local => "PROXY UNKNOWN\r\n".to_owned(),
            ProxyHeader::Tcp { source, destination } => {
                let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
                format!(
                    "PROXY {family} {} {} {} {}\r\n",
                    source.ip(),
                    destination.ip(),
                    source.port(),
                    destination.port()
                )
            }
        };
        out.extend_from_slice(line.as_bytes());
    }

    /// Writes the version 2 header, without TLVs. Addresses of different families are written as
    /// IPv6, the IPv4 one mapped.
    pub fn encode_v2(&self, out: &mut BytesMut) {
        out.extend_from_slice(V2_SIGNATURE);
        match self {
            ProxyHeader::Local => out.extend_from_slice(&[0x20, 0x00, 0, 0]),
            ProxyHeader::Tcp { source, destination } => {
                match (source.ip(), destination.ip()) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        out.extend_from_slice(&[0x21, 0x11, 0, 12]);
                        out.extend_from_slice(&source.octets());
                        out.extend_from_slice(&destination.octets());
                    }
                    (source, destination) => {
                        out.extend_from_slice(&[0x21, 0x21, 0, 36]);
                        out.extend_from_slice(&to_v6(source).octets());
                        out.extend_from_slice(&to_v6(destination).octets());
                    }
                }
                out.put_u16(source.port());
                out.put_u16(destination.port());
            }
        }
    }
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Whether one of the two is the beginning of the other.
fn agree(input: &[u8], signature: &[u8]) -> bool {
    input.iter().zip(signature).all(|(a, b)| a == b)
}

fn malformed(what: &'static str) -> ProxyError {
    ProxyError::Malformed { what }
}

fn parse_v1(input: &[u8]) -> Result<ProxyProgress, ProxyError> {
    let window = &input[..input.len().min(V1_LIMIT)];
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return if window.len() == V1_LIMIT {
            Err(ProxyError::TooLong { limit: V1_LIMIT })
        } else {
            Ok(ProxyProgress::Incomplete)
        };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| malformed("not ASCII"))?;
    let mut fields = line.split(' ').skip(1);
    let header = match fields.next() {
        // What follows UNKNOWN has to be ignored (proxy-protocol.txt §2.1).
        Some("UNKNOWN") => ProxyHeader::Local,
        Some("TCP4") => v1_addresses(fields, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?,
        Some("TCP6") => v1_addresses(fields, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?,
        _ => return Err(malformed("protocol")),
    };
    Ok(ProxyProgress::Complete { header, length: end + 2 })
}

fn v1_addresses<'a>(
    mut fields: impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Result<ProxyHeader, ProxyError> {
    let mut next_address = || fields.next().and_then(&address).ok_or(malformed("address"));
    let source = next_address()?;
    let destination = next_address()?;
    let mut next_port = || fields.next().and_then(v1_port).ok_or(malformed("port"));
    let source = SocketAddr::new(source, next_port()?);
    let destination = SocketAddr::new(destination, next_port()?);
    if fields.next().is_some() {
        return Err(malformed("more than four fields"));
    }
    Ok(ProxyHeader::Tcp { source, destination })
}

fn v1_port(text: &str) -> Option<u16> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

fn parse_v2(input: &[u8]) -> Result<ProxyProgress, ProxyError> {
    let Some(fixed) = input.first_chunk::<V2_FIXED>() else {
        return Ok(ProxyProgress::Incomplete);
    };
    let [.., version_command, family, high, low] = *fixed;
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > PROXY_HEADER_LIMIT {
        return Err(ProxyError::TooLong { limit: PROXY_HEADER_LIMIT });
    }
    let command = match version_command {
        0x20 => V2Command::Local,
        0x21 => V2Command::Proxy,
        _ => return Err(malformed("version or command")),
    };
    let Some(rest) = input.get(V2_FIXED..length) else {
        return Ok(ProxyProgress::Incomplete);
    };
    let header = match (command, family) {
        (V2Command::Local, _) => ProxyHeader::Local,
        (V2Command::Proxy, 0x11) => {
            let block = rest.first_chunk::<12>().ok_or(malformed("addresses cut short"))?;
            let [s0, s1, s2, s3, d0, d1, d2, d3, sp0, sp1, dp0, dp1] = *block;
            ProxyHeader::Tcp {
                source: SocketAddr::new(
                    Ipv4Addr::new(s0, s1, s2, s3).into(),
                    u16::from_be_bytes([sp0, sp1]),
                ),
                destination: SocketAddr::new(
                    Ipv4Addr::new(d0, d1, d2, d3).into(),
                    u16::from_be_bytes([dp0, dp1]),
                ),
            }
        }
        (V2Command::Proxy, 0x21) => {
            let (source, rest) = v2_v6(rest)?;
            let (destination, rest) = v2_v6(rest)?;
            let ports = rest.first_chunk::<4>().ok_or(malformed("addresses cut short"))?;
            let [sp0, sp1, dp0, dp1] = *ports;
            ProxyHeader::Tcp {
                source: SocketAddr::new(source, u16::from_be_bytes([sp0, sp1])),
                destination: SocketAddr::new(destination, u16::from_be_bytes([dp0, dp1])),
            }
        }
        // Unspecified, or Unix stream: no address that means anything here.
        (V2Command::Proxy, 0x00 | 0x31) => ProxyHeader::Local,
        (V2Command::Proxy, _) => return Err(malformed("address family or transport")),
    };
    Ok(ProxyProgress::Complete { header, length })
}

enum V2Command {
    Local,
    Proxy,
}

fn v2_v6(bytes: &[u8]) -> Result<(IpAddr, &[u8]), ProxyError> {
    let (octets, rest) = bytes.split_first_chunk::<16>().ok_or(malformed("addresses cut short"))?;
    Ok((Ipv6Addr::from(*octets).into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader::Tcp {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// The whole header gives the result; every shorter beginning asks for more, and what follows
    /// is left alone.
    fn check_good(input: &[u8], expected: ProxyHeader) {
        for cut in 0..input.len() {
            assert_eq!(ProxyHeader::parse(&input[..cut]), Ok(ProxyProgress::Incomplete), "{cut}");
        }
        let complete = ProxyProgress::Complete { header: expected, length: input.len() };
        assert_eq!(ProxyHeader::parse(input), Ok(complete));
        let followed = [input, b"\r\nEHLO x\r\n"].concat();
        assert_eq!(ProxyHeader::parse(&followed), Ok(complete));
    }

    fn check_bad(input: &[u8], expected: ProxyError) {
        assert_eq!(ProxyHeader::parse(input), Err(expected), "{:?}", input.escape_ascii());
    }

    fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([version_command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 25];

    #[test]
    fn version_1() {
        check_good(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\r\n",
            tcp("192.0.2.1:12345", "198.51.100.2:25"),
        );
        check_good(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 25\r\n",
            tcp("[2001:db8::1]:12345", "[2001:db8::2]:25"),
        );
        check_good(b"PROXY UNKNOWN\r\n", ProxyHeader::Local);
        check_good(b"PROXY UNKNOWN ffff::1 ffff::2 99999 whatever\r\n", ProxyHeader::Local);
    }

    #[test]
    fn version_1_broken() {
        check_bad(b"EHLO x\r\n", ProxyError::Signature);
        check_bad(b"PROXX", ProxyError::Signature);
        check_bad(b"proxy TCP4 ", ProxyError::Signature);
        check_bad(&[b'P', 0x16], ProxyError::Signature);
        for (input, what) in [
            ("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "protocol"),
            ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "protocol"),
            ("PROXY \r\n", "protocol"),
            ("PROXY TCP4\r\n", "address"),
            ("PROXY TCP4 1.1.1.1\r\n", "address"),
            ("PROXY TCP4 ::1 ::1 1 1\r\n", "address"),
            ("PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", "address"),
            ("PROXY TCP4 1.1.1.1 1.1.1.256 1 1\r\n", "address"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "port"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", "port"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "port"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "port"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1  1 1\r\n", "port"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "more than four fields"),
        ] {
            check_bad(input.as_bytes(), ProxyError::Malformed { what });
        }
        check_bad(b"PROXY UNKNOWN \xff\r\n", ProxyError::Malformed { what: "not ASCII" });
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        check_bad(long.as_bytes(), ProxyError::TooLong { limit: 107 });
        check_good(format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)).as_bytes(), ProxyHeader::Local);
    }

    #[test]
    fn version_2() {
        check_good(&v2(0x21, 0x11, V4), tcp("192.0.2.1:12345", "198.51.100.2:25"));
        let with_tlv = [V4, &[0x04, 0, 1, 0]].concat();
        check_good(&v2(0x21, 0x11, &with_tlv), tcp("192.0.2.1:12345", "198.51.100.2:25"));
        let mut v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets().to_vec();
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend([0, 1, 0, 25]);
        check_good(&v2(0x21, 0x21, &v6), tcp("[2001:db8::1]:1", "[::1]:25"));
        check_good(&v2(0x20, 0x00, &[]), ProxyHeader::Local);
        check_good(&v2(0x20, 0x11, V4), ProxyHeader::Local);
        check_good(&v2(0x21, 0x00, &[]), ProxyHeader::Local);
        check_good(&v2(0x21, 0x31, &[0; 216]), ProxyHeader::Local);
    }

    #[test]
    fn version_2_broken() {
        let what = "addresses cut short";
        check_bad(&v2(0x21, 0x11, &V4[..11]), ProxyError::Malformed { what });
        check_bad(&v2(0x21, 0x21, &[0; 35]), ProxyError::Malformed { what });
        check_bad(&v2(0x21, 0x21, &[0; 15]), ProxyError::Malformed { what });
        let what = "version or command";
        check_bad(&v2(0x11, 0x11, V4), ProxyError::Malformed { what });
        check_bad(&v2(0x22, 0x11, V4), ProxyError::Malformed { what });
        let what = "address family or transport";
        check_bad(&v2(0x21, 0x12, V4), ProxyError::Malformed { what });
        check_bad(&v2(0x21, 0x41, V4), ProxyError::Malformed { what });
        let limit = PROXY_HEADER_LIMIT;
        check_bad(&v2(0x20, 0, &vec![0; limit]), ProxyError::TooLong { limit });
        check_good(&v2(0x20, 0, &vec![0; limit - V2_FIXED]), ProxyHeader::Local);
        check_bad(b"\r\n\r\n\0\r\nQUIX", ProxyError::Signature);
    }

    #[test]
    fn round_trip() {
        for header in [
            ProxyHeader::Local,
            tcp("192.0.2.1:12345", "198.51.100.2:25"),
            tcp("[2001:db8::1]:1", "[::1]:65535"),
        ] {
            let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
            header.encode_v1(&mut one);
            header.encode_v2(&mut two);
            check_good(&one, header);
            check_good(&two, header);
        }
    }
}
