//! `[tls_report]`: telling domains how TLS with them went.

use std::path::{Path, PathBuf};

use merpati_plugin::options::{Located, Options};
use merpati_types::Mailbox;

/// `[tls_report]` (RFC 8460); there are no reports without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsReport {
    /// `organization`: whose reports they are.
    pub organization: String,
    /// `contact`: how to reach those who can say more.
    pub contact: String,
    /// `from`: from whom they come by mail.
    pub from: Mailbox,
    /// `path`: where counts are kept; default `tls-report` in the state directory.
    pub path: PathBuf,
    /// `ca`: a PEM file of roots that the certificates of hosts which take reports may chain to;
    /// default the public ones.
    pub ca: Option<Located<PathBuf>>,
}

impl TlsReport {
    pub(crate) fn read(options: Option<Options>, state_dir: &Path) -> Option<Self> {
        let options = options?;
        let mut reader = options.reader();
        let organization = reader.required("organization");
        let contact = reader.required("contact");
        let from = reader.required("from");
        let path = reader.or("path", state_dir.join("tls-report"));
        let ca = reader.optional("ca");
        reader.finish().ok()?;
        Some(Self {
            organization: organization.ok()?,
            contact: contact.ok()?,
            from: from.ok()?,
            path,
            ca,
        })
    }
}
