//! Whom a rule is for.

use std::str::FromStr;
use std::sync::Arc;

use merpati_plugin::spool::{LISTENER_TAG, Parcel};
use merpati_plugin::table::{TableError, lookup_address};
use merpati_plugin::{Failure, Headers, Table};
use merpati_types::{Domain, HeaderSection, Host, Mailbox, Recipient, ReversePath};

/// Parent domains that a table is asked for, counted from the top.
const PARENTS: usize = 8;
/// How the null reverse path is written.
const NULL: &str = "<>";

/// One condition.
#[derive(Clone)]
pub enum Condition {
    /// Of something that is a text.
    Is(Subject, Match),
    /// A field of the header section, unfolded; one of those of the name must match.
    Header {
        /// The field's name.
        name: String,
        /// What its value is.
        matches: Match,
    },
    /// The message has more octets than this.
    LargerThan(u64),
    /// The message has fewer octets than this.
    SmallerThan(u64),
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A recipient's address.
    Recipient,
    /// The recipients' domain.
    Domain,
    /// The sender's address; `<>` for reports.
    Sender,
    /// The sender's domain.
    SenderDomain,
    /// The account that the client has proved.
    User,
    /// The listener that took the message.
    Listener,
}

/// What is asked for.
#[derive(Clone)]
pub enum Match {
    /// One of these fits.
    Patterns(Vec<Pattern>),
    /// The table has a row.
    Table(Arc<dyn Table>),
}

/// A text in which `*` is for any characters and `?` for one; letter case does not count.
/// `.example.org` is for all that is below it, as `*.example.org` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl FromStr for Pattern {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let star = if text.starts_with('.') { "*" } else { "" };
        let (local, domain) = match text.rsplit_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, text),
        };
        // What is no domain, or has a wildcard, is compared as it stands.
        let domain = Domain::parse(domain).map_or(domain.to_owned(), |d| d.as_ascii().to_owned());
        let whole = match local {
            Some(local) => format!("{local}@{domain}"),
            None => domain,
        };
        Ok(Self(format!("{star}{whole}").to_lowercase().chars().collect()))
    }
}

impl Pattern {
    /// Whether it fits a text.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let pattern = &self.0;
        let (mut at, mut here) = (0, 0);
        // The last star, and where in the text it ends at least: going back there is enough.
        let mut star: Option<(usize, usize)> = None;
        while here < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, here));
                    at += 1;
                }
                Some(&c) if c == '?' || c == text[here] => (at, here) = (at + 1, here + 1),
                _ => match star {
                    Some((place, end)) => {
                        star = Some((place, end + 1));
                        (at, here) = (place + 1, end + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|&c| c == '*')
    }
}

/// What is asked about, and what has been found out of it.
pub(super) struct Asked<'a> {
    pub(super) parcel: &'a Parcel,
    headers: &'a dyn Headers,
    header: Option<Option<HeaderSection>>,
}

/// Whether a condition holds.
pub(super) enum Held {
    No,
    Yes,
    /// And this is what its table says.
    Row(String),
}

/// Why that is not known.
pub(super) enum Unknown {
    Table(TableError),
    Header(Failure),
}

impl Unknown {
    /// The same, with the rule that asked.
    pub(super) fn within(self, rule: &Arc<str>) -> Failure {
        match self {
            Self::Table(source) => {
                super::RouteError::Table { rule: Arc::clone(rule), source }.into()
            }
            Self::Header(failure) => failure,
        }
    }
}

impl From<TableError> for Unknown {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl<'a> Asked<'a> {
    pub(super) fn new(parcel: &'a Parcel, headers: &'a dyn Headers) -> Self {
        Self { parcel, headers, header: None }
    }

    async fn header(&mut self) -> Result<Option<&HeaderSection>, Unknown> {
        if self.header.is_none() {
            self.header = Some(self.headers.header().await.map_err(Unknown::Header)?);
        }
        Ok(self.header.as_ref().and_then(Option::as_ref))
    }
}

impl Condition {
    /// Whether it may differ between the recipients of a parcel.
    pub(super) fn is_of_recipient(&self) -> bool {
        matches!(self, Self::Is(Subject::Recipient, _))
    }

    /// What costs less is asked first.
    pub(super) fn cost(&self) -> u8 {
        match self {
            Self::LargerThan(_) | Self::SmallerThan(_) => 0,
            Self::Is(_, Match::Patterns(_)) => 1,
            Self::Is(_, Match::Table(_)) => 2,
            Self::Header { .. } => 3,
        }
    }

