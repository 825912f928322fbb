//! The suppression list: opened with the other state, and changed through the admin API.

use std::sync::Arc;
use std::time::Duration;

use merpati_config::sections;
use merpati_dsn::BounceClass;
use merpati_journal::OsDisk;
use merpati_ledger::Ledger;
use merpati_ops::api::{
    SuppressionAddRequest, SuppressionListRequest, SuppressionPage, SuppressionView, SuppressionWho,
};
use merpati_ops::{Command, CommandError};
use merpati_plugin::async_trait;
use merpati_plugin::options::Errors;
use merpati_policy::suppression::{
    Entry, Source, Subject, Suppression, SuppressionError, SuppressionList, SuppressionRules,
};
use merpati_types::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::Fatal;

/// A page of the list, unless asked otherwise.
const PAGE: usize = 100;
/// The largest page.
const PAGE_LIMIT: usize = 1_000;

/// The rules that the configuration gives.
pub(crate) fn rules(config: &sections::Suppression, errors: &Errors) -> SuppressionRules {
    let class = |class: &merpati_plugin::options::Located<String>| {
        let parsed = class.value.parse::<BounceClass>();
        let known: Vec<_> = BounceClass::ALL.iter().map(|class| class.as_str()).collect();
        parsed
            .map_err(|error| {
                let known = known.join(", ");
                errors.report(&class.place, format_args!("`{}`: {error}: {known}", class.value))
            })
            .ok()
    };
    let limited = |time: Duration| (!time.is_zero()).then_some(time);
    SuppressionRules {
        bounces: config.bounces,
        within: config.within,
        classes: config.classes.iter().filter_map(class).collect(),
        bounce_for: limited(config.bounce_for),
        complaint_for: limited(config.complaint_for),
        most: config.entries,
    }
}

/// Opens the list.
pub(crate) fn open(config: &sections::Suppression) -> Result<SuppressionList, Fatal> {
    let path = config.path.display();
    let disk = OsDisk::open(&config.path).map_err(Fatal::system(format!("{path}")))?;
    let limits = rules(config, &Errors::default()).ledger_limits();
    let (ledger, recovery) = Ledger::open(Arc::new(disk), limits)
        .map_err(|error| Fatal::Refused(format!("suppression list {path}: {error}")))?;
    let damaged = recovery.damage.len();
    if damaged > 0 {
        tracing::error!(%path, damaged, "the suppression list is damaged; the rest is used");
    }
    let list = SuppressionList::new(ledger);
    tracing::info!(%path, ?list, "suppression list read");
    Ok(list)
}

/// The admin API's commands about it, if there is one.
pub(crate) fn commands(
    suppression: Option<&Suppression>,
    now: fn() -> Timestamp,
) -> Vec<(String, Arc<dyn Command>)> {
    let Some(suppression) = suppression else { return Vec::new() };
    let command = |name: &str, action| {
        let suppression = suppression.clone();
        let command: Arc<dyn Command> = Arc::new(About { suppression, now, action });
        (format!("suppression/{name}"), command)
    };
    vec![
        command("list", Action::List),
        command("add", Action::Add),
        command("remove", Action::Remove),
        command("show", Action::Show),
    ]
}

#[derive(Clone, Copy)]
enum Action {
    List,
    Add,
    Remove,
    Show,
}

struct About {
    suppression: Suppression,
    now: fn() -> Timestamp,
    action: Action,
}

#[async_trait]
impl Command for About {
    async fn run(&self, input: Value) -> Result<Value, CommandError> {
        let list = self.suppression.list().map_err(refused)?;
        match self.action {
            Action::List => output(&self.page(list, read(input)?)?),
            Action::Add => output(&self.add(list, read(input)?).await?),
            Action::Remove => {
                let SuppressionWho { who } = read(input)?;
                let who = subject(&who)?;
                let entry = list.remove(who.clone()).await.map_err(refused)?;
                let entry = entry.ok_or_else(|| not_there(&who))?;
                tracing::info!(event = "unsuppressed", %who, by = "operator");
                output(&view((who, entry)))
            }
            Action::Show => {
                let SuppressionWho { who } = read(input)?;
                output(&self.show(list, &who)?)
            }
        }
    }
}

