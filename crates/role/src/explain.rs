//! `explain/rcpt`: where a message to an address would go, on what terms, and what waits for it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use merpati_deliver::runner::Rules;
use merpati_deliver::{Routing, sent_from};
use merpati_ops::api::{ExplainRequest, FindingView};
use merpati_ops::{Command, CommandError};
use merpati_plugin::spool::{
    Attributes, Filter, Listed, MessageInfo, NewMessage, NextHop, Origin, Parcel, ParcelId,
    ParcelState,
};
use merpati_plugin::{ExplainHow, Finding, NoHeaders, Route, Spool, async_trait};
use merpati_queue::{Intervals, Rate, Schedule, SiteLimits};
use merpati_route::Table;
use merpati_types::{
    Envelope, HeaderEdits, Host, Mailbox, MessageId, Recipient, ReversePath, Timestamp,
};

/// The most parcels of an address that are shown.
const SHOWN: usize = 20;

/// Explains deliveries.
pub(crate) struct ExplainRecipient {
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    pub(crate) spool: Arc<dyn Spool>,
    pub(crate) usual: Rules,
    pub(crate) destinations: Table<Rules>,
    pub(crate) now: fn() -> Timestamp,
}

#[async_trait]
impl Command for ExplainRecipient {
    async fn run(&self, input: serde_json::Value) -> Result<serde_json::Value, CommandError> {
        let wrong = |error: &dyn std::fmt::Display| CommandError::Wrong(error.to_string());
        let request: ExplainRequest = serde_json::from_value(input).map_err(|e| wrong(&e))?;
        let address = Mailbox::parse(&request.address)
            .map_err(|error| wrong(&format_args!("{}: {error}", request.address)))?;
        let sender = match request.sender.as_deref() {
            None | Some("") => ReversePath::Null,
            Some(text) => ReversePath::Mailbox(
                Mailbox::parse(text).map_err(|error| wrong(&format_args!("{text}: {error}")))?,
            ),
        };
        let mut envelope = Envelope::new(sender);
        envelope.requiretls = request.requiretls;
        envelope.recipients = vec![Recipient::new(address.clone())];
        let parcel = self.imagined(envelope);
        let how = if request.dial { ExplainHow::Dial } else { ExplainHow::LookUp };
        let found = self.explain(&address, &parcel, how).await?;
        serde_json::to_value(FindingView::of(&found))
            .map_err(|error| CommandError::Unavailable(error.to_string()))
    }
}

impl ExplainRecipient {
    /// A parcel as a message to the address would make one.
    fn imagined(&self, envelope: Envelope) -> Parcel {
        let now = (self.now)();
        let next_hop = NextHop::of(&envelope.recipients[0].address);
        let message = NewMessage {
            envelope,
            edits: HeaderEdits::default(),
            attributes: Attributes::default(),
            origin: Origin::default(),
            arrived: now,
        };
        Parcel {
            id: ParcelId { message: MessageId::from_u64(0), number: 0 },
            next_hop,
            info: Arc::new(MessageInfo { message, size: 0 }),
            pending: vec![0],
            attempts: 0,
            due: now,
            warned: false,
            expired: false,
            last_reason: None,
            unknown_at: None,
            sent_as: None,
        }
    }

    async fn explain(
        &self,
        address: &Mailbox,
        parcel: &Parcel,
        how: ExplainHow,
    ) -> Result<Finding, CommandError> {
        let mut below = vec![Finding::new("next hop", parcel.next_hop.as_str())];
        let routing = self.routing.load_full();
        for stopped in routing.outbound.route(parcel).await.into_iter().flatten() {
            below.push(Finding::new("kept back", stopped.to_string()).because("outbound policy"));
        }
        below.extend(sent_as(&routing, parcel).await);
        below.push(route(&routing, parcel, how).await);
        let host = Host::parse(parcel.next_hop.as_str()).ok();
        let row = host.as_ref().and_then(|host| self.destinations.find(host));
        let (why, rules) = match row {
            Some((pattern, rules)) => (format!("[[destination]] {pattern}"), rules),
            None => ("[deliver]".to_owned(), &self.usual),
        };
        below.push(limits(&rules.site).because(why.clone()));
        below.push(schedule(&rules.schedule).because(why));
        below.push(self.waiting(address).await?);
        Ok(Finding::new("recipient", address.to_string()).with(below))
    }

