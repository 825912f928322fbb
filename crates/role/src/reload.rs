//! SIGHUP: configuration and certificates are read again, for connections and attempts to come.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use merpati_deliver::Routing;
use merpati_dns::HickoryResolver;
use merpati_plugin::{Observers, Spool};
use merpati_policy::quota::Usage;
use merpati_policy::suppression::Suppression;
use merpati_server::Service;
use merpati_tlspolicy::{Results, StsStore};

use crate::cli;
use crate::role::Role;

/// What a reload replaces.
pub(crate) struct Reloadable {
    pub(crate) role: Role,
    pub(crate) path: PathBuf,
    pub(crate) services: Vec<Arc<ArcSwap<Service>>>,
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    /// What health asks whether answers are validated.
    pub(crate) resolver: Arc<ArcSwap<HickoryResolver>>,
    /// What readiness asks whether the queue is at its bound.
    pub(crate) usage: Arc<ArcSwap<Usage>>,
    /// The list that is open.
    pub(crate) suppression: Option<Suppression>,
    /// The policies that are open.
    pub(crate) policies: Option<StsStore>,
    /// The counts that are open.
    pub(crate) results: Option<Results>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) observers: Observers,
}

impl Reloadable {
    /// Reads everything again; on a mistake all stays as it is, and the log says why.
    pub(crate) fn reload(&self) {
        let composed = match cli::read(&self.role, &self.path) {
            Ok(composed) => composed,
            Err(error) => {
                tracing::error!(%error, "configuration not reloaded");
                return;
            }
        };
        if composed.config.listeners.len() != self.services.len() {
            tracing::error!("configuration not reloaded: listeners change with a restart only");
            return;
        }
        let list = self.suppression.as_ref().and_then(|list| list.list().ok());
        match (&composed.suppression, list) {
            (Some(suppression), Some(list)) => suppression.connect(list.clone()),
            (None, _) => {}
            (Some(_), None) => {
                tracing::error!("configuration not reloaded: [suppression] begins with a restart");
                return;
            }
        }
        match (&composed.sts, &self.policies) {
            (Some(sts), Some(policies)) => sts.slot.connect(policies.clone()),
            (None, _) => {}
            (Some(_), None) => {
                tracing::error!("configuration not reloaded: [mta_sts] begins with a restart");
                return;
            }
        }
        match (&composed.tls_reports, &self.results) {
            (Some(reports), Some(results)) => reports.slot.connect(results.clone()),
            (None, _) => {}
            (Some(_), None) => {
                tracing::error!("configuration not reloaded: [tls_report] begins with a restart");
                return;
            }
        }
        match composed.services(&self.spool, &self.observers) {
            Ok(services) => {
                for (slot, service) in self.services.iter().zip(services) {
                    slot.store(service);
                }
                self.usage.store(Arc::new(composed.usage));
                self.routing.store(Arc::new(composed.routing));
                tokio::spawn(composed.resolver.watch_dnssec());
                self.resolver.store(Arc::new(composed.resolver));
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::error!(%error, "configuration not reloaded"),
        }
    }
}
