//! `[[policy]]`, `[auth]`, `[[transport]]`, `[[table]]`: what is plugged in. Their own options stay as they
//! are, for their owners to read.

use std::time::Duration;

use merpati_plugin::options::{Invalid, Located, OneOrMany, Options};

/// `use = "name"`, a few options of the place it is plugged into, and the plugin's own.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// `use`: the name it is registered by. Needed.
    pub name: Located<String>,
    /// `time_limit`: how long one of its answers may take, at most 10 minutes; the default is
    /// that of the place.
    pub time_limit: Option<Duration>,
    /// The rest.
    pub options: Options,
}

impl Plugin {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let (common, own) = options.split(&["use", "time_limit"]);
        let mut reader = common.reader();
        let name = reader.required("use");
        let millisecond = Duration::from_millis(1);
        // The default is only there to tell "absent" from "given".
        let limit =
            reader.ranged("time_limit", millisecond..=Duration::from_secs(600), Duration::ZERO);
        reader.finish()?;
        let time_limit = (limit > Duration::ZERO).then_some(limit);
        Ok(Self { name: name?, time_limit, options: own })
    }

    /// Records that nobody is registered by this name.
    pub fn unknown(&self, known: &[&str]) -> Invalid {
        self.options.errors().report_unknown(&self.name.place, &self.name.value, known)
    }
}

/// `[[transport]]`: where mail goes that matches.
///
/// ```toml
/// [[transport]]
/// match = ["example.org", ".example.org"]
/// lmtp = { to = "unix:/run/dovecot/lmtp" }
/// ```
#[derive(Clone, Debug)]
pub struct Transport {
    /// `match`: one pattern, or an array of them: `example.org`, `.example.org` for what is below
    /// it, `*` for all. Needed, but for a transport with a `name`, which rules may lead to.
    pub patterns: Vec<Located<String>>,
    /// `name`: in logs and metrics; default the kind.
    pub name: Option<String>,
    /// The one other key: the kind of transport.
    pub kind: Located<String>,
    /// What it names: the transport's own options.
    pub options: Options,
}

impl Transport {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let (common, own) = options.split(&["match", "name"]);
        let mut reader = common.reader();
        let patterns = reader.optional::<OneOrMany<_>>("match");
        let name: Option<String> = reader.optional("name");
        if patterns.is_none() && name.is_none() {
            // Nothing would lead there.
            let _ = reader.required::<OneOrMany<Located<String>>>("match");
        }
        let kind = only(&own, "transport", "lmtp");
        reader.finish()?;
        let (kind, options) = kind?;
        let patterns = patterns.map_or_else(Vec::new, |patterns| patterns.0);
        Ok(Self { patterns, name, kind, options })
    }

    /// Records that there is no transport of this kind.
    pub fn unknown(&self, known: &[&str]) -> Invalid {
        self.options.errors().report_unknown(&self.kind.place, &self.kind.value, known)
    }
}

/// `[[table]]`: where something can be looked up.
///
/// ```toml
/// [[table]]
/// name = "routes"
/// file = { path = "/etc/merpati-relay/routes" }
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    /// `name`: what other sections call it by. Needed.
    pub name: Located<String>,
    /// `cache`: how answers are remembered; default not at all.
    pub cache: Option<Options>,
    /// The one other key: the kind of table.
    pub kind: Located<String>,
    /// What it names: the table's own options.
    pub options: Options,
}

impl Table {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let (common, own) = options.split(&["name", "cache"]);
        let mut reader = common.reader();
        let name = reader.required("name");
        let cache = reader.table("cache");
        let kind = only(&own, "table", "file");
        reader.finish()?;
        let (kind, options) = kind?;
        Ok(Self { name: name?, cache, kind, options })
    }

    /// Records that there is no table of this kind.
    pub fn unknown(&self, known: &[&str]) -> Invalid {
        self.options.errors().report_unknown(&self.kind.place, &self.kind.value, known)
    }
}

/// The one key of a table that is a `what`, and the options it names.
fn only(
    options: &Options,
    what: &str,
    example: &str,
) -> Result<(Located<String>, Options), Invalid> {
    let mut keys = options.keys();
    let Some(key) = keys.next() else {
        let message =
            format_args!("the kind of {what} is missing: {example} = {{ … }} and the like");
        return Err(options.reject(message));
    };
    for other in keys {
        let message = format_args!("this {what} is `{}` already", key.value);
        options.errors().report(&other.place, message);
    }
    let own = options.reader().table(key.value).ok_or(Invalid)?;
    Ok((Located { value: key.value.to_owned(), place: key.place }, own))
}