impl About {
    fn page(
        &self,
        list: &SuppressionList,
        request: SuppressionListRequest,
    ) -> Result<SuppressionPage, CommandError> {
        let SuppressionListRequest { source, class, who, after, limit } = request;
        let class = class.as_deref().map(classify).transpose()?;
        if let Some(source) = &source
            && Source::ALL.iter().all(|known| known.as_str() != source)
        {
            return Err(CommandError::Wrong(format!("no source `{source}`")));
        }
        let who = who.unwrap_or_default().to_lowercase();
        let after = after.as_deref().map(subject).transpose()?;
        let most = limit.unwrap_or(PAGE).clamp(1, PAGE_LIMIT);
        let wanted = |subject: &Subject, entry: &Entry| {
            source.as_ref().is_none_or(|source| entry.source.as_str() == source)
                && class.is_none_or(|class| entry.class == Some(class))
                && subject.as_str().contains(&who)
        };
        let found = list.list(after.as_ref(), most, (self.now)(), wanted);
        let more = found.len() == most;
        let entries: Vec<_> = found.into_iter().map(view).collect();
        let after = entries.last().filter(|_| more).map(|last| last.who.clone());
        Ok(SuppressionPage { entries, after })
    }

    async fn add(
        &self,
        list: &SuppressionList,
        request: SuppressionAddRequest,
    ) -> Result<SuppressionView, CommandError> {
        let SuppressionAddRequest { who, reason, class, until, seconds } = request;
        let who = subject(&who)?;
        let class = class.as_deref().map(classify).transpose()?;
        let now = (self.now)();
        let until = match (until, seconds) {
            (None, None) => None,
            (None, Some(seconds)) => Some(now.after(Duration::from_secs(seconds))),
            (Some(until), None) => Some(moment(&until)?),
            (Some(_), Some(_)) => {
                return Err(CommandError::Wrong("say `until` or `seconds`, not both".to_owned()));
            }
        };
        let entry = Entry { source: Source::Operator, class, since: now, until, reason };
        if !entry.is_in_force(now) {
            return Err(CommandError::Wrong("that is over already".to_owned()));
        }
        let most = self.suppression.rules().most;
        list.add(who.clone(), entry.clone(), most).await.map_err(refused)?;
        tracing::info!(event = "suppressed", %who, by = "operator", reason = entry.reason);
        let entry = list.entry(&who, now).unwrap_or(entry);
        Ok(view((who, entry)))
    }

    /// What keeps mail from it: its own entry, and that of its domain.
    fn show(&self, list: &SuppressionList, who: &str) -> Result<SuppressionPage, CommandError> {
        let own = subject(who)?;
        let domain = own.as_str().rfind('@').map(|at| &own.as_str()[at..]);
        let domain = domain.map(subject).transpose()?.filter(|domain| *domain != own);
        let found = std::iter::once(own.clone()).chain(domain).filter_map(|who| {
            let entry = list.entry(&who, (self.now)())?;
            Some(view((who, entry)))
        });
        let entries: Vec<_> = found.collect();
        if entries.is_empty() {
            return Err(not_there(&own));
        }
        Ok(SuppressionPage { entries, after: None })
    }
}

fn view((who, entry): (Subject, Entry)) -> SuppressionView {
    SuppressionView {
        who: who.as_str().to_owned(),
        source: entry.source.as_str().to_owned(),
        class: entry.class.map(|class| class.as_str().to_owned()),
        since: entry.since.to_string(),
        until: entry.until.map(|until| until.to_string()),
        reason: entry.reason,
    }
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, CommandError> {
    serde_json::from_value(input).map_err(|error| CommandError::Wrong(error.to_string()))
}

fn output(answer: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(answer).map_err(|error| CommandError::Unavailable(error.to_string()))
}

fn subject(text: &str) -> Result<Subject, CommandError> {
    text.parse().map_err(|error| CommandError::Wrong(format!("`{text}`: {error}")))
}

fn classify(text: &str) -> Result<BounceClass, CommandError> {
    text.parse().map_err(|error| CommandError::Wrong(format!("`{text}`: {error}")))
}

/// A moment, or the first of a day.
fn moment(text: &str) -> Result<Timestamp, CommandError> {
    let day = || format!("{text}T00:00:00Z").parse();
    let parsed = text.parse().or_else(|_| day());
    parsed.map_err(|error: merpati_types::TimestampError| {
        CommandError::Wrong(format!("`{text}`: {error}"))
    })
}

fn not_there(who: &Subject) -> CommandError {
    CommandError::NotFound(format!("{who} is not on the list"))
}

fn refused(error: SuppressionError) -> CommandError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    CommandError::Unavailable(text)
}

#[cfg(test)]
mod tests;
