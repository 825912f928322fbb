//! A role's file, typed.

use std::path::PathBuf;

use merpati_plugin::options::{Located, Options};
use merpati_types::Domain;

use crate::sections::{
    Admin, Deliver, Destination, Dns, Limits, Listen, Log, MtaSts, Plugin, Report, Source,
    SourcePool, Spool, Suppression, Table, Tls, TlsReport, Transport, source,
};

/// The configuration of a role.
#[derive(Clone, Debug)]
pub struct RoleConfig {
    /// `hostname`: our name in greetings, traces and reports. Needed.
    pub hostname: Domain,
    /// `state_dir`: the directory that is ours to write: spool, admin socket. Needed.
    pub state_dir: Located<PathBuf>,
    /// `user`: whom to become once the sockets are bound; needed when started as root.
    pub user: Option<Located<String>>,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[tls]`
    pub tls: Tls,
    /// `[[listen]]`, at least one.
    pub listeners: Vec<Listen>,
    /// `[limits]`
    pub limits: Limits,
    /// `[[table]]`: where other sections can look something up.
    pub tables: Vec<Table>,
    /// `[[policy]]`: the chain, in order.
    pub policies: Vec<Plugin>,
    /// `[[outbound]]`: who has a say in deliveries, in order.
    pub outbound: Vec<Plugin>,
    /// `[auth]`: who knows users.
    pub auth: Option<Plugin>,
    /// `[spool]`
    pub spool: Spool,
    /// `[dns]`
    pub dns: Dns,
    /// `[deliver]`
    pub deliver: Deliver,
    /// `[[source]]`: where mail can be sent from.
    pub sources: Vec<Source>,
    /// `[[source_pool]]`: sources between which messages are shared.
    pub source_pools: Vec<SourcePool>,
    /// `[report]`
    pub report: Report,
    /// `[mta_sts]`: policies by which domains ask for TLS.
    pub mta_sts: MtaSts,
    /// `[tls_report]`: telling domains how TLS with them went.
    pub tls_report: Option<TlsReport>,
    /// `[suppression]`: whom never to write to.
    pub suppression: Option<Suppression>,
    /// `[[destination]]`: the closest pattern counts.
    pub destinations: Vec<Destination>,
    /// `[[route]]`: rules in order, asked before `[[transport]]`.
    pub routes: Vec<Options>,
    /// `[[transport]]`: the closest pattern counts; what matches none goes by MX.
    pub transports: Vec<Transport>,
}

impl RoleConfig {
    /// Reads the whole file. What is wrong is recorded in the options' errors, and a stand-in
    /// takes its place, so that the owners of the sections can go on and check theirs: nothing
    /// may be served while there are errors.
    #[must_use]
    pub fn read(options: &Options) -> Self {
        let mut reader = options.reader();
        let hostname = reader.required("hostname");
        let state_dir = reader
            .required("state_dir")
            .unwrap_or_else(|_| Located { value: PathBuf::new(), place: options.place().clone() });
        let tls = Tls::read(reader.table("tls"));
        let listen = reader.tables("listen");
        if listen.is_empty() {
            reader.reject("listen", "there is no [[listen]] section");
        }
        let (sources, pools) = (reader.tables("source"), reader.tables("source_pool"));
        let sections = sources.len() + pools.len();
        let read = Self {
            hostname: hostname.unwrap_or_else(|_| stand_in()),
            user: reader.optional("user"),
            log: Log::read(reader.table("log")),
            admin: Admin::read(reader.table("admin"), &state_dir.value),
            listeners: listen.iter().filter_map(|o| Listen::read(o, &tls).ok()).collect(),
            limits: Limits::read(reader.table("limits")),
            tables: plugged(reader.tables("table"), Table::read),
            policies: plugged(reader.tables("policy"), Plugin::read),
            outbound: plugged(reader.tables("outbound"), Plugin::read),
            auth: reader.table("auth").and_then(|auth| Plugin::read(auth).ok()),
            spool: Spool::read(reader.table("spool"), &state_dir.value),
            dns: Dns::read(reader.table("dns")),
            deliver: Deliver::read(reader.table("deliver")),
            sources: plugged(sources, Source::read),
            source_pools: plugged(pools, SourcePool::read),
            report: Report::read(reader.table("report")),
            mta_sts: MtaSts::read(reader.table("mta_sts"), &state_dir.value),
            tls_report: TlsReport::read(reader.table("tls_report"), &state_dir.value),
            suppression: Suppression::read(reader.table("suppression"), &state_dir.value),
            destinations: plugged(reader.tables("destination"), Destination::read),
            routes: reader.tables("route"),
            transports: plugged(reader.tables("transport"), Transport::read),
            state_dir,
            tls,
        };
        read.report_twins(options);
        // A name that cannot be read is mistake enough: who means it is not told as well.
        if read.sources.len() + read.source_pools.len() == sections {
            source::check(&read.deliver, &read.sources, &read.source_pools, options.errors());
        }
        let _ = reader.finish();
        read
    }

    /// One address cannot be listened on twice.
    fn report_twins(&self, options: &Options) {
        let mut seen = Vec::new();
        for listen in &self.listeners {
            for address in &listen.addresses {
                if seen.contains(&address) {
                    let message = format_args!("{address} is listened on already");
                    options.errors().report(&listen.place, message);
                }
                seen.push(address);
            }
        }
    }
}

fn plugged<T, E>(tables: Vec<Options>, read: impl Fn(Options) -> Result<T, E>) -> Vec<T> {
    tables.into_iter().filter_map(|options| read(options).ok()).collect()
}

fn stand_in() -> Domain {
    Domain::parse("localhost").expect("a label is a domain")
}

#[cfg(test)]
mod tests;
