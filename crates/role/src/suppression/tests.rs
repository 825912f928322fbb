//! The commands, on a list on disk that is opened again.

use merpati_config::{ConfigFile, RoleConfig};
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn config(directory: &std::path::Path, keys: &str) -> (RoleConfig, ConfigFile) {
    let text = format!(
        "hostname = \"a.test\"\nstate_dir = \"{}\"\n[[listen]]\naddress = \"127.0.0.1:25\"\n\
         [suppression]\n{keys}",
        directory.display()
    );
    let file = ConfigFile::parse("x.toml", text);
    (RoleConfig::read(file.options()), file)
}

fn started(config: &RoleConfig) -> Suppression {
    let section = config.suppression.as_ref().unwrap();
    let suppression = Suppression::new(rules(section, &Errors::default()));
    suppression.connect(open(section).unwrap());
    suppression
}

async fn ask(suppression: &Suppression, name: &str, input: Value) -> Result<Value, CommandError> {
    let commands = commands(Some(suppression), now);
    let name = format!("suppression/{name}");
    let (_, command) = commands.iter().find(|(known, _)| *known == name).unwrap();
    command.run(input).await
}

#[tokio::test]
async fn operators_change_the_list_and_it_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (config, _) = config(directory.path(), "");
    let list = started(&config);
    let bob = json!({
        "who": "bob@x.test", "source": "operator", "class": null,
        "since": "2026-11-23T08:00:00.000Z", "until": "2026-11-23T09:00:00.000Z", "reason": "he asked",
    });
    let added =
        ask(&list, "add", json!({"who": "Bob@X.test", "reason": "he asked", "seconds": 3600}));
    assert_eq!(added.await.unwrap(), bob);
    for input in [
        json!({"who": "@gone.test", "class": "bad-domain", "until": "2026-12-31"}),
        json!({"who": "eve@x.test"}),
    ] {
        ask(&list, "add", input).await.unwrap();
    }
    ask(&list, "remove", json!({"who": "EVE@x.test"})).await.unwrap();
    drop(list);

    let list = started(&config);
    let who = |page: Value| -> Vec<String> {
        let page: SuppressionPage = serde_json::from_value(page).unwrap();
        page.entries.into_iter().map(|entry| entry.who).collect()
    };
    for (input, expected) in [
        (json!({}), &["@gone.test", "bob@x.test"][..]),
        (json!({"class": "bad-domain"}), &["@gone.test"]),
        (json!({"source": "operator", "who": "OB@"}), &["bob@x.test"]),
        (json!({"source": "complaint"}), &[]),
        (json!({"after": "@gone.test"}), &["bob@x.test"]),
    ] {
        assert_eq!(who(ask(&list, "list", input).await.unwrap()), expected);
    }
    let page = ask(&list, "list", json!({"limit": 1})).await.unwrap();
    assert_eq!(
        (&page["after"], page["entries"].as_array().unwrap().len()),
        (&"@gone.test".into(), 1)
    );
    let shown = ask(&list, "show", json!({"who": "anybody@gone.test"})).await.unwrap();
    assert_eq!(shown["entries"][0]["until"], "2026-12-31T00:00:00.000Z");

    for (name, input, expected) in [
        ("remove", json!({"who": "eve@x.test"}), "eve@x.test is not on the list"),
        ("show", json!({"who": "eve@x.test"}), "eve@x.test is not on the list"),
        ("add", json!({"who": "eve"}), "`eve`: neither an address nor `@domain`"),
        ("add", json!({"who": "a@b.test", "class": "x"}), "`x`: not a class of bounces"),
        ("add", json!({"who": "a@b.test", "until": "2026-11-22"}), "that is over already"),
        (
            "add",
            json!({"who": "a@b.test", "until": "2027-01-01", "seconds": 1}),
            "say `until` or `seconds`, not both",
        ),
        ("list", json!({"source": "x"}), "no source `x`"),
    ] {
        let error = ask(&list, name, input).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{name}");
    }
    let closed = Suppression::new(SuppressionRules::default());
    let error = ask(&closed, "list", json!({})).await.unwrap_err();
    assert_eq!(error, CommandError::Unavailable("there is no suppression list".to_owned()));
}

#[test]
fn rules_are_those_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let check = |keys: &str, expected: Result<SuppressionRules, &str>| {
        let (config, file) = config(directory.path(), keys);
        let rules = rules(config.suppression.as_ref().unwrap(), file.errors());
        let told: Vec<_> = file.errors().sorted().iter().map(|e| e.message.clone()).collect();
        match expected {
            Ok(expected) => assert_eq!((rules, told), (expected, vec![]), "{keys}"),
            Err(expected) => assert!(told.join("; ").contains(expected), "{told:?}"),
        }
    };
    let usual = SuppressionRules::default();
    check("", Ok(usual.clone()));
    let classes = vec![BounceClass::UnknownUser, BounceClass::BadDomain];
    check(
        "bounces = 3\nclasses = [\"unknown-user\", \"bad-domain\"]\nbounce_for = \"0s\"\n\
         complaint_for = \"1d\"\nentries = 5",
        Ok(SuppressionRules {
            bounces: 3,
            classes,
            bounce_for: None,
            complaint_for: Some(Duration::from_secs(86_400)),
            most: 5,
            ..usual
        }),
    );
    check("classes = [\"unknown\"]", Err("`unknown`: not a class of bounces: mailbox-full,"));
    check("entries = 0", Err("0 is not between 1 and 10000000"));
}
