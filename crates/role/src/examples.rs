//! The servers' example files: they load as they stand, what is commented is the default, and no
//! key is left out.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use merpati_config::sections::{Deliver, Dns, Listen, OfferRule, Spool};
use merpati_config::{ConfigFile, RoleConfig};
use merpati_plugin::chain::DEFAULT_TIME_LIMIT;
use merpati_plugin::options::Place;
use tempfile::TempDir;

use crate::compose::compose;
use crate::role::Role;

/// A role, and its example with paths that lead to files that are there.
struct Example {
    role: Role,
    text: String,
    _files: TempDir,
}

impl Example {
    fn all() -> Vec<Self> {
        [Role::submission(), Role::relay(), Role::mx()].into_iter().map(Self::of).collect()
    }

    fn of(role: Role) -> Self {
        let binary = role.kind.binary();
        let directory = binary.strip_prefix("merpati-").unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bins").join(directory);
        let text = fs::read_to_string(path.join("example.toml")).unwrap();
        let files = write_files();
        let text = only_built(&text)
            .replace(&format!("/etc/{binary}"), files.path().to_str().expect("it is UTF-8"));
        Self { role, text, _files: files }
    }

    /// The text as a file, but for DNS servers, which the host may not name.
    fn parse(text: &str) -> ConfigFile {
        let text = text.replace("servers = []", "servers = [\"127.0.0.1\"]");
        ConfigFile::parse("example.toml", text)
    }

    #[track_caller]
    fn check(&self, text: &str) {
        let file = Self::parse(text);
        let composed = compose(&self.role, &file);
        let told: Vec<_> = file.errors().sorted().iter().map(ToString::to_string).collect();
        assert_eq!(told, Vec::<String>::new(), "{}", self.role.kind.binary());
        assert!(composed.is_some(), "{}", self.role.kind.binary());
    }

    fn read(&self, text: &str) -> RoleConfig {
        let file = ConfigFile::parse("example.toml", text);
        let config = RoleConfig::read(file.options());
        file.verdict().unwrap_or_else(|report| panic!("{}: {report}", self.role.kind.binary()));
        config
    }
}

/// The key of the root zone since 2018, as IANA publishes it.
const ROOT_KEY: &str = ". IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/\
    4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3\
    EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1u\
    TIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=\n";

/// Everything that the examples name under /etc.
fn write_files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["mail.test".to_owned()]).unwrap();
    let certificate = certified.cert.pem();
    let dkim_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    for (name, text) in [
        ("cert.pem", certificate.as_str()),
        ("key.pem", &certified.signing_key.serialize_pem()),
        ("clients.pem", &certificate),
        ("client.pem", &certificate),
        ("client.key", &certified.signing_key.serialize_pem()),
        ("roots.pem", &certificate),
        ("users", "# nobody\n"),
        ("recipients", "alice@example.org\n"),
        ("routes", "partner.example smarthost\n"),
        ("rewrites", "/^(.*)@old\\.example$/ $1@example.org\n"),
        ("suppressed", "loud@example.org 2026-12-31 full\n"),
        ("dkim.pem", &dkim_key),
        ("wording.txt", "[language]\nde\n"),
        ("classes.txt", "policy 5.7.*\n"),
        ("srs.key", "tops3cret\n"),
        ("batv.key", "tops3cret\n"),
        ("password", "open sesame\n"),
        ("root.key", ROOT_KEY),
        ("token", "open sesame\n"),
        ("access-token", "ya29.a0AfH6SM\n"),
    ] {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    files
}

/// Kinds of table that this build has no drivers for.
const NOT_BUILT: &[&str] = if cfg!(feature = "databases") { &[] } else { &["ldap", "sql"] };

/// The text without tables that this build has no drivers for.
fn only_built(text: &str) -> String {
    let mut paragraphs: Vec<_> = text.split("\n\n").collect();
    paragraphs
        .retain(|paragraph| !NOT_BUILT.iter().any(|k| paragraph.contains(&format!("[table.{k}]"))));
    paragraphs.join("\n\n")
}

/// The text with every commented key in force: `#key = …` and `#[section]`, while prose has a
/// space after its `#`.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let key = line.strip_prefix('#').filter(|rest| {
            rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase())
        });
        key.unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn they_load_with_comments_and_without() {
    for example in Example::all() {
        example.check(&example.text);
        example.check(&uncommented(&example.text));
    }
}

