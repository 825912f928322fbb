//! The mails that cross, and how they are found again.

use std::fs;
use std::path::Path;

/// A mail to send.
pub(crate) struct Mail {
    pub(crate) name: String,
    pub(crate) from: &'static str,
    pub(crate) to: Vec<String>,
    /// What follows the path in MAIL, with the space before it.
    pub(crate) parameters: &'static str,
    /// What follows the path in each RCPT, with the space before it.
    pub(crate) recipient_parameters: &'static str,
    pub(crate) content: Vec<u8>,
    pub(crate) by: By,
}

/// The command that carries the content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Data,
    Bdat,
}

impl Mail {
    /// A mail from alice to bob, by DATA.
    pub(crate) fn new(name: &str, body: &[u8]) -> Self {
        let mut content = format!(
            "From: Alice <alice@sender.test>\r\nTo: Bob <bob@receiver.test>\r\n\
             Subject: {name}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
             Message-ID: <{}@sender.test>\r\n\r\n",
            name.replace(' ', "-")
        )
        .into_bytes();
        content.extend_from_slice(body);
        Self {
            name: name.to_owned(),
            from: "alice@sender.test",
            to: vec!["bob@receiver.test".to_owned()],
            parameters: "",
            recipient_parameters: "",
            content,
            by: By::Data,
        }
    }

    /// Whether any client can send this: text in lines, by DATA, without parameters.
    pub(crate) fn is_for_clients(&self) -> bool {
        self.by == By::Data && (self.parameters.is_empty() || self.parameters.starts_with(" SIZE"))
    }

    /// Adds `more` to the subject.
    pub(crate) fn rename(&mut self, more: &str) {
        let subject = format!("Subject: {}", self.name);
        let content = std::mem::take(&mut self.content);
        let at = content.windows(subject.len()).position(|window| window == subject.as_bytes());
        let (head, rest) = content.split_at(at.expect("there is a subject") + subject.len());
        self.name = format!("{} {more}", self.name);
        self.content = [head, b" ", more.as_bytes(), rest].concat();
    }

    /// Checks that each recipient's mailbox holds this mail once, octet for octet but for added
    /// fields. `mailbox` names the local part's Maildir.
    pub(crate) fn assert_arrived(&self, mailbox: impl Fn(&str) -> std::path::PathBuf) {
        for to in &self.to {
            let local = to.split('@').next().unwrap();
            self.assert_once(to, &maildir(&mailbox(local)));
        }
    }

    /// Checks that this mail is one of `stored`, and only one.
    pub(crate) fn assert_once(&self, to: &str, stored: &[Vec<u8>]) {
        let subject = format!("\r\nSubject: {}\r\n", self.name);
        let copies: Vec<_> = stored.iter().filter(|stored| holds(stored, &subject)).collect();
        assert_eq!(copies.len(), 1, "{}: copies for {to}", self.name);
        self.assert_is(copies[0]);
    }

    /// Checks that `stored`, CRLF line ends, is this mail but for added fields. A last line that
    /// does not end may have been given an end.
    fn assert_is(&self, stored: &[u8]) {
        let is_whole = |text: &[u8]| text.ends_with(&self.content);
        assert!(
            is_whole(stored) || stored.strip_suffix(b"\r\n").is_some_and(is_whole),
            "{}: {} octets were sent, and this is stored:\n{}",
            self.name,
            self.content.len(),
            String::from_utf8_lossy(&stored[..stored.len().min(4_000)])
        );
    }
}

/// The delivery reports in a Maildir, in the order of nothing.
pub(crate) fn reports(path: &Path) -> Vec<String> {
    let text = |stored: Vec<u8>| String::from_utf8(stored).expect("a report is text");
    maildir(path)
        .into_iter()
        .map(text)
        .filter(|stored| stored.contains("report-type=delivery-status"))
        .collect()
}

/// Whether `text` is in the first octets of `stored`.
fn holds(stored: &[u8], text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    stored.windows(text.len()).take(100_000).any(|window| window == text)
}

/// Every message that is new in a Maildir, CRLF line ends.
pub(crate) fn maildir(path: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(path.join("new")) else { return Vec::new() };
    entries.map(|entry| crlf(&fs::read(entry.unwrap().path()).unwrap())).collect()
}

/// The octets with CRLF for LF.
pub(crate) fn crlf(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stored.len() + stored.len() / 32);
    for line in stored.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// What every road must carry: one mail, or with `everything` all kinds of them.
pub(crate) fn mails(everything: bool) -> Vec<Mail> {
    let plain = Mail::new("plain", b"Coo.\r\n.\r\n..\r\nIt has crossed.\r\n");
    if !everything {
        return vec![plain];
    }
    let long_line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    let many = Mail {
        to: (1..=100).map(|number| format!("user{number}@receiver.test")).collect(),
        ..Mail::new("a hundred", b"To all of you.\r\n")
    };
    vec![
        plain,
        Mail::new("empty body", b""),
        Mail::new("only dots", b".\r\n..\r\n...\r\n.\r\n.\r\n"),
        Mail::new("long lines", &long_line.repeat(3)),
        Mail {
            parameters: " BODY=8BITMIME",
            ..Mail::new("eight bits", "Žluťoučký kůň.\r\n\u{a0}\r\n".as_bytes())
        },
        Mail { by: By::Bdat, ..Mail::new("no end of line", b"by chunks\r\nand cut") },
        Mail { by: By::Bdat, ..Mail::new("chunks", b".\r\nby chunks\r\n.\r\n") },
        Mail {
            from: "ünï@sender.test",
            to: vec!["üser@receiver.test".to_owned()],
            parameters: " SMTPUTF8 BODY=8BITMIME",
            ..Mail::new("utf-8", "Grüße.\r\n".as_bytes())
        },
        many,
        Mail {
            parameters: " SIZE=22000000",
            ..Mail::new("twenty mebibytes", &attachment(20 << 20))
        },
    ]
}

/// Lines of 76 characters that do not repeat soon.
fn attachment(size: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 1_u64;
    let mut out = Vec::with_capacity(size + 78);
    while out.len() < size {
        for _ in 0..76 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            out.push(ALPHABET[(state >> 58) as usize]);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}
