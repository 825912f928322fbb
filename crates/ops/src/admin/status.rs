//! How the server is, and what it is doing: for load balancers, supervisors and operators.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use merpati_plugin::Spool;
use merpati_plugin::spool::{NextHop, Share};

use super::{AdminSettings, DnssecHealth, Phase, Readiness, Refused, Shedding, queue};
use crate::activity::Activity;
use crate::api::{ActivityView, HealthView, HopView, Index, ReadyView, Status};
use crate::metrics::Metrics;

/// How many next hops are shown.
const HOPS: usize = 10;

/// All that tells how the server is.
#[derive(Clone)]
pub struct Vitals {
    readiness: Readiness,
    spool: Arc<dyn Spool>,
    shedding: Shedding,
    dnssec: DnssecHealth,
}

impl Vitals {
    /// What the API tells from.
    #[must_use]
    pub fn of(settings: &AdminSettings) -> Self {
        let AdminSettings { readiness, spool, shedding, dnssec, .. } = settings;
        Self {
            readiness: readiness.clone(),
            spool: Arc::clone(spool),
            shedding: Arc::clone(shedding),
            dnssec: Arc::clone(dnssec),
        }
    }

    /// How it is now.
    #[must_use]
    pub fn health(&self) -> HealthView {
        let phase = self.readiness.phase();
        let spool: crate::api::SpoolHealthView = self.spool.health().into();
        let shedding = (self.shedding)();
        let mut reasons = Vec::new();
        let mut ready = phase == Phase::Serving;
        if !ready {
            reasons.push(phase.name().to_owned());
        }
        for (what, why) in [
            ("nothing can be made durable", &spool.failing),
            ("the spool is full", &spool.full),
            ("new mail is turned away", &shedding),
        ] {
            if let Some(why) = why {
                ready = false;
                reasons.push(format!("{what}: {why}"));
            }
        }
        let works = reasons.is_empty() || phase != Phase::Serving;
        let mut status = if works { Status::Ok } else { Status::Degraded };
        if spool.damaged > 0 {
            let damaged = spool.damaged;
            reasons.push(format!("places in the spool that cannot be read: {damaged}"));
            status = Status::Degraded;
        }
        if let Some(text) = said_of(spool.index) {
            reasons.push(text.to_owned());
        }
        if spool.index == Index::Lost {
            status = Status::Degraded;
        }
        let dnssec = (self.dnssec)();
        if let Some(why) = &dnssec.reason {
            let state = &dnssec.state;
            reasons.push(format!("DNSSEC is {state}: {why}"));
        }
        if dnssec.degraded {
            status = Status::Degraded;
        }
        if spool.failing.is_some() {
            status = Status::Failing;
        }
        HealthView { status, ready, phase, reasons, spool, shedding, dnssec }
    }
}

fn said_of(index: Index) -> Option<&'static str> {
    match index {
        Index::Whole => None,
        Index::Loading => Some("older mail is still being looked up after the start"),
        Index::Rebuilding => Some("the spool's index is being made anew"),
        Index::Lost => Some("the spool's index cannot be written: memory grows until a restart"),
    }
}

#[derive(Clone)]
struct Shared {
    vitals: Vitals,
    metrics: Arc<Metrics>,
    activity: Arc<Activity>,
}

pub(super) fn router(vitals: Vitals, metrics: Arc<Metrics>, activity: Arc<Activity>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(exposition))
        .route("/v1/health", get(async |State(shared): State<Shared>| Json(shared.vitals.health())))
        .route("/v1/activity", get(activity_now))
        .with_state(Shared { vitals, metrics, activity })
}

async fn health(State(shared): State<Shared>) -> Response {
    let health = shared.vitals.health();
    let status = match health.status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Failing => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health)).into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    let HealthView { ready, phase, reasons, .. } = shared.vitals.health();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready, phase, reasons })).into_response()
}

async fn exposition(State(shared): State<Shared>) -> impl IntoResponse {
    if let Ok(stats) = shared.vitals.spool.stats().await {
        shared.metrics.set_queue(&stats);
    }
    shared.metrics.set_health(&shared.vitals.health());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}

async fn activity_now(State(shared): State<Shared>) -> Result<Response, Refused> {
    let spool = &shared.vitals.spool;
    let queue = spool.stats().await.map_err(queue::refused)?.into();
    let HealthView { status, reasons, .. } = shared.vitals.health();
    let totals = shared.activity.totals();
    let hops = shared.activity.busiest(HOPS).into_iter().map(|(domain, hop)| {
        let next_hop = NextHop::from_text(&domain);
        let queued = spool.queued(Share::NextHop(&next_hop));
        HopView {
            domain,
            messages: queued.messages,
            octets: queued.bytes,
            delivered: hop.delivered,
            deferred: hop.deferred,
            bounced: hop.bounced,
            last: hop.last,
        }
    });
    let view = ActivityView {
        at: queue::now().as_millis(),
        status,
        reasons,
        queue,
        accepted: totals.accepted,
        delivered: totals.delivered,
        deferred: totals.deferred,
        bounced: totals.bounced,
        hops: hops.collect(),
    };
    Ok(Json(view).into_response())
}
