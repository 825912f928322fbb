//! The options of `[[route]]`.

use std::sync::Arc;

use merpati_plugin::options::{
    Found, FromOption, Invalid, Located, OneOrMany, Options, Parsed, Reader, Size,
};

use super::action::{Action, rejection};
use super::condition::{Condition, Match, Pattern, Subject};
use super::{Relays, Routes, Rule};
use crate::smtp::{RelayHost, Target};
use crate::transports::{Surroundings, TransportTable, Transports};

/// Reads the rules in order. `transports` are those that rules may name; the hosts of rules are
/// added to them.
///
/// # Errors
/// [`Invalid`], with every mistake recorded at its place.
pub fn routes(
    sections: &[Options],
    around: &Surroundings,
    transports: &mut Transports,
    otherwise: TransportTable,
) -> Result<Routes, Invalid> {
    let rules: Vec<_> = (1..)
        .zip(sections)
        .map(|(number, section)| rule(number, section, around, transports))
        .collect();
    let rules = rules.into_iter().collect::<Result<_, _>>()?;
    Ok(Routes::new(rules, otherwise, Relays::new(around.clone())))
}

fn rule(
    number: usize,
    options: &Options,
    around: &Surroundings,
    transports: &mut Transports,
) -> Result<Rule, Invalid> {
    let mut reader = options.reader();
    let name = match reader.optional::<String>("name") {
        Some(name) => format!("[[route]] {name}"),
        None => format!("[[route]] {number}"),
    };
    let conditions = conditions(&mut reader, around);
    let action = action(&mut reader, number, around, transports);
    let sent_from = reader.optional::<Located<String>>("source_pool");
    let source_pool = sent_from.as_ref().map(|name| source_pool(name, options, around));
    let source_pool = source_pool.transpose();
    let sent_from = sent_from.map(|name| name.place);
    reader.finish()?;
    let (conditions, action, source_pool) = (conditions?, action?, source_pool?);
    let nowhere = match &action {
        Some(Action::Refuse(_)) => true,
        Some(Action::Transport(name)) => **name == *crate::transports::DISCARD,
        Some(Action::Relay(_) | Action::Usual) | None => false,
    };
    if nowhere && let Some(place) = sent_from {
        return Err(options.errors().report(&place, "nothing is sent by this rule"));
    }
    if action.is_none() {
        has_effect(options, &conditions, source_pool.is_some())?;
    }
    Ok(Rule { name: name.into(), conditions, action, source_pool })
}

fn source_pool(
    name: &Located<String>,
    options: &Options,
    around: &Surroundings,
) -> Result<Arc<str>, Invalid> {
    match around.sources.has_pool(&name.value) {
        true => Ok(name.value.as_str().into()),
        false => {
            let known: Vec<_> = around.sources.pools().collect();
            Err(options.errors().report_unknown(&name.place, &name.value, &known))
        }
    }
}

/// A rule that does not say what follows has one table that does, or says at least where mail is
/// sent from.
fn has_effect(
    options: &Options,
    conditions: &[Condition],
    has_source: bool,
) -> Result<(), Invalid> {
    let has_table = |condition: &&Condition| match condition {
        Condition::Is(_, matches) | Condition::Header { matches, .. } => {
            matches!(matches, Match::Table(_))
        }
        Condition::LargerThan(_) | Condition::SmallerThan(_) => false,
    };
    match conditions.iter().filter(has_table).count() {
        1 => Ok(()),
        0 if has_source => Ok(()),
        0 => Err(options.reject(
            "what follows? `transport`, `hosts`, `discard`, `error`, or a table that says so",
        )),
        _ => Err(options.reject("which of the tables says what follows?")),
    }
}

