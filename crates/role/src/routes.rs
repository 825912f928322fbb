//! Where mail goes: the rules of a configuration, its table, and the transports they lead to.

use std::sync::Arc;

use merpati_config::RoleConfig;
use merpati_deliver::routes::routes;
use merpati_deliver::{Discard, Surroundings, TransportTable, Transports};
use merpati_plugin::Router;
use merpati_plugin::options::Invalid;

/// The router: `[[route]]`, then `otherwise`. What rules name is among `transports` afterwards.
pub(crate) fn router(
    config: &RoleConfig,
    around: &Surroundings,
    transports: &mut Transports,
    otherwise: TransportTable,
) -> Result<Arc<dyn Router>, Invalid> {
    transports.entry("discard".into()).or_insert_with(|| Arc::new(Discard));
    Ok(Arc::new(routes(&config.routes, around, transports, otherwise)?))
}

#[cfg(test)]
mod tests;
