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
        let fill = |text: &str| fill(text, number);
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

/// Puts a message's number in place of `{n}`, and what is left of it by 20 in place of `{n%20}`.
fn fill(text: &str, number: u64) -> String {
    let text = text.replace("{n}", &number.to_string());
    let Some((before, rest)) = text.split_once("{n%") else { return text };
    match rest.split_once('}').map(|(by, after)| (by.parse::<u64>(), after)) {
        Some((Ok(by), after)) if by > 0 => format!("{before}{}{after}", number % by),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn numbers_are_filled_in() {
        let check = |text: &str, expected: &str| assert_eq!(fill(text, 1_234), expected);
        check("user@sink.test", "user@sink.test");
        check("user{n}@d{n}.test", "user1234@d1234.test");
        check("user{n}@d{n%1000}.test", "user1234@d234.test");
        for text in ["d{n%0}.test", "d{n%x}.test", "d{n%10"] {
            check(text, text);
        }
    }
}
