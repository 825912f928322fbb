//! Messages, no two of them alike.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

const LINE: &str = "The quick brown fox jumps over the lazy dog, and 1234567890 again.\r\n";

/// What all messages of a run have in common.
pub(super) struct Template {
    from: String,
    rcpt: String,
    /// Tells this run from all others.
    run: String,
    /// The body, so that a message comes to its size, and the final dot.
    body: Bytes,
}

/// One message, ready to be sent.
pub(super) struct Outgoing {
    pub(super) mail: String,
    pub(super) rcpt: String,
    /// Its header section.
    pub(super) head: String,
    /// The rest, and the final dot.
    pub(super) body: Bytes,
}

impl Template {
    pub(super) fn new(from: &str, rcpt: &str, size: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}.{:x}", since.as_nanos(), std::process::id());
        let mut template =
            Self { from: from.to_owned(), rcpt: rcpt.to_owned(), run, body: Bytes::new() };
        let rest = (size as usize).saturating_sub(template.head(u64::MAX).len());
        let mut body: Vec<u8> = LINE.bytes().cycle().take(rest.saturating_sub(2)).collect();
        body.extend(b"\r\n.\r\n");
        template.body = body.into();
        template
    }

    pub(super) fn message(&self, number: u64) -> Outgoing {
        let fill = |text: &str| text.replace("{n}", &number.to_string());
        Outgoing {
            mail: format!("MAIL FROM:<{}>\r\n", fill(&self.from)),
            rcpt: format!("RCPT TO:<{}>\r\n", fill(&self.rcpt)),
            head: self.head(number),
            body: self.body.clone(),
        }
    }

    fn head(&self, number: u64) -> String {
        let run = &self.run;
        format!(
            "Message-ID: <{number}.{run}@load.test>\r\nFrom: <{}>\r\nTo: <{}>\r\n\
             Subject: load {number}\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n",
            self.from.replace("{n}", "n"),
            self.rcpt.replace("{n}", "n"),
        )
    }
}
