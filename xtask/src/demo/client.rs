//! A user's mail client, as small as it can be: SMTP over TLS, one command after the other.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::layout::{ALICE, BOB, Layout};

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// Sends `message` from alice to bob; answers the server's last word.
pub(crate) fn send(layout: &Layout, message: &str) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&layout.ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(layout.tls)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let name = ServerName::try_from("mail.sender.test")?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));

    expect(&mut stream, "220")?;
    say(&mut stream, "EHLO client.sender.test", "250")?;
    say(&mut stream, "AUTH LOGIN", "334")?;
    say(&mut stream, &base64(ALICE), "334")?;
    say(&mut stream, &base64(&layout.password), "235")?;
    say(&mut stream, &format!("MAIL FROM:<{ALICE}>"), "250")?;
    say(&mut stream, &format!("RCPT TO:<{BOB}>"), "250")?;
    say(&mut stream, "DATA", "354")?;
    let stuffed = message.replace("\r\n.", "\r\n..");
    let queued = say(&mut stream, &format!("{stuffed}."), "250")?;
    say(&mut stream, "QUIT", "221")?;
    Ok(queued)
}

fn say(stream: &mut Stream, line: &str, code: &str) -> Result<String> {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
    stream.get_mut().flush()?;
    expect(stream, code)
}

/// Reads a reply; answers its last line.
fn expect(stream: &mut Stream, code: &str) -> Result<String> {
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).context("no reply")?;
        ensure!(read > 0, "the server closed the connection");
        ensure!(line.starts_with(code), "the server said: {}", line.trim_end());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_owned());
        }
    }
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let octet = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
