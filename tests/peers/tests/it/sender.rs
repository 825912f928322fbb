//! A client that sends mail, one command after the other.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::mail::{By, Mail};

const REPLY_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Sender {
    stream: BufReader<TcpStream>,
}

impl Sender {
    /// Connects and says EHLO.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
        let mut sender = Self { stream: BufReader::new(stream) };
        sender.expect("220");
        sender.say("EHLO client.sender.test", "250");
        sender
    }

    /// Sends a mail, all of which the server must take.
    pub(crate) fn send(&mut self, mail: &Mail) {
        self.say(&format!("MAIL FROM:<{}>{}", mail.from, mail.parameters), "250");
        for to in &mail.to {
            self.say(&format!("RCPT TO:<{to}>{}", mail.recipient_parameters), "250");
        }
        match mail.by {
            By::Data => {
                self.say("DATA", "354");
                self.write(&stuffed(&mail.content));
                self.say(".", "250");
            }
            By::Bdat => {
                let half = mail.content.len() / 2;
                self.write(format!("BDAT {half}\r\n").as_bytes());
                self.write(&mail.content[..half]);
                self.expect("250");
                let rest = &mail.content[half..];
                self.write(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
                self.write(rest);
                self.expect("250");
            }
        }
    }

    /// Says a line; the reply must have this code. Answers its last line.
    pub(crate) fn say(&mut self, line: &str, code: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes());
        self.expect(code)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn expect(&mut self, code: &str) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            assert!(line.starts_with(code), "instead of {code}: {line:?}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }
}

/// RFC 5321 §4.5.2: a dot at the start of a line is doubled.
pub(crate) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 64);
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}
