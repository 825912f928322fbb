//! What a server says it can do, after EHLO or LHLO.

use std::collections::BTreeMap;

use merpati_types::{Reply, ReplyCode, Timestamp};

use crate::schedule::{Moment, seconds};

/// The extensions that a server offers (RFC 5321 §4.1.1.1).
///
/// The default offers nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `PIPELINING` (RFC 2920).
    pub pipelining: bool,
    /// `SIZE [octets]` (RFC 1870).
    pub size: Option<SizeLimit>,
    /// `8BITMIME` (RFC 6152).
    pub eight_bit_mime: bool,
    /// `BINARYMIME` (RFC 3030).
    pub binary_mime: bool,
    /// `CHUNKING` (RFC 3030).
    pub chunking: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    pub enhanced_status_codes: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `STARTTLS` (RFC 3207).
    pub starttls: bool,
    /// `REQUIRETLS` (RFC 8689).
    pub requiretls: bool,
    /// `LIMITS` (RFC 9422).
    pub limits: Option<Limits>,
    /// `FUTURERELEASE interval date-time` (RFC 4865 §4.1).
    pub future_release: Option<FutureRelease>,
    /// `DELIVERBY [seconds]` (RFC 2852 §3): the least time that a deadline with return may leave;
    /// 0 if none is stated.
    pub deliver_by: Option<u32>,
    /// `MT-PRIORITY [profile]` (RFC 6710 §4): the name of the profile, as given; empty if none is
    /// stated.
    pub mt_priority: Option<String>,
    /// `AUTH mechanisms` (RFC 4954), in upper case, in the server's order, without repetitions. The
    /// older spelling `AUTH=` is read too.
    pub auth: Vec<String>,
    /// `XCLIENT attributes`, in upper case.
    pub xclient: Vec<String>,
    /// `XFORWARD attributes`, in upper case.
    pub xforward: Vec<String>,
    /// Every other keyword, in upper case, with its parameters as given.
    pub other: BTreeMap<String, String>,
}

/// The parameter of SIZE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeLimit {
    /// None, or 0: the server has no fixed limit (RFC 1870 §4).
    Unstated,
    /// Messages of up to so many octets, which is not 0. What exceeds 64 bits is `u64::MAX`.
    Octets(u64),
}

/// The parameters of FUTURERELEASE: how far ahead a message may be handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureRelease {
    /// The longest hold, in seconds, 1 to 999,999,999.
    pub longest: u32,
    /// The latest moment a hold may end.
    pub latest: Timestamp,
}

/// The parameters of LIMITS (RFC 9422 §4); each is 1 to 999,999. Unknown ones are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MAILMAX`: most transactions in a session.
    pub mail_max: Option<u32>,
    /// `RCPTMAX`: most recipients in a transaction.
    pub rcpt_max: Option<u32>,
    /// `RCPTDOMAINMAX`: most recipient domains in a transaction.
    pub rcpt_domain_max: Option<u32>,
}

impl Capabilities {
    /// Reads the reply to EHLO or LHLO. Its first line is the greeting and offers nothing.
    ///
    /// What is malformed is as if it had not been said: a client does without an extension rather
    /// than without the server.
    pub fn from_reply(reply: &Reply) -> Self {
        let mut read = Capabilities::default();
        for line in reply.lines().iter().skip(1) {
            read.add(line);
        }
        read
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let keyword = keyword.to_ascii_uppercase();
        match &*keyword {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(size_limit(words.next())),
            "8BITMIME" => self.eight_bit_mime = true,
            "BINARYMIME" => self.binary_mime = true,
            "CHUNKING" => self.chunking = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "REQUIRETLS" => self.requiretls = true,
            "FUTURERELEASE" => self.future_release = FutureRelease::parse(words),
            "DELIVERBY" => self.deliver_by = words.next().map_or(Some(0), seconds),
            "MT-PRIORITY" => {
                self.mt_priority = Some(words.next().unwrap_or_default().to_owned());
            }
            "LIMITS" => self.limits = Some(Limits::parse(words)),
            "AUTH" => add_names(&mut self.auth, words),
            "XCLIENT" => add_names(&mut self.xclient, words),
            "XFORWARD" => add_names(&mut self.xforward, words),
            other => match other.strip_prefix("AUTH=") {
                Some(first) => {
                    add_names(&mut self.auth, Some(first).into_iter().chain(words));
                }
                None => {
                    let parameters = words.collect::<Vec<_>>().join(" ");
                    self.other.insert(keyword, parameters);
                }
            },
        }
    }

