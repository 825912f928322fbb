//! Where a parcel goes: which transport, and whose limits it shares.
//!
//! Names may have to be looked up for that, so it happens beside the runner.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use merpati_plugin::Route;
use merpati_plugin::spool::{Lease, Parcel};
use merpati_types::{Rejection, Status};

use super::{Due, How, RunnerParts};

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
    match routing.router.route(parcel).await {
        Ok(Route::Transport { name, .. }) => match routing.transports.get(&name) {
            Some(transport) => {
                let site = match transport.site(parcel).await {
                    Ok(site) => site,
                    Err(_) => parcel.next_hop.as_str().into(),
                };
                (How::Deliver(Arc::clone(transport)), format!("{name}:{site}").into())
            }
            None => {
                tracing::error!(id = %parcel.id, transport = %name, "no such transport");
                let text = "mail system is configured wrongly";
                (How::Refuse(Rejection::transient(Status::MISCONFIGURED, text)), local(parcel))
            }
        },
        Ok(Route::Refuse(rejection)) => (How::Refuse(rejection), local(parcel)),
        Ok(_) | Err(_) => unknown(parcel),
    }
}

fn unknown(parcel: &Parcel) -> (How, Arc<str>) {
    let text = "cannot find the route now";
    (How::Refuse(Rejection::transient(Status::NO_ROUTE, text)), local(parcel))
}

/// The site of what goes nowhere.
fn local(parcel: &Parcel) -> Arc<str> {
    format!("local:{}", parcel.next_hop).into()
}