    pub(super) async fn holds(
        &self,
        asked: &mut Asked<'_>,
        recipient: Option<&Recipient>,
    ) -> Result<Held, Unknown> {
        let info = &asked.parcel.info;
        match self {
            Self::LargerThan(size) => Ok(yes(info.size > *size)),
            Self::SmallerThan(size) => Ok(yes(info.size < *size)),
            Self::Header { name, matches } => {
                let Some(header) = asked.header().await? else { return Ok(Held::No) };
                let values: Vec<_> =
                    header.named(name).map(|field| field.unfolded().trim().to_owned()).collect();
                for value in values {
                    let held = matches.text(&value).await?;
                    if !matches!(held, Held::No) {
                        return Ok(held);
                    }
                }
                Ok(Held::No)
            }
            Self::Is(subject, matches) => {
                let message = &info.message;
                let sender = message.envelope.sender.mailbox();
                match subject {
                    Subject::Recipient => match recipient {
                        Some(recipient) => matches.mailbox(&recipient.address).await,
                        None => Ok(Held::No),
                    },
                    Subject::Domain => matches.host(asked.parcel.next_hop.as_str()).await,
                    Subject::Sender => match &message.envelope.sender {
                        ReversePath::Mailbox(sender) => matches.mailbox(sender).await,
                        ReversePath::Null => matches.text(NULL).await,
                    },
                    Subject::SenderDomain => match sender.map(|sender| ascii(sender.host())) {
                        Some(host) => matches.host(&host).await,
                        None => Ok(Held::No),
                    },
                    Subject::User => matches.maybe(message.origin.account.as_deref()).await,
                    Subject::Listener => {
                        let listener = message.attributes.tags.get(LISTENER_TAG);
                        matches.maybe(listener.map(String::as_str)).await
                    }
                }
            }
        }
    }
}

impl Match {
    async fn mailbox(&self, mailbox: &Mailbox) -> Result<Held, Unknown> {
        match self {
            Self::Patterns(_) => {
                let address = format!("{}@{}", mailbox.local(), ascii(mailbox.host()));
                self.text(&address).await
            }
            Self::Table(table) => {
                let hit = lookup_address(table.as_ref(), mailbox).await?;
                Ok(hit.map_or(Held::No, |hit| Held::Row(hit.value)))
            }
        }
    }

    /// A domain in its A-label form, or an address literal.
    async fn host(&self, host: &str) -> Result<Held, Unknown> {
        let Self::Table(table) = self else { return self.text(host).await };
        let mut keys = vec![host.to_owned()];
        if table.knows_parts() && !host.starts_with('[') {
            let parents: Vec<_> =
                host.match_indices('.').map(|(dot, _)| host[dot..].to_owned()).collect();
            keys.extend(parents.into_iter().rev().take(PARENTS).rev());
        }
        for key in keys {
            if let Some(value) = table.find(&key).await? {
                return Ok(Held::Row(value));
            }
        }
        Ok(Held::No)
    }

    async fn maybe(&self, text: Option<&str>) -> Result<Held, Unknown> {
        match text {
            Some(text) => self.text(text).await,
            None => Ok(Held::No),
        }
    }

    async fn text(&self, text: &str) -> Result<Held, Unknown> {
        match self {
            Self::Patterns(patterns) => Ok(yes(patterns.iter().any(|pattern| pattern.fits(text)))),
            Self::Table(table) => Ok(table.find(text).await?.map_or(Held::No, Held::Row)),
        }
    }
}

fn yes(holds: bool) -> Held {
    if holds { Held::Yes } else { Held::No }
}

fn ascii(host: &Host) -> String {
    match host {
        Host::Domain(domain) => domain.as_ascii().to_owned(),
        literal @ Host::Literal(_) => literal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_shells_have_it() {
        let check = |pattern: &str, fits: &str, not: &str| {
            let parsed: Pattern = pattern.parse().unwrap();
            for text in fits.split(' ').filter(|text| !text.is_empty()) {
                assert!(parsed.fits(text), "{pattern} {text}");
            }
            for text in not.split(' ').filter(|text| !text.is_empty()) {
                assert!(!parsed.fits(text), "{pattern} {text}");
            }
        };
        check("example.org", "example.org EXAMPLE.org", "a.example.org example.orgx");
        check("*.example.org", "a.example.org a.b.example.org", "example.org xexample.org");
        check(".example.org", "a.example.org a.b.example.org", "example.org");
        check("*@example.org", "a@example.org a+b@EXAMPLE.org", "a@b.example.org");
        check("post?@*", "posta@x postb@y.test", "post@x postab@x");
        check("*", "a a@b <>", "");
        check("<>", "<>", "a@b");
        check("*a*b*c", "abc xaxbxc aabbcc abcabc", "acb ab abcx");
        check("b\u{fc}cher.example", "xn--bcher-kva.example", "bcher.example");
        check("J\u{f6}rg@b\u{fc}cher.example", "j\u{f6}rg@xn--bcher-kva.example", "");
        // Going back to the last star is enough, however many there are.
        let many = "*a".repeat(20) + "b";
        check(&many, "", &"a".repeat(5_000));
    }
}
