//! From an address to the row that fits it best.

use merpati_types::{Host, Mailbox};

use super::{Table, TableError};

/// What parts a user from a detail that rows need not name.
const SEPARATOR: char = '+';

/// Parent domains that are asked for, counted from the top: a name of a hundred labels must not
/// cost a hundred queries.
const PARENTS: usize = 8;

/// A row that fits an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The key that was found.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The row that fits an address best. The first of these keys that the table has counts:
///
/// 1. `user+detail@example.org`
/// 2. `user@example.org`
/// 3. `@example.org`
/// 4. `example.org`
/// 5. for subdomains, the closest parent: `.example.org` for `a.b.example.org`, then `.org`; at
///    most eight, the shortest.
///
/// All are in lower case, and domains in their A-label form. A table that does not
/// [know parts](Table::knows_parts) of addresses is asked for the whole address only, as it
/// stands.
///
/// # Errors
/// [`TableError`], when one of the answers is not known: a less specific row must not win because
/// of it.
pub async fn lookup_address(
    table: &dyn Table,
    address: &Mailbox,
) -> Result<Option<Hit>, TableError> {
    let keys = if table.knows_parts() { keys(address) } else { vec![address.to_string()] };
    for key in keys {
        if let Some(value) = table.find(&key).await? {
            return Ok(Some(Hit { key, value }));
        }
    }
    Ok(None)
}

fn keys(address: &Mailbox) -> Vec<String> {
    let whole = Mailbox::new(address.local().clone(), ascii(address.host())).to_string();
    let host = match address.host() {
        Host::Domain(domain) => domain.as_ascii().to_owned(),
        literal => literal.to_string(),
    };
    let mut keys = vec![whole.to_lowercase()];
    if let Some((user, _)) = address.local().split_detail(SEPARATOR)
        && let Ok(user) = merpati_types::LocalPart::from_content(user)
    {
        keys.push(Mailbox::new(user, ascii(address.host())).to_string().to_lowercase());
    }
    keys.push(format!("@{host}"));
    keys.push(host.clone());
    if address.host().domain().is_some() {
        let parents: Vec<_> =
            host.match_indices('.').map(|(dot, _)| host[dot..].to_owned()).collect();
        keys.extend(parents.into_iter().rev().take(PARENTS).rev());
    }
    keys
}

/// The host with its A-label form for its name.
fn ascii(host: &Host) -> Host {
    let domain =
        host.domain().and_then(|domain| merpati_types::Domain::parse(domain.as_ascii()).ok());
    domain.map_or_else(|| host.clone(), Host::Domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_trait;
    use std::collections::BTreeMap;

    struct Rows {
        rows: BTreeMap<&'static str, &'static str>,
        patterns: bool,
    }

    #[async_trait]
    impl Table for Rows {
        async fn find(&self, key: &str) -> Result<Option<String>, TableError> {
            if self.rows.get(key) == Some(&"broken") {
                return Err(TableError::Unavailable("it is broken".into()));
            }
            Ok(self.rows.get(key).map(|value| (*value).to_owned()))
        }

        fn knows_parts(&self) -> bool {
            !self.patterns
        }
    }

    #[test]
    fn keys_go_from_the_address_to_its_last_parent() {
        let check = |address: &str, expected: &str| {
            assert_eq!(keys(&address.parse().unwrap()).join(" "), expected);
        };
        check("Bob@Example.ORG", "bob@example.org @example.org example.org .org");
        check(
            "bob+a+b@a.example.org",
            "bob+a+b@a.example.org bob@a.example.org @a.example.org a.example.org .example.org .org",
        );
        check("+x@example", "+x@example @example example");
        check("\"b b\"@example", "\"b b\"@example @example example");
        check("bob@[192.0.2.1]", "bob@[192.0.2.1] @[192.0.2.1] [192.0.2.1]");
        check(
            "Jörg@bücher.example",
            "jörg@xn--bcher-kva.example @xn--bcher-kva.example xn--bcher-kva.example .example",
        );
        let long = format!("b@{}z", "a.".repeat(100));
        assert_eq!(keys(&long.parse().unwrap()).len(), 3 + PARENTS);
        assert_eq!(keys(&long.parse().unwrap())[3], ".a.a.a.a.a.a.a.z");
    }

    #[tokio::test]
    async fn the_closest_row_counts() {
        let rows = [
            ("bob@example.org", "bob"),
            ("example.org", "domain"),
            (".example.org", "below"),
            ("@b.example.org", "at"),
            ("flaky.example.org", "broken"),
            ("Bob@EXAMPLE.org", "as it stands"),
        ];
        let mut table = Rows { rows: rows.into(), patterns: false };
        for (address, expected) in [
            ("bob+x@example.org", Some(("bob@example.org", "bob"))),
            ("alice@example.org", Some(("example.org", "domain"))),
            ("bob@a.example.org", Some((".example.org", "below"))),
            ("bob@a.b.example.org", Some((".example.org", "below"))),
            ("bob@b.example.org", Some(("@b.example.org", "at"))),
            ("bob@example.net", None),
        ] {
            let found = lookup_address(&table, &address.parse().unwrap()).await.unwrap();
            let found = found.as_ref().map(|hit| (hit.key.as_str(), hit.value.as_str()));
            assert_eq!(found, expected, "{address}");
        }
        let flaky = "bob@flaky.example.org".parse().unwrap();
        lookup_address(&table, &flaky).await.unwrap_err();
        table.patterns = true;
        let as_it_stands = "Bob@EXAMPLE.org".parse().unwrap();
        let found = lookup_address(&table, &as_it_stands).await.unwrap().unwrap();
        assert_eq!(found.value, "as it stands");
        let other = "alice@example.org".parse().unwrap();
        assert_eq!(lookup_address(&table, &other).await.unwrap(), None);
    }
}
