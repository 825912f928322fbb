//! Which crate may depend on which: the manifests against `xtask/arrows.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use crate::workspace::{Dependency, Package, Workspace};

const RULES: &str = "xtask/arrows.toml";

/// `xtask/arrows.toml`. Crates are named as their directories.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    crates: BTreeMap<String, Crate>,
    tier0: Tier0,
    /// An outside crate, or a prefix that ends in `*`, to those who may use it. The exact name
    /// speaks before a prefix.
    outside: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crate {
    tier: u8,
    /// Our own crates it may name; `*` is any.
    may: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier0 {
    may: Vec<String>,
    /// What tests of tier 0 may use besides.
    dev: Vec<String>,
}

/// A member, with the names that the rules use.
struct Member<'a> {
    name: &'a str,
    manifest: PathBuf,
    text: String,
    dependencies: &'a [Dependency],
}

pub(super) fn gate(workspace: &Workspace) -> Result<Vec<Finding>> {
    let text = workspace.text(Path::new(RULES))?.context("arrows.toml is not UTF-8")?;
    let rules: Rules = toml::from_str(&text).context(RULES)?;
    let packages = workspace.packages()?;
    let mut members = Vec::new();
    for package in &packages {
        members.extend(member(workspace, package)?);
    }
    let mut findings = check_rules(&rules);
    findings.extend(members.iter().flat_map(|member| check(&rules, member)));
    Ok(findings)
}

/// `None` for a package of `tests/`, which may use whatever it tests with.
fn member<'a>(workspace: &Workspace, package: &'a Package) -> Result<Option<Member<'a>>> {
    let manifest = package
        .manifest_path
        .strip_prefix(&workspace.root)
        .context("a member lies outside the workspace")?;
    if manifest.starts_with("tests") {
        return Ok(None);
    }
    let text = workspace.text(manifest)?.context("a manifest is not UTF-8")?;
    Ok(Some(Member {
        name: short(&package.name),
        manifest: manifest.to_owned(),
        text,
        dependencies: &package.dependencies,
    }))
}

/// `merpati-wire` is `wire` in the rules; `merpati` itself and `xtask` keep their names.
fn short(package: &str) -> &str {
    package.strip_prefix("merpati-").unwrap_or(package)
}

/// The rules themselves: no edge goes up a tier or to a crate that has no entry.
fn check_rules(rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, of) in &rules.crates {
        for to in of.may.iter().filter(|to| *to != "*") {
            let message = match rules.crates.get(to) {
                None => format!("`{name}` may use `{to}`, which has no entry"),
                Some(target) if target.tier > of.tier => {
                    format!("the edge `{name}` → `{to}` goes up, to tier {}", target.tier)
                }
                Some(target) if target.tier == 2 && of.tier == 2 => {
                    format!("the edge `{name}` → `{to}` joins two adapters")
                }
                Some(_) => continue,
            };
            findings.push(Finding::of(RULES, message));
        }
    }
    findings
}

fn check(rules: &Rules, member: &Member<'_>) -> Vec<Finding> {
    let Some(of) = rules.crates.get(member.name) else {
        let message = format!("`{}` has no entry in {RULES}", member.name);
        return vec![Finding::of(&member.manifest, message)];
    };
    let breach = |dependency: &Dependency| {
        let message = if dependency.path.is_some() {
            inside(of, member.name, dependency)
        } else {
            outside(rules, of, member.name, dependency)
        }?;
        let line = line_of(&member.text, dependency);
        Some(Finding { path: member.manifest.clone(), line, message })
    };
    member.dependencies.iter().filter_map(breach).collect()
}

fn is_dev(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() == Some("dev")
}

fn inside(of: &Crate, name: &str, dependency: &Dependency) -> Option<String> {
    let to = short(&dependency.name);
    let allowed = of.may.iter().any(|may| may == to || may == "*");
    if allowed || (is_dev(dependency) && to == "testkit") {
        return None;
    }
    let role = if is_dev(dependency) { " in tests" } else { "" };
    Some(format!("`{name}` may not depend on `{to}`{role}: no such edge in {RULES}"))
}

fn outside(rules: &Rules, of: &Crate, name: &str, dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    if of.tier == 0 {
        let mut allowed = rules.tier0.may.iter();
        let mut dev = rules.tier0.dev.iter();
        let tolerated =
            allowed.any(|may| may == to) || (is_dev(dependency) && dev.any(|may| may == to));
        return (!tolerated).then(|| {
            format!("`{name}` is of tier 0 and may not use `{to}`: see [tier0] in {RULES}")
        });
    }
    if is_dev(dependency) {
        return None;
    }
    let users = users_of(rules, to)?;
    (!users.iter().any(|user| user == name)).then(|| {
        format!(
            "`{name}` may not use `{to}`, which is for {}: see [outside] in {RULES}",
            users.join(", ")
        )
    })
}

