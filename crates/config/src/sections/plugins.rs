//! `[[policy]]`, `[auth]`, `[[transport]]`: what is plugged in. Their own options stay as they
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
    /// it, `*` for all. Needed.
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
        let patterns = reader.required::<OneOrMany<_>>("match");
        let name = reader.optional("name");
        let kind = only(&own);
        reader.finish()?;
        let (kind, options) = kind?;
        Ok(Self { patterns: patterns?.0, name, kind, options })
    }

    /// Records that there is no transport of this kind.
    pub fn unknown(&self, known: &[&str]) -> Invalid {
        self.options.errors().report_unknown(&self.kind.place, &self.kind.value, known)
    }
}

/// The one key of a table, and the table it names.
fn only(options: &Options) -> Result<(Located<String>, Options), Invalid> {
    let mut keys = options.keys();
    let Some(key) = keys.next() else {
        return Err(options.reject("the kind of transport is missing: lmtp = { … } and the like"));
    };
    for other in keys {
        let message = format_args!("this transport is `{}` already", key.value);
        options.errors().report(&other.place, message);
    }
    let own = options.reader().table(key.value).ok_or(Invalid)?;
    Ok((Located { value: key.value.to_owned(), place: key.place }, own))
}
