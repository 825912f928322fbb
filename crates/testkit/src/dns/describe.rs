//! What a resolver answers, as a line to compare.

use merpati_plugin::{Dnssec, Lookup, ResolveError};

/// `secure: RECORDS`, sorted, with the end of the aliases and the state of the first; or why there
/// are none.
pub fn describe<T>(lookup: Lookup<T>, show: impl Fn(T) -> String) -> String {
    let name = |state| match state {
        Dnssec::Secure => "secure",
        Dnssec::Insecure => "insecure",
    };
    match lookup {
        Ok(answer) => {
            let mut records: Vec<_> = answer.records.into_iter().map(show).collect();
            records.sort();
            let mut text = format!("{}: {}", name(answer.dnssec), records.join(", "));
            if let Some(alias) = answer.alias {
                text += &format!(" at {} ({})", alias.canonical, name(alias.first));
            }
            text
        }
        Err(ResolveError::NxDomain(state)) => format!("{}: no name", name(state)),
        Err(ResolveError::NoData(state)) => format!("{}: none", name(state)),
        Err(ResolveError::Bogus(_)) => "bogus".to_owned(),
        Err(ResolveError::Temporary(_)) => "temporary".to_owned(),
        Err(other) => other.to_string(),
    }
}
