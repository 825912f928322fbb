//! Where a parcel goes: the choice of a transport.

use std::sync::Arc;

use async_trait::async_trait;
use merpati_types::Rejection;

use crate::decision::Failure;
use crate::spool::Parcel;

/// Where a parcel goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Hand it to the [`crate::Deliverer`] of this name.
    Transport {
        /// The transport's configured name; `mx` finds the destination through the DNS.
        name: Arc<str>,
        /// Which rule chose it, for `explain`.
        why: Arc<str>,
    },
    /// It goes nowhere: the recipients fail with this reason.
    Refuse(Rejection),
}

/// Chooses a transport for a parcel. Asked at every attempt, so that a changed configuration
/// also moves mail that is queued already.
#[async_trait]
pub trait Router: Send + Sync {
    /// The route of a parcel.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be known now; the parcel is deferred.
    async fn route(&self, parcel: &Parcel) -> Result<Route, Failure>;
}
