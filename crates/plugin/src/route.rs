//! Where a parcel goes: the choice of a transport, for all of its recipients or for each.

use std::sync::Arc;

use async_trait::async_trait;
use merpati_types::{HeaderSection, Rejection};

use crate::decision::Failure;
use crate::deliver::Deliverer;
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
        /// The source pool that it goes out from, whatever was chosen when the message came;
        /// `None` leaves it at that.
        source_pool: Option<Arc<str>>,
    },
    /// It goes nowhere: the recipients fail with this reason.
    Refuse(Rejection),
}

/// Some recipients of a parcel, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Their places, ascending: some of [`Parcel::pending`].
    pub places: Vec<u32>,
    /// Where they go.
    pub route: Route,
}

/// Reads a message's header section, for routers that look at it.
#[async_trait]
pub trait Headers: Send + Sync {
    /// The header section, edits applied; `None` if there is no message yet, or none that has
    /// one.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be read now.
    async fn header(&self) -> Result<Option<HeaderSection>, Failure>;
}

/// There is no message: somebody asks where one would go.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

#[async_trait]
impl Headers for NoHeaders {
    async fn header(&self) -> Result<Option<HeaderSection>, Failure> {
        Ok(None)
    }
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

    /// The routes of a parcel's recipients, who have one domain and may yet part. Every pending
    /// one is in one branch. By default all go one way.
    ///
    /// # Errors
    /// [`Failure`] when one of them cannot be known now; the parcel is deferred.
    async fn branches(
        &self,
        parcel: &Parcel,
        _headers: &dyn Headers,
    ) -> Result<Vec<Branch>, Failure> {
        let route = self.route(parcel).await?;
        Ok(vec![Branch { places: parcel.pending.clone(), route }])
    }

    /// A transport that is not among the configured ones, and that a route of this router names.
    fn transport(&self, _name: &str) -> Option<Arc<dyn Deliverer>> {
        None
    }
}
