//! `[log]` and `[admin]`: the process as its operator sees it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use merpati_plugin::options::{Found, FromOption, Invalid, Options};
use merpati_types::Secret;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromOption for LogFormat {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("text", Self::Text), ("json", Self::Json)])
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format = "text" | "json"`, default text.
    pub format: LogFormat,
    /// `level`: `error`, `warn`, `info`, `debug` or `trace`; default info.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

impl Log {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default = Self::default();
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let read = Self {
            format: reader.or("format", default.format),
            level: reader.optional::<Level>("level").map_or(default.level, |level| level.0.into()),
        };
        let _ = reader.finish();
        read
    }
}

struct Level(&'static str);

impl FromOption for Level {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
        found.choice(&levels).map(Self)
    }
}

/// `[admin]`: the admin API. The socket is always there; TCP only if it is configured.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `socket`: default `admin.sock` in the state directory.
    pub socket: PathBuf,
    /// `[admin.tcp]`: default none.
    pub tcp: Option<AdminTcp>,
}

/// `[admin.tcp]`
#[derive(Clone, Debug)]
pub struct AdminTcp {
    /// `address`: where to listen.
    pub address: SocketAddr,
    /// `token = { file = "…" }`: what a client shows as a bearer token.
    pub token: Secret<String>,
}

impl Admin {
    pub(crate) fn read(options: Option<Options>, state_dir: &Path) -> Self {
        let default = state_dir.join("admin.sock");
        let Some(options) = options else { return Self { socket: default, tcp: None } };
        let mut reader = options.reader();
        let read = Self {
            socket: reader.or("socket", default),
            tcp: reader.table("tcp").and_then(|tcp| AdminTcp::read(&tcp).ok()),
        };
        let _ = reader.finish();
        read
    }
}

impl AdminTcp {
    fn read(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let address = reader.required("address");
        let token = reader.required("token");
        reader.finish()?;
        Ok(Self { address: address?, token: token? })
    }
}
