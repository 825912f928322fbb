//! What is asked, and what came back.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use merpati_plugin::BodyReader;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Fetch.
    Get,
    /// Hand over.
    Post,
}

/// What is handed over.
pub enum Body {
    /// Nothing.
    Nothing,
    /// These octets.
    Bytes(Bytes),
    /// What is read, piece by piece.
    Stream {
        /// How many octets that is.
        length: u64,
        /// Where they come from.
        reader: Box<dyn BodyReader>,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Bytes(bytes) => write!(f, "Bytes({} octets)", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length} octets)"),
        }
    }
}

/// A request. Headers do not show in `Debug`: they may hold secrets.
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// `https://host[:port]/path?query`.
    pub url: String,
    /// Beside `Host`, `User-Agent`, `Content-Length` and `Connection`, which are ours.
    pub headers: Vec<(String, String)>,
    /// What is handed over.
    pub body: Body,
}

impl Request {
    /// Fetches `url`.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::Get, url: url.into(), headers: Vec::new(), body: Body::Nothing }
    }

    /// Hands `body` over to `url`.
    #[must_use]
    pub fn post(url: impl Into<String>, body: Body) -> Self {
        Self { method: Method::Post, url: url.into(), headers: Vec::new(), body }
    }

    /// The same, with a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, body, .. } = self;
        f.debug_struct("Request")
            .field("method", method)
            .field("url", url)
            .field("body", body)
            .finish_non_exhaustive()
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the look-up of the host to the last octet of the answer; a minute by default.
    pub time: Duration,
    /// Octets of the answer's body; 64 KiB by default.
    pub body: usize,
    /// Whether a longer body is cut off there rather than an error, for answers whose status is
    /// what matters; by default it is not.
    pub cut: bool,
    /// Whether `http:` will do; by default it does not.
    pub plain: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), body: 64 << 10, cut: false, plain: false }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status: 200 is success.
    pub status: u16,
    /// Its headers, names in lower case; values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// Its body, whole.
    pub body: Bytes,
}

impl Response {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}
