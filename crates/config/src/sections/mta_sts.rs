//! `[mta_sts]`: policies by which domains ask for TLS.

use std::path::{Path, PathBuf};

use merpati_plugin::options::{Located, Options};

/// `[mta_sts]` (RFC 8461)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaSts {
    /// `enabled`: whether policies are looked up, and heeded; default true.
    pub enabled: bool,
    /// `path`: where they are kept; default `mta-sts` in the state directory.
    pub path: PathBuf,
    /// `ca`: a PEM file of roots that policy hosts' certificates may chain to; default the
    /// public ones.
    pub ca: Option<Located<PathBuf>>,
    /// `port`: of policy hosts; default 443.
    pub port: u16,
}

impl MtaSts {
    pub(crate) fn read(options: Option<Options>, state_dir: &Path) -> Self {
        let default = Self { enabled: true, path: state_dir.join("mta-sts"), ca: None, port: 443 };
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let read = Self {
            enabled: reader.or("enabled", default.enabled),
            path: reader.or("path", default.path),
            ca: reader.optional("ca"),
            port: reader.ranged("port", 1..=u16::MAX, default.port),
        };
        let _ = reader.finish();
        read
    }
}