#[test]
fn what_is_commented_is_the_default() {
    for example in Example::all() {
        let plain = example.read(&example.text);
        let full = example.read(&uncommented(&example.text));
        assert_eq!(plain.log, full.log);
        assert_eq!(plain.admin.socket, full.admin.socket);
        assert_eq!(plain.limits, full.limits);
        let repeat_window = Some(example.role.kind.repeat_window());
        assert_eq!(Spool { repeat_window, ..plain.spool }, full.spool);
        // Nor is its trust anchor.
        assert_eq!(plain.dns, Dns { trust_anchor: None, ..full.dns });
        // Policies decide by default, and the example's files are but examples.
        let Deliver { tls, ca, identity, source_pool, .. } = plain.deliver.clone();
        assert_eq!(plain.deliver, Deliver { tls, ca, identity, source_pool, ..full.deliver });
        let auth = example.role.kind.auth();
        let shown = |listen: &Listen| {
            let auth = Some(listen.auth.unwrap_or(auth));
            let kind = example.role.kind;
            let offer = |rule: Option<OfferRule>| Some(rule.unwrap_or(kind.offer()));
            let shown = Listen {
                auth,
                future_release: Some(listen.future_release.unwrap_or(kind.future_release())),
                deliver_by: offer(listen.deliver_by),
                mt_priority: offer(listen.mt_priority),
                place: Place::default(),
                ..listen.clone()
            };
            format!("{shown:#?}")
        };
        let [plain, full_ones] = [&plain.listeners, &full.listeners]
            .map(|listeners| listeners.iter().map(shown).collect::<Vec<_>>());
        assert_eq!(plain, full_ones);
        let limits: BTreeSet<_> = full.policies.iter().map(|policy| policy.time_limit).collect();
        assert_eq!(limits, BTreeSet::from([Some(DEFAULT_TIME_LIMIT)]));
    }
}

/// A section of a file: what stands under one header.
struct Section<'t> {
    /// Its header's line, from 1; 0 for the top.
    line: usize,
    /// What tells it from other kinds of section: the header, and the plugin it is for.
    kind: (&'t str, &'t str),
    keys: Vec<&'t str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { line: 0, kind: ("", ""), keys: Vec::new() }];
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('[') {
            let header = line.trim_matches(['[', ']']);
            sections.push(Section { line: number, kind: (header, ""), keys: Vec::new() });
        } else if let (Some((key, value)), Some(section)) =
            (line.split_once(" = "), sections.last_mut())
            && !key.starts_with('#')
        {
            section.keys.push(key);
            if key == "use" {
                section.kind.1 = value;
            }
        }
    }
    sections
}

/// A key that nobody knows makes every section's reader say which ones it does.
#[test]
fn no_key_is_left_out() {
    const STRANGER: &str = "zzzzzzzzzzzzzzzz";
    for example in Example::all() {
        let text = uncommented(&example.text);
        let sections = sections(&text);
        let mut asked = format!("{STRANGER} = 0\n");
        // Each stranger moves what follows down by one; this is where each one stands.
        let mut strangers = vec![(1, &sections[0])];
        for (line, number) in text.lines().zip(1..) {
            asked += &format!("{line}\n");
            let begun = sections.iter().find(|section| section.line == number);
            // Any key of a table or transport may be its kind: strangers are no strangers there.
            if let Some(section) = begun.filter(|s| !["table", "transport"].contains(&s.kind.0)) {
                asked += &format!("{STRANGER} = 0\n");
                strangers.push((asked.lines().count(), section));
            }
        }
        let file = Example::parse(&asked);
        let _ = compose(&example.role, &file);
        let errors = file.errors().sorted();
        let headers: BTreeSet<_> = sections.iter().map(|section| section.kind.0).collect();
        for (line, section) in strangers {
            let error = errors
                .iter()
                .find(|error| error.place.span.line == line && error.message.contains(STRANGER));
            let place = format!("{} {:?}", example.role.kind.binary(), section.kind);
            let Some(error) = error else { panic!("nobody minds a stranger in {place}") };
            let help = error.help.as_deref().unwrap_or_default();
            let known = help.strip_prefix("known: ").unwrap_or_default().split(", ");
            for key in known.map(|key| key.trim_matches('`')).filter(|key| !key.is_empty()) {
                let same = sections.iter().filter(|other| other.kind == section.kind);
                let below = format!("{}.{key}", section.kind.0);
                let shown = same.flat_map(|section| &section.keys).any(|shown| *shown == key)
                    || headers.contains(below.trim_start_matches('.'));
                assert!(shown, "`{key}` is missing in {place}");
            }
        }
    }
}
