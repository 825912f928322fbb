//! TLS reports: sessions counted, and reports sent beside everything else.

use std::path::PathBuf;
use std::sync::Arc;

use merpati_config::RoleConfig;
use merpati_dns::HickoryResolver;
use merpati_http::Client;
use merpati_plugin::Spool;
use merpati_plugin::options::Errors;
use merpati_tlspolicy::{ReportSettings, Reporter, Results, ResultsSlot};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::Fatal;
use crate::compose::http_client;
use crate::serve::system_time;

/// How results come in, and reports go out.
pub(crate) struct TlsReports {
    /// Connected with the counts once they are open.
    pub(crate) slot: ResultsSlot,
    client: Client,
    path: PathBuf,
    settings: ReportSettings,
}

pub(crate) fn prepare(
    config: &RoleConfig,
    resolver: &HickoryResolver,
    errors: &Errors,
) -> Option<TlsReports> {
    let section = config.tls_report.as_ref()?;
    let client = http_client(section.ca.as_ref(), resolver, errors)?;
    let settings = ReportSettings {
        organization: section.organization.clone(),
        contact: section.contact.clone(),
        from: section.from.clone(),
        submitter: config.hostname.clone(),
    };
    Some(TlsReports { slot: ResultsSlot::default(), client, path: section.path.clone(), settings })
}

impl TlsReports {
    /// Opens the counts; from here on sessions are counted.
    pub(crate) fn open(&self) -> Result<Results, Fatal> {
        let results = Results::open(&self.path, system_time)
            .map_err(|error| Fatal::Refused(format!("TLS reports: {error}")))?;
        self.slot.connect(results.clone());
        Ok(results)
    }
}

/// Sends reports, if there are any to be, until told to stop.
pub(crate) fn report(
    (reports, results): (Option<TlsReports>, Option<Results>),
    resolver: &HickoryResolver,
    spool: &Arc<dyn Spool>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let reporter = reports.zip(results).map(|(TlsReports { client, settings, .. }, results)| {
        let resolver = Arc::new(resolver.clone());
        Reporter::new(results, resolver, client, Arc::clone(spool), settings)
    });
    tokio::spawn(async {
        if let Some(reporter) = reporter {
            reporter.run(stop).await;
        }
    })
}