fn conditions(reader: &mut Reader<'_>, around: &Surroundings) -> Result<Vec<Condition>, Invalid> {
    let subjects = [
        ("recipient", Subject::Recipient),
        ("domain", Subject::Domain),
        ("sender", Subject::Sender),
        ("sender_domain", Subject::SenderDomain),
        ("user", Subject::User),
        ("listener", Subject::Listener),
    ];
    let mut conditions = Vec::new();
    for (key, subject) in subjects {
        if let Some(wanted) = reader.optional::<Wanted>(key) {
            conditions.push(Condition::Is(subject, wanted.found(around)?));
        }
    }
    if let Some(options) = reader.table("header") {
        let (name, wanted) = header(&options)?;
        conditions.push(Condition::Header { name, matches: wanted.found(around)? });
    }
    if let Some(Size(size)) = reader.optional("larger_than") {
        conditions.push(Condition::LargerThan(size));
    }
    if let Some(Size(size)) = reader.optional("smaller_than") {
        conditions.push(Condition::SmallerThan(size));
    }
    Ok(conditions)
}

/// `name`, and `matches` or `table`.
fn header(options: &Options) -> Result<(String, Wanted), Invalid> {
    let mut reader = options.reader();
    let name = reader.required("name");
    let patterns = reader.optional::<Wanted>("matches");
    let table = reader.optional::<Located<String>>("table");
    reader.finish()?;
    let wanted = match (patterns, table) {
        (Some(patterns @ Wanted::Patterns(_)), None) => patterns,
        (None, Some(name)) => Wanted::Table(name, options.clone()),
        _ => return Err(options.reject("either `matches` or `table`")),
    };
    Ok((name?, wanted))
}

/// `transport`, `hosts`, `discard` or `error`.
fn action(
    reader: &mut Reader<'_>,
    number: usize,
    around: &Surroundings,
    transports: &mut Transports,
) -> Result<Option<Action>, Invalid> {
    let mut actions = Vec::new();
    if let Some(name) = reader.optional::<Located<String>>("transport") {
        if !transports.contains_key(name.value.as_str()) {
            let known: Vec<_> = transports.keys().map(|name| &**name).collect();
            let known = known.join("`, `");
            let message = format_args!("there is no transport `{}`: `{known}`", name.value);
            return Err(reader.reject("transport", message));
        }
        actions.push(Action::Transport(name.value.into()));
    }
    if let Some(OneOrMany(hosts)) = reader.optional::<OneOrMany<Parsed<RelayHost>>>("hosts") {
        let hosts: Vec<_> = hosts.into_iter().map(|host| host.0).collect();
        if hosts.is_empty() {
            return Err(reader.reject("hosts", "one at least"));
        }
        let name: Arc<str> = format!("route-{number}").into();
        let made = crate::config::to(&name, Target::Hosts(hosts), around)
            .map_err(|error| reader.reject("hosts", error))?;
        if transports.insert(Arc::clone(&name), made).is_some() {
            let message = format_args!("there is a transport named `{name}`, as this one is");
            return Err(reader.reject("hosts", message));
        }
        actions.push(Action::Transport(name));
    }
    if reader.or("discard", false) {
        actions.push(Action::Transport(crate::transports::DISCARD.into()));
    }
    if let Some(text) = reader.optional::<String>("error") {
        actions.push(Action::Refuse(rejection(&text)));
    }
    match actions.len() {
        0 | 1 => Ok(actions.pop()),
        _ => Err(reader.reject("transport", "a route leads to one place")),
    }
}

/// What a condition asks for: `"pattern"`, `["pattern", …]` or `{ table = "name" }`.
enum Wanted {
    Patterns(Vec<Pattern>),
    Table(Located<String>, Options),
}

impl FromOption for Wanted {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        if let merpati_plugin::options::Kind::Table(_) = found.value().kind {
            let options = found.table()?;
            let mut reader = options.reader();
            let name = reader.required("table");
            reader.finish()?;
            return Ok(Self::Table(name?, options));
        }
        let patterns = OneOrMany::<Parsed<Pattern>>::from_option(found)?.0;
        if patterns.is_empty() {
            return Err(found.reject("one at least: this would never hold"));
        }
        Ok(Self::Patterns(patterns.into_iter().map(|pattern| pattern.0).collect()))
    }
}

impl Wanted {
    fn found(self, around: &Surroundings) -> Result<Match, Invalid> {
        match self {
            Self::Patterns(patterns) => Ok(Match::Patterns(patterns)),
            Self::Table(name, options) => {
                around.tables.named(&name, options.errors()).map(Match::Table)
            }
        }
    }
}