/// Who may use an outside crate; `None` is everyone.
fn users_of<'a>(rules: &'a Rules, to: &str) -> Option<&'a [String]> {
    let prefixed = || {
        rules.outside.iter().find_map(|(pattern, users)| {
            pattern.strip_suffix('*').filter(|prefix| to.starts_with(prefix)).map(|_| users)
        })
    };
    rules.outside.get(to).or_else(prefixed).map(Vec::as_slice)
}

/// Where the manifest names a dependency, in the section of its kind.
fn line_of(manifest: &str, dependency: &Dependency) -> Option<usize> {
    let section = match dependency.kind.as_deref() {
        Some("dev") => "dev-dependencies",
        Some("build") => "build-dependencies",
        _ => "dependencies",
    };
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if header.ends_with(&format!("{section}.{}", dependency.name)) {
                return Some(index + 1);
            }
            inside = header == section || header.ends_with(&format!(".{section}"));
        }
        let key = line.split(['.', '=', ' ']).next().unwrap_or_default();
        let names_it = key == dependency.name || line.contains(&format!("\"{}\"", dependency.name));
        if inside && names_it {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: &str = r#"
        [crates]
        types = { tier = 0, may = [] }
        session = { tier = 0, may = ["types"] }
        store = { tier = 1, may = [] }
        dns = { tier = 2, may = ["types"] }
        spool = { tier = 2, may = ["store", "types"] }
        testkit = { tier = 4, may = ["*"] }
        [tier0]
        may = ["bytes"]
        dev = ["proptest"]
        [outside]
        sled = ["store"]
        "hickory-*" = ["dns"]
        hickory-proto = ["spool"]
    "#;

    fn rules(text: &str) -> Rules {
        toml::from_str(text).unwrap()
    }

    /// One edge, as `from kind to`; ours begin with `merpati-`.
    fn breach(edge: &str) -> Option<String> {
        let [name, kind, to] = edge.split(' ').collect::<Vec<_>>()[..] else { panic!("{edge}") };
        let dependency = Dependency {
            name: to.to_owned(),
            kind: (kind != "normal").then(|| kind.to_owned()),
            path: to.starts_with("merpati-").then(PathBuf::new),
        };
        let member = Member {
            name,
            manifest: PathBuf::from("Cargo.toml"),
            text: String::new(),
            dependencies: &[dependency],
        };
        check(&rules(PLANTED), &member).pop().map(|finding| finding.message)
    }

    #[test]
    fn edges_that_are_named_pass() {
        for edge in [
            "session normal merpati-types",
            "session normal bytes",
            "session dev proptest",
            "session dev merpati-testkit",
            "spool normal merpati-store",
            "store normal sled",
            "spool dev sled",
            "dns normal hickory-resolver",
            "spool normal hickory-proto",
            "dns normal anything-else",
            "testkit normal merpati-spool",
        ] {
            assert_eq!(breach(edge), None, "{edge}");
        }
    }

    #[test]
    fn edges_that_are_not_named_fail() {
        for (edge, why) in [
            ("types normal merpati-session", "no such edge"),
            ("session normal merpati-testkit", "no such edge"),
            ("spool normal merpati-dns", "no such edge"),
            ("spool dev merpati-dns", "in tests"),
            ("session normal tokio", "tier 0"),
            ("session dev tokio", "tier 0"),
            ("session normal proptest", "tier 0"),
            ("spool normal sled", "which is for store"),
            ("spool build sled", "which is for store"),
            ("spool normal hickory-resolver", "which is for dns"),
            ("dns normal hickory-proto", "which is for spool"),
            ("unheard-of normal bytes", "has no entry"),
        ] {
            let message = breach(edge).unwrap_or_else(|| panic!("{edge} passed"));
            assert!(message.contains(why), "{edge}: {message}");
        }
    }

    #[test]
    fn rules_that_break_the_tiers_fail() {
        assert_eq!(check_rules(&rules(PLANTED)), []);
        for (from, to, why) in [
            ("store = { tier = 1, may = [] }", r#"store = { tier = 1, may = ["dns"] }"#, "goes up"),
            (r#"may = ["store", "types"]"#, r#"may = ["dns"]"#, "two adapters"),
            (r#"may = ["store", "types"]"#, r#"may = ["gone"]"#, "no entry"),
        ] {
            let findings = check_rules(&rules(&PLANTED.replace(from, to)));
            assert_eq!(findings.len(), 1, "{to}");
            assert!(findings[0].message.contains(why), "{}", findings[0]);
        }
    }

    #[test]
    fn a_breach_names_the_line() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nbytes = \"1\"\n\n\
                        [dev-dependencies]\nbytes = \"1\"\n\n[dependencies.sled]\n";
        for (name, kind, line) in [
            ("bytes", None, Some(5)),
            ("bytes", Some("dev"), Some(8)),
            ("sled", None, Some(10)),
            ("gone", None, None),
        ] {
            let kind = kind.map(str::to_owned);
            let dependency = Dependency { name: name.to_owned(), kind, path: None };
            assert_eq!(line_of(manifest, &dependency), line, "{name}");
        }
    }
}
