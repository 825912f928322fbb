//! `[[route]]`: rules that are asked in order before the transport table, and may part the
//! recipients of a parcel.

mod action;
mod condition;
mod config;
mod relays;

use std::sync::Arc;

use merpati_plugin::spool::Parcel;
use merpati_plugin::table::TableError;
use merpati_plugin::{Branch, Deliverer, Failure, Headers, NoHeaders, Route, Router, async_trait};
use merpati_types::Recipient;

use crate::transports::TransportTable;

pub use action::{Action, ActionError};
pub use condition::{Condition, Match, Pattern, Subject};
pub use config::routes;
pub use relays::Relays;

use condition::{Asked, Held};

/// One rule: it is for whom all conditions hold for.
#[derive(Clone)]
pub struct Rule {
    /// What it is called in explanations.
    pub name: Arc<str>,
    /// All must hold; none is for everybody.
    pub conditions: Vec<Condition>,
    /// What follows; where it is not said, the row that the last table has found says it.
    pub action: Option<Action>,
    /// The source pool that mail goes out from, wherever it goes; `None` leaves it to others.
    pub source_pool: Option<Arc<str>>,
}

/// The rules, and what follows where none holds.
pub struct Routes {
    rules: Vec<Ordered>,
    otherwise: TransportTable,
    relays: Relays,
}

/// A rule with what is the same for all recipients of a message first, and what costs least first.
struct Ordered {
    name: Arc<str>,
    common: Vec<Condition>,
    own: Vec<Condition>,
    action: Option<Action>,
    source_pool: Option<Arc<str>>,
}

/// How a rule's common conditions were answered.
#[derive(Clone)]
enum Common {
    NotAsked,
    No,
    /// They hold; the row that a table has found.
    Yes(Option<String>),
}

/// Why it is not known where somebody goes.
#[derive(Debug, thiserror::Error)]
enum RouteError {
    #[error("{rule}")]
    Table { rule: Arc<str>, source: TableError },
    #[error("{rule}: `{value}` is no route")]
    Action { rule: Arc<str>, value: String, source: ActionError },
}

impl Routes {
    /// Rules in order, the table that is asked where none holds, and who relays by tables are
    /// made by.
    #[must_use]
    pub fn new(rules: Vec<Rule>, otherwise: TransportTable, relays: Relays) -> Self {
        let ordered = |mut rule: Rule| {
            let mut conditions = std::mem::take(&mut rule.conditions);
            conditions.sort_by_key(Condition::cost);
            let (own, common) = conditions.into_iter().partition(Condition::is_of_recipient);
            let Rule { name, action, source_pool, .. } = rule;
            Ordered { name, common, own, action, source_pool }
        };
        Self { rules: rules.into_iter().map(ordered).collect(), otherwise, relays }
    }

    async fn of_recipient(
        &self,
        asked: &mut Asked<'_>,
        known: &mut [Common],
        recipient: &Recipient,
    ) -> Result<Option<Route>, Failure> {
        for (rule, common) in self.rules.iter().zip(known) {
            if matches!(common, Common::NotAsked) {
                *common = match all(rule, &rule.common, asked, None).await? {
                    None => Common::No,
                    Some(row) => Common::Yes(row),
                };
            }
            let Common::Yes(row) = common else { continue };
            let own = all(rule, &rule.own, asked, Some(recipient)).await?;
            let Some(own) = own else { continue };
            let found = own.or_else(|| row.clone());
            return self.effect(rule, found, asked.parcel).await.map(Some);
        }
        Ok(None)
    }

    /// What a rule that holds leads to.
    async fn effect(
        &self,
        rule: &Ordered,
        row: Option<String>,
        parcel: &Parcel,
    ) -> Result<Route, Failure> {
        let action = match (&rule.action, row) {
            (Some(action), _) => action.clone(),
            (None, Some(value)) => value.parse().map_err(|source| RouteError::Action {
                rule: Arc::clone(&rule.name),
                value,
                source,
            })?,
            // A rule that does not even have a table says where mail is sent from, and no more.
            (None, None) => Action::Usual,
        };
        let why = Arc::clone(&rule.name);
        let pool = rule.source_pool.clone();
        let to = |name, why| Route::Transport { name, why, source_pool: pool.clone() };
        Ok(match action {
            Action::Transport(name) => to(name, why),
            Action::Relay(relay) => to(relay.to_string().into(), why),
            Action::Refuse(rejection) => Route::Refuse(rejection),
            Action::Usual => match self.otherwise.route(parcel).await? {
                Route::Transport { name, why, .. } => to(name, why),
                refused => refused,
            },
        })
    }
}

/// Whether all conditions hold; then also the row that the last table has found.
async fn all(
    rule: &Ordered,
    conditions: &[Condition],
    asked: &mut Asked<'_>,
    recipient: Option<&Recipient>,
) -> Result<Option<Option<String>>, Failure> {
    let mut row = None;
    for condition in conditions {
        let held = condition.holds(asked, recipient).await;
        match held.map_err(|failure| failure.within(&rule.name))? {
            Held::No => return Ok(None),
            Held::Yes => {}
            Held::Row(value) => row = Some(value),
        }
    }
    Ok(Some(row))
}

#[async_trait]
impl Router for Routes {
    /// The route of the first recipient, for who has no message.
    async fn route(&self, parcel: &Parcel) -> Result<Route, Failure> {
        let branches = self.branches(parcel, &NoHeaders).await?;
        match branches.into_iter().next() {
            Some(branch) => Ok(branch.route),
            None => self.otherwise.route(parcel).await,
        }
    }

    async fn branches(
        &self,
        parcel: &Parcel,
        headers: &dyn Headers,
    ) -> Result<Vec<Branch>, Failure> {
        let all_one = self.rules.iter().all(|rule| rule.own.is_empty());
        let mut known = vec![Common::NotAsked; self.rules.len()];
        let mut asked = Asked::new(parcel, headers);
        let mut usual = None;
        let mut branches: Vec<Branch> = Vec::new();
        for (place, recipient) in parcel.recipients() {
            if all_one && let Some(branch) = branches.first_mut() {
                branch.places.push(place);
                continue;
            }
            let route = match self.of_recipient(&mut asked, &mut known, recipient).await? {
                Some(route) => route,
                None => match &usual {
                    Some(usual) => Route::clone(usual),
                    None => usual.insert(self.otherwise.route(parcel).await?).clone(),
                },
            };
            match branches.iter_mut().find(|branch| branch.route == route) {
                Some(branch) => branch.places.push(place),
                None => branches.push(Branch { places: vec![place], route }),
            }
        }
        Ok(branches)
    }

    fn transport(&self, name: &str) -> Option<Arc<dyn Deliverer>> {
        self.relays.get(name)
    }
}