    /// The lines that offer this, one keyword each, without greeting and code.
    pub fn lines(&self) -> Vec<String> {
        let flags = [
            (self.pipelining, "PIPELINING"),
            (self.eight_bit_mime, "8BITMIME"),
            (self.binary_mime, "BINARYMIME"),
            (self.chunking, "CHUNKING"),
            (self.smtputf8, "SMTPUTF8"),
            (self.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (self.dsn, "DSN"),
            (self.starttls, "STARTTLS"),
            (self.requiretls, "REQUIRETLS"),
        ];
        let mut lines: Vec<String> = flags
            .into_iter()
            .filter(|(offered, _)| *offered)
            .map(|(_, keyword)| keyword.to_owned())
            .collect();
        match self.size {
            Some(SizeLimit::Octets(octets)) => lines.push(format!("SIZE {octets}")),
            Some(SizeLimit::Unstated) => lines.push("SIZE".to_owned()),
            None => {}
        }
        if let Some(limits) = &self.limits {
            lines.push(limits.line());
        }
        if let Some(FutureRelease { longest, latest }) = &self.future_release {
            lines.push(format!("FUTURERELEASE {longest} {}", Moment(*latest)));
        }
        match self.deliver_by {
            Some(0) => lines.push("DELIVERBY".to_owned()),
            Some(least) => lines.push(format!("DELIVERBY {least}")),
            None => {}
        }
        match self.mt_priority.as_deref() {
            Some("") => lines.push("MT-PRIORITY".to_owned()),
            Some(profile) => lines.push(format!("MT-PRIORITY {profile}")),
            None => {}
        }
        for (keyword, names) in
            [("AUTH", &self.auth), ("XCLIENT", &self.xclient), ("XFORWARD", &self.xforward)]
        {
            if !names.is_empty() {
                lines.push(format!("{keyword} {}", names.join(" ")));
            }
        }
        for (keyword, parameters) in &self.other {
            lines.push(if parameters.is_empty() {
                keyword.clone()
            } else {
                format!("{keyword} {parameters}")
            });
        }
        lines
    }

    /// The reply to EHLO or LHLO: `greeting`, which begins with the server's name, and the lines.
    pub fn to_reply(&self, greeting: &str) -> Reply {
        const OK: ReplyCode = ReplyCode::new(250).expect("a reply code");
        let lines = self.lines();
        let all = std::iter::once(greeting).chain(lines.iter().map(String::as_str));
        Reply::with_lines(OK, None, all)
    }

    /// Whether AUTH offers this mechanism, given in upper case.
    pub fn offers_auth(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered == mechanism)
    }
}

impl FutureRelease {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let longest = words.next().and_then(seconds).filter(|&longest| longest > 0)?;
        let latest = words.next()?.parse().ok()?;
        Some(Self { longest, latest })
    }
}

impl Limits {
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut limits = Limits::default();
        for word in words {
            let Some((name, value)) = word.split_once('=') else { continue };
            let slot = match &*name.to_ascii_uppercase() {
                "MAILMAX" => &mut limits.mail_max,
                "RCPTMAX" => &mut limits.rcpt_max,
                "RCPTDOMAINMAX" => &mut limits.rcpt_domain_max,
                _ => continue,
            };
            // RFC 9422 §4: one to six digits, not 0 at the beginning.
            let valid = (1..=6).contains(&value.len())
                && value.bytes().all(|octet| octet.is_ascii_digit())
                && !value.starts_with('0');
            *slot = valid.then(|| value.parse().ok()).flatten();
        }
        limits
    }

    fn line(&self) -> String {
        let mut line = "LIMITS".to_owned();
        for (name, value) in [
            ("MAILMAX", self.mail_max),
            ("RCPTMAX", self.rcpt_max),
            ("RCPTDOMAINMAX", self.rcpt_domain_max),
        ] {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        line
    }
}

fn size_limit(word: Option<&str>) -> SizeLimit {
    match word.and_then(crate::command::decimal) {
        None | Some(0) => SizeLimit::Unstated,
        Some(octets) => SizeLimit::Octets(octets),
    }
}

fn add_names<'a>(names: &mut Vec<String>, words: impl Iterator<Item = &'a str>) {
    for word in words {
        let name = word.to_ascii_uppercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
}

#[cfg(test)]
mod tests;
