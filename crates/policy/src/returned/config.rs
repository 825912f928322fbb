//! The options of `returned`.

use merpati_dsn::{Batv, Srs};
use merpati_plugin::options::{Found, FromOption, Invalid, Options};
use merpati_types::{Domain, Mailbox};

use crate::addresses::{Owners, Writes, read_batv, read_srs, read_verp};

/// What is taken back, and what is made of it.
#[derive(Debug)]
pub struct ReturnedConfig {
    pub(super) srs: Option<Srs>,
    pub(super) batv: Option<Signed>,
    pub(super) verp: Owners,
    pub(super) reports: Vec<Mailbox>,
    pub(super) keep: bool,
    pub(super) believe: Believe,
}

/// Whose senders are signed.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) domains: Vec<Domain>,
    pub(super) batv: Batv,
    pub(super) unsigned: Unsigned,
}

/// What happens to reports to addresses that should have been signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// Nothing.
    #[default]
    Accept,
    /// They are about mail that somebody has forged.
    Refuse,
}

/// Whose word puts addresses on the suppression list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Believe {
    /// Of those who know a signed address: they, or those whom they report for, have had mail of
    /// ours.
    #[default]
    Signed,
    /// Of everybody who can send mail.
    All,
}

impl FromOption for Unsigned {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("accept", Self::Accept), ("refuse", Self::Refuse)])
    }
}

impl FromOption for Believe {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        found.choice(&[("signed", Self::Signed), ("all", Self::All)])
    }
}

impl ReturnedConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let srs = reader.table("srs").and_then(|options| {
            let mut reader = options.reader();
            let srs = read_srs(&mut reader, Writes::No);
            reader.finish().and(srs).ok()
        });
        let batv = reader.table("batv").and_then(|options| {
            let mut reader = options.reader();
            let read = read_batv(&mut reader);
            let unsigned = reader.or("unsigned", Unsigned::default());
            let read = reader.finish().and(read);
            read.map(|(domains, batv)| Signed { domains, batv, unsigned }).ok()
        });
        let verp = reader.table("verp").and_then(|options| {
            let mut reader = options.reader();
            let owners = read_verp(&mut reader);
            reader.finish().and(owners).ok()
        });
        let config = Self {
            srs,
            batv,
            verp: verp.unwrap_or_default(),
            reports: reader.or("reports", Vec::new()),
            keep: reader.or("keep", true),
            believe: reader.or("believe", Believe::default()),
        };
        reader.finish()?;
        if config.srs.is_none()
            && config.batv.is_none()
            && config.verp.is_empty()
            && config.reports.is_empty()
        {
            let message = "nothing comes back: set `srs`, `batv`, `verp` or `reports`";
            return Err(options.reject(message));
        }
        Ok(config)
    }
}
