//! The tables of a configuration, built and named.

use std::sync::Arc;

use merpati_config::{RoleConfig, sections};
use merpati_plugin::options::Errors;
use merpati_plugin::{Table, Tables};
use merpati_tables::{CacheConfig, Cached, STOCK, stock};

use crate::role::Role;

/// Builds every `[[table]]`. What cannot be built is left out, with the reason among the errors.
pub(crate) fn tables(role: &Role, config: &RoleConfig, errors: &Errors) -> Tables {
    let mut tables = Tables::default();
    for section in &config.tables {
        let table = table(role, section);
        let cache = section.cache.as_ref().map(CacheConfig::from_options);
        let Some(mut table) = table else { continue };
        if let Some(cache) = cache {
            let Ok(cache) = cache else { continue };
            table = Arc::new(Cached::new(table, cache));
        }
        if tables.insert(section.name.value.clone(), table).is_some() {
            let message = format_args!("there are two tables named `{}`", section.name.value);
            errors.report(&section.name.place, message);
        }
    }
    tables
}

fn table(role: &Role, section: &sections::Table) -> Option<Arc<dyn Table>> {
    let kind = section.kind.value.as_str();
    let made = match role.tables.get(kind) {
        Some(make) => make(&section.options),
        None => match stock(kind, &section.options) {
            Some(made) => made,
            None => {
                let own = role.tables.keys().map(String::as_str);
                section.unknown(&STOCK.into_iter().chain(own).collect::<Vec<_>>());
                return None;
            }
        },
    };
    made.ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use merpati_config::ConfigFile;

    use super::*;

    struct Fixed;

    #[merpati_plugin::async_trait]
    impl Table for Fixed {
        async fn find(
            &self,
            key: &str,
        ) -> Result<Option<String>, merpati_plugin::table::TableError> {
            Ok(Some(format!("fixed {key}")))
        }
    }

    fn read(text: &str) -> (Tables, Vec<String>) {
        let head =
            "hostname = \"a.test\"\nstate_dir = \"/tmp\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n";
        let file = ConfigFile::parse("relay.toml", format!("{head}{text}"));
        let config = RoleConfig::read(file.options());
        let role = Role::relay().table("fixed", |options| {
            options.reader().finish()?;
            Ok(Fixed)
        });
        let tables = tables(&role, &config, file.errors());
        (tables, file.errors().sorted().iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn they_are_built_by_kind_and_found_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes");
        fs::write(&path, "a one\n").unwrap();
        let text = format!(
            "[[table]]\nname = \"routes\"\nfile = {{ path = {path:?} }}\ncache = {{ ttl = \"1m\" }}\n\
             [[table]]\nname = \"own\"\nfixed = {{}}\n"
        );
        let (tables, errors) = read(&text);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(tables.names().collect::<Vec<_>>(), ["own", "routes"]);
        let find = async |name: &str| tables.get(name).unwrap().find("a").await.unwrap();
        assert_eq!(find("routes").await.as_deref(), Some("one"));
        assert_eq!(find("own").await.as_deref(), Some("fixed a"));
        assert!(tables.get("other").is_none());
    }

    #[test]
    fn mistakes_are_told_where_they_stand() {
        let text = "[[table]]\nname = \"a\"\nfile = {}\ncache = { tll = \"1m\", entries = 0 }\n\
                    [[table]]\nfixed = {}\nfile = {}\n\
                    [[table]]\nname = \"b\"\n\
                    [[table]]\nname = \"c\"\nflie = {}\n\
                    [[table]]\nname = \"d\"\nfixed = {}\n\
                    [[table]]\nname = \"d\"\nfixed = {}\n";
        let (_, errors) = read(text);
        assert_eq!(
            errors,
            [
                "7:8: table[0].file.path: `path` is missing",
                "8:11: table[0].cache.tll: unknown key `tll` (did you mean `ttl`?)",
                "8:33: table[0].cache.entries: 0 is not between 1 and 1000000",
                "9:1: table[1].name: `name` is missing",
                "11:1: table[1].file: this table is `fixed` already",
                "12:1: table[2]: the kind of table is missing: file = { … } and the like",
                "16:1: table[3].flie: `flie` is not known here (did you mean `file`?)",
                "21:8: table[5].name: there are two tables named `d`",
            ]
        );
    }
}