    /// What waits for this address already, and when it is tried next.
    async fn waiting(&self, address: &Mailbox) -> Result<Finding, CommandError> {
        let filter = Filter { recipient: Some(address.to_string()), ..Filter::default() };
        let listed = self.spool.list(&filter, None, SHOWN).await;
        let listed = listed.map_err(|error| CommandError::Unavailable(error.to_string()))?;
        let count = match listed.len() {
            SHOWN => format!("{SHOWN} or more"),
            count => count.to_string(),
        };
        Ok(Finding::new("queued", count).with(listed.iter().map(queued)))
    }
}

/// The reverse path it goes under, where that is not its own.
async fn sent_as(routing: &Routing, parcel: &Parcel) -> Option<Finding> {
    let found = match routing.outbound.send_as(&Arc::new(parcel.clone())).await {
        Ok(parts) => {
            let sender = parts.first()?.reverse_path();
            (sender != parcel.reverse_path()).then(|| sender.to_string())?
        }
        Err(why) => why.to_string(),
    };
    Some(Finding::new("sent as", found).because("outbound policy"))
}

async fn route(routing: &Routing, parcel: &Parcel, how: ExplainHow) -> Finding {
    let branches = routing.router.branches(parcel, &NoHeaders).await;
    // There is one recipient, and thus one branch.
    match branches.map(|branches| branches.into_iter().next().map(|branch| branch.route)) {
        Ok(Some(Route::Transport { name, why, source_pool })) => {
            let found = Finding::new("transport", &*name).because(&*why);
            let Some(transport) = routing.transport(&name) else {
                return found.with([Finding::new("outcome", "deferred")
                    .because("there is no transport of this name")]);
            };
            let transport = sent_from(transport, source_pool.as_deref());
            let site = match transport.site(parcel).await {
                Ok(site) => Finding::new("site", format!("{name}:{site}")),
                Err(outcome) => Finding::new("site", "not known").because(outcome.diagnostic),
            };
            found.with([site]).with(transport.explain(parcel, how).await)
        }
        Ok(Some(Route::Refuse(rejection))) => Finding::new("refused", rejection.to_string()),
        Ok(_) => Finding::new("route", "not known"),
        Err(error) => Finding::new("route", "not known now").because(error.to_string()),
    }
}

fn queued(listed: &Listed) -> Finding {
    let Listed { parcel, state } = listed;
    let next = match state {
        ParcelState::Held => "held".to_owned(),
        ParcelState::Leased => "now".to_owned(),
        ParcelState::Active | ParcelState::Deferred => parcel.due.to_string(),
    };
    let why = match &parcel.last_reason {
        Some(reason) => format!("after {} attempts: {reason}", parcel.attempts),
        None => "it has not been tried".to_owned(),
    };
    let below = [
        Finding::new("next attempt", next).because(why),
        Finding::new("arrived", parcel.info.message.arrived.to_string()),
    ];
    Finding::new("message", parcel.id.to_string()).with(below)
}

fn limits(site: &SiteLimits) -> Finding {
    let rate = |key, rate: Option<Rate>| {
        let found = rate.map_or_else(|| "no bound".to_owned(), |rate| rate.to_string());
        Finding::new(key, found)
    };
    Finding::new("limits", format!("{} at once", site.most)).with([
        rate("messages", site.messages),
        rate("connections", site.connections),
        rate("recipients", site.recipients),
    ])
}

fn schedule(schedule: &Schedule) -> Finding {
    let after = |key, intervals: Intervals| {
        let Intervals { first, most } = intervals;
        Finding::new(key, format!("{}, doubling up to {}", span(first), span(most)))
    };
    Finding::new("schedule", format!("given up after {}", span(schedule.expiry))).with([
        Finding::new("warning", format!("after {}", span(schedule.warn_after))),
        after("after a refusal for now", schedule.greylisting),
        after("after connection trouble", schedule.connection),
        after("after DNS trouble", schedule.dns),
        after("after a full mailbox", schedule.over_quota),
        after("after anything else", schedule.usual),
    ])
}

/// `5m`: in the largest unit that leaves no rest.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}
