//! Where a parcel goes: which transport, and whose limits it shares.
//!
//! Names may have to be looked up for that, so it happens beside the runner.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use merpati_plugin::spool::{Lease, Parcel};
use merpati_plugin::{Branch, Deliverer, Failure, Headers, Route, Spool, async_trait};
use merpati_types::{HeaderSection, Rejection, Status};

use super::branches::{Branches, Part, Way};
use super::{Due, How, Routing, RunnerParts};
use crate::header::header_section;
use crate::transports::sent_from;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A parcel whose way is known.
pub(super) struct Placed {
    pub(super) due: Due,
    pub(super) site: Arc<str>,
}

/// Finds a parcel's way. One that cannot be found now is a refusal to come, so that this has no
/// end but one with the parcel.
pub(super) async fn place(parts: Arc<RunnerParts>, lease: Lease, parcel: Parcel) -> Placed {
    // A plugin's panic is that plugin's failure.
    let found = AssertUnwindSafe(route(&parts, &parcel)).catch_unwind();
    let (how, site) = match tokio::time::timeout(LIMIT, found).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => {
            tracing::error!(id = %parcel.id, "the router broke down");
            unknown(&parcel)
        }
        Err(_) => {
            tracing::error!(id = %parcel.id, "the router does not answer");
            unknown(&parcel)
        }
    };
    Placed { due: Due { lease, parcel, how }, site }
}

async fn route(parts: &RunnerParts, parcel: &Parcel) -> (How, Arc<str>) {
    let routing = parts.routing.load_full();
    let message = Queued { spool: parts.spool.as_ref(), parcel };
    let mut branches = match routing.router.branches(parcel, &message).await {
        Ok(branches) => branches,
        Err(error) => {
            tracing::warn!(id = %parcel.id, %error, "cannot find a route");
            return unknown(parcel);
        }
    };
    let Some(last) = branches.pop() else { return unknown(parcel) };
    if branches.is_empty() {
        let site = site(&routing, parcel, &last.route).await;
        return match way(&routing, parcel, last.route) {
            Way::Deliver(transport) => (How::Deliver(transport), site),
            Way::Refuse(rejection) => (How::Refuse(rejection), site),
        };
    }
    branches.push(last);
    apart(&routing, parcel, branches).await
}

/// Recipients that go different ways. Their attempt is one, and counts at the site of the largest
/// part that has one.
async fn apart(routing: &Routing, parcel: &Parcel, branches: Vec<Branch>) -> (How, Arc<str>) {
    let leads = |branch: &&Branch| matches!(branch.route, Route::Transport { .. });
    let site = match branches.iter().filter(leads).max_by_key(|branch| branch.places.len()) {
        Some(branch) => site(routing, parcel, &branch.route).await,
        None => local(parcel),
    };
    let part = |Branch { places, route }| Part { places, way: way(routing, parcel, route) };
    let parts = branches.into_iter().map(part).collect();
    (How::Deliver(Arc::new(Branches::new(parts))), site)
}

fn way(routing: &Routing, parcel: &Parcel, route: Route) -> Way {
    match route {
        Route::Transport { name, source_pool, .. } => match routing.transport(&name) {
            Some(transport) => Way::Deliver(sent_from(transport, source_pool.as_deref())),
            None => {
                tracing::error!(id = %parcel.id, transport = %name, "no such transport");
                let text = "mail system is configured wrongly";
                Way::Refuse(Rejection::transient(Status::MISCONFIGURED, text))
            }
        },
        Route::Refuse(rejection) => Way::Refuse(rejection),
        _ => Way::Refuse(no_route()),
    }
}

async fn site(routing: &Routing, parcel: &Parcel, route: &Route) -> Arc<str> {
    let Route::Transport { name, .. } = route else { return local(parcel) };
    let Some(transport) = routing.transport(name) else { return local(parcel) };
    match transport.site(parcel).await {
        Ok(site) => format!("{name}:{site}").into(),
        Err(_) => format!("{name}:{}", parcel.next_hop).into(),
    }
}

impl Routing {
    /// The transport of this name: a configured one, or one that the router knows.
    #[must_use]
    pub fn transport(&self, name: &str) -> Option<Arc<dyn Deliverer>> {
        let configured = self.transports.get(name).cloned();
        configured.or_else(|| self.router.transport(name))
    }
}

/// A message that waits in the spool.
struct Queued<'a> {
    spool: &'a dyn Spool,
    parcel: &'a Parcel,
}

#[async_trait]
impl Headers for Queued<'_> {
    async fn header(&self) -> Result<Option<HeaderSection>, Failure> {
        let message = self.spool.message(self.parcel.id.message).await?;
        Ok(header_section(message.as_ref()).await?)
    }
}

fn unknown(parcel: &Parcel) -> (How, Arc<str>) {
    (How::Refuse(no_route()), local(parcel))
}

fn no_route() -> Rejection {
    Rejection::transient(Status::NO_ROUTE, "cannot find the route now")
}

/// The site of what goes nowhere.
fn local(parcel: &Parcel) -> Arc<str> {
    format!("local:{}", parcel.next_hop).into()
}
