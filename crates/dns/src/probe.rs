//! Whether the servers hand DNSSEC through.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError as NetDnsError, NetError};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use crate::resolver::DnsError;

/// When to look again at servers that strip signatures, or whose signatures do not hold.
const AGAIN: Duration = Duration::from_secs(600);
/// When to look again at servers that did not answer.
const SOON: Duration = Duration::from_secs(30);

/// Whether answers are validated, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnssecState {
    /// Not wanted.
    Off,
    /// Signatures come through and hold up to the trust anchor.
    Validating,
    /// The servers have not answered yet, why. Answers are validated meanwhile: an attacker who
    /// drops packets gains nothing.
    Unknown(String),
    /// The servers do not hand signatures or proofs on, how so. Nothing is validated, and every
    /// answer is insecure; otherwise every signed domain would seem bogus.
    Stripped(String),
    /// Signatures come through and do not hold, why: the clock or the trust anchor is wrong, or
    /// somebody forges them. Answers are validated, and so every signed domain is bogus.
    Untrusted(String),
}

impl DnssecState {
    /// In one word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Validating => "validating",
            Self::Unknown(_) => "unknown",
            Self::Stripped(_) => "stripped",
            Self::Untrusted(_) => "untrusted",
        }
    }

    /// Why answers are not validated as they should, if so.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Off | Self::Validating => None,
            Self::Unknown(why) | Self::Stripped(why) | Self::Untrusted(why) => Some(why),
        }
    }

    /// When to look again, if that may change anything.
    pub(crate) fn again(&self) -> Option<Duration> {
        match self {
            // What once came through would only be given up for an attacker's sake.
            Self::Off | Self::Validating => None,
            Self::Unknown(_) => Some(SOON),
            Self::Stripped(_) | Self::Untrusted(_) => Some(AGAIN),
        }
    }
}

/// Keys that are trusted, and the zone they are of.
pub(crate) struct Anchor {
    pub(crate) keys: Arc<TrustAnchors>,
    pub(crate) zone: Name,
}

impl Anchor {
    /// Those in a file of DNSKEY records, or the root's.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, DnsError> {
        let Some(path) = path else {
            return Ok(Self { keys: Arc::new(TrustAnchors::default()), zone: Name::root() });
        };
        let wrong = |why: String| DnsError::TrustAnchor { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let entries = Parser::new(text.as_str()).parse();
        let entries = entries.map_err(|error| wrong(error.to_string()))?;
        let Some(Entry::DNSKEY(first)) = entries.first() else {
            return Err(wrong("it has no DNSKEY record".to_owned()));
        };
        let keys = text.parse().map_err(|error| wrong(format!("{error}")))?;
        Ok(Self { keys: Arc::new(keys), zone: first.name().clone() })
    }
}

/// Asks the servers without validating, with DO set.
pub(crate) struct Probe {
    pub(crate) pool: NameServerPool<TokioRuntimeProvider>,
    pub(crate) options: DnsRequestOptions,
    pub(crate) zone: Name,
    state: Mutex<DnssecState>,
}

impl Probe {
    pub(crate) fn new(
        servers: ResolverConfig,
        options: &ResolverOpts,
        zone: Name,
    ) -> Result<Self, DnsError> {
        let tls = TlsConfig::new().map_err(|error| DnsError::SetUp(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options.clone(), tls));
        let provider = TokioRuntimeProvider::default();
        let (_, _, servers) = servers.into_parts();
        let mut request = DnsRequestOptions::default();
        request.use_edns = true;
        request.edns_set_dnssec_ok = true;
        request.recursion_desired = true;
        Ok(Self {
            pool: NameServerPool::from_config(servers, context, provider),
            options: request,
            zone,
            state: Mutex::new(DnssecState::Unknown("nothing was asked yet".to_owned())),
        })
    }

    pub(crate) fn state(&self) -> DnssecState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, state: DnssecState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Why there is no use in validating: `Stripped`, or `Unknown` without an answer.
    pub(crate) async fn obstacle(&self) -> Result<(), DnssecState> {
        let zone = &self.zone;
        let keys = self.types(RecordType::DNSKEY).await?;
        if !keys.contains(&RecordType::RRSIG) {
            let why = format!("the keys of {zone} come without signatures");
            return Err(DnssecState::Stripped(why));
        }
        // No zone has such a record at its top: that is to be proven.
        let proof = self.types(RecordType::TLSA).await?;
        let denied = [RecordType::NSEC, RecordType::NSEC3, RecordType::TLSA];
        if !denied.iter().any(|kind| proof.contains(kind)) {
            let why = format!("what {zone} does not have comes without proof of absence");
            return Err(DnssecState::Stripped(why));
        }
        Ok(())
    }

    /// The types of all that comes when this is asked of the zone's top.
    async fn types(&self, kind: RecordType) -> Result<Vec<RecordType>, DnssecState> {
        let query = Query::query(self.zone.clone(), kind);
        match self.pool.lookup(query, self.options).first_answer().await {
            Ok(response) => {
                let all = response.answers.iter().chain(&response.authorities);
                Ok(all.map(|record| record.record_type()).collect())
            }
            Err(NetError::Dns(NetDnsError::NoRecordsFound(none))) => {
                let authorities = none.authorities.as_deref().unwrap_or_default();
                Ok(authorities.iter().map(|record| record.record_type()).collect())
            }
            Err(NetError::Dns(NetDnsError::ResponseCode(code)))
                if code != ResponseCode::ServFail =>
            {
                let why = format!("the servers do not answer for {kind} of {}: {code}", self.zone);
                Err(DnssecState::Stripped(why))
            }
            Err(error) => Err(DnssecState::Unknown(format!("{kind} of {}: {error}", self.zone))),
        }
    }
}
