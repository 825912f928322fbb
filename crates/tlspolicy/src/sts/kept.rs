//! Policies that survive a restart.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use merpati_journal::OsDisk;
use merpati_ledger::{Change, Ledger, Limits};
use merpati_route::mta_sts::CachedPolicy;
use merpati_types::Domain;

use super::StsError;

/// Octets of policies that are kept: some thousands of the longest, many more of the usual.
const LIMITS: Limits = Limits { facts: 32 << 20, segment: 1 << 20 };

pub(super) struct Kept(Mutex<Ledger>);

impl Kept {
    /// Opens a directory; answers what is in it. What cannot be read is left out: it is fetched
    /// again.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<(Domain, CachedPolicy)>), StsError> {
        let place = || directory.display().to_string();
        let io = |reason| StsError::Io { directory: place(), reason };
        std::fs::create_dir_all(directory).map_err(io)?;
        let disk = Arc::new(OsDisk::open(directory).map_err(io)?);
        let (ledger, recovery) = Ledger::open(disk, LIMITS)
            .map_err(|reason| StsError::Directory { directory: place(), reason })?;
        for damage in &recovery.damage {
            tracing::warn!(directory = place(), ?damage, "an MTA-STS policy cannot be read");
        }
        let read = |(key, value): (&[u8], &[u8])| {
            let domain = Domain::parse(std::str::from_utf8(key).ok()?).ok()?;
            match CachedPolicy::from_bytes(value) {
                Ok(cached) => Some((domain, cached)),
                Err(error) => {
                    tracing::warn!(%domain, %error, "an MTA-STS policy is fetched again");
                    None
                }
            }
        };
        let policies = ledger.with_prefix(b"").filter_map(read).collect();
        Ok((Self(Mutex::new(ledger)), policies))
    }

    /// Keeps a policy. Where the disk does not take it, it counts until a restart.
    pub(super) async fn keep(self: &Arc<Self>, domain: &Domain, cached: &CachedPolicy) {
        let key = Bytes::copy_from_slice(domain.as_ascii().as_bytes());
        let change = Change::put(key, cached.to_bytes());
        let kept = Arc::clone(self);
        let commit = move || {
            let mut ledger = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.commit(&[change])
        };
        match tokio::task::spawn_blocking(commit).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%domain, %error, "cannot keep an MTA-STS policy"),
            Err(error) => tracing::error!(%domain, %error, "cannot keep an MTA-STS policy"),
        }
    }
}
