//! The README's table of RFCs: rendered from `xtask/rfcs.toml`, every row with its evidence.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Finding;
use crate::workspace::Workspace;

const DATA: &str = "xtask/rfcs.toml";
const README: &str = "README.md";
const BEGIN: &str = "<!-- rfcs -->\n";
const END: &str = "<!-- /rfcs -->";

/// `xtask/rfcs.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    rfc: Vec<toml::Spanned<Row>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    number: u32,
    title: String,
    /// A section or feature; `None` is the whole RFC.
    part: Option<String>,
    server: Option<Support>,
    client: Option<Support>,
    /// Paths from the root, each with `::test_name` or without.
    evidence: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Support {
    Yes,
    Partial,
    /// Parsed and written by the codec; the servers do not offer it.
    Wire,
}

pub(super) fn gate(workspace: &Workspace) -> Result<Vec<Finding>> {
    let (text, table) = load(workspace)?;
    let mut findings = check_evidence(&text, &table, |path| workspace.text(path).ok().flatten());
    let readme = fs::read_to_string(workspace.root.join(README)).ok();
    findings.extend(check_readme(readme.as_deref(), &render(&table)));
    Ok(findings)
}

/// Prints the table.
pub(crate) fn show(workspace: &Workspace) -> Result<()> {
    print!("{}", render(&load(workspace)?.1));
    Ok(())
}

/// Puts the table between the README's markers.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let path = workspace.root.join(README);
    let mut readme = fs::read_to_string(&path).context(README)?;
    let Some(place) = between_markers(&readme) else {
        bail!("{README} lacks the markers {} and {END}", BEGIN.trim());
    };
    readme.replace_range(place, &render(&load(workspace)?.1));
    fs::write(&path, readme).context(README)
}

fn load(workspace: &Workspace) -> Result<(String, Table)> {
    let text = workspace.text(Path::new(DATA))?.context("rfcs.toml is not UTF-8")?;
    let table = toml::from_str(&text).context(DATA)?;
    Ok((text, table))
}

fn render(table: &Table) -> String {
    let mut out = String::from(
        "| RFC | Title | Part | Server | Client | Evidence |\n|---|---|---|---|---|---|\n",
    );
    for row in table.rfc.iter().map(toml::Spanned::get_ref) {
        let evidence: Vec<_> = row.evidence.iter().map(|evidence| link(evidence)).collect();
        let (number, title) = (row.number, &row.title);
        writeln!(
            out,
            "| [{number}](https://www.rfc-editor.org/rfc/rfc{number}) | {title} | {} | {} | {} | {} |",
            row.part.as_deref().unwrap_or("all"),
            word(row.server),
            word(row.client),
            evidence.join(", "),
        )
        .expect("writing to a string cannot fail");
    }
    out
}

fn word(support: Option<Support>) -> &'static str {
    match support {
        Some(Support::Yes) => "yes",
        Some(Support::Partial) => "partial",
        Some(Support::Wire) => "wire",
        None => "–",
    }
}

fn link(evidence: &str) -> String {
    let (path, test) = split(evidence);
    let file = path.rsplit('/').next().unwrap_or(path);
    format!("[{}]({path})", test.unwrap_or(file))
}

fn split(evidence: &str) -> (&str, Option<&str>) {
    match evidence.split_once("::") {
        Some((path, test)) => (path, Some(test)),
        None => (evidence, None),
    }
}

/// `read` answers the text of a file of the tree, if there is such a file.
fn check_evidence(
    text: &str,
    table: &Table,
    read: impl Fn(&Path) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in &table.rfc {
        let line = text[..row.span().start].matches('\n').count() + 1;
        let number = row.get_ref().number;
        let mut say = |why: String| {
            findings.push(Finding::at(DATA, line, format!("RFC {number}: {why}")));
        };
        if row.get_ref().evidence.is_empty() {
            say("there is no evidence".to_owned());
        }
        for evidence in &row.get_ref().evidence {
            let (path, test) = split(evidence);
            match (read(Path::new(path)), test) {
                (None, _) => say(format!("there is no file `{path}`")),
                (Some(source), Some(test)) if !has_test(&source, test) => {
                    say(format!("there is no test `{test}` in `{path}`"));
                }
                (Some(_), _) => {}
            }
        }
    }
    findings
}

/// `test` may be a path of modules; its last name is what the file must define.
fn has_test(source: &str, test: &str) -> bool {
    let name = test.rsplit("::").next().unwrap_or(test);
    source.match_indices(&format!("fn {name}")).any(|(at, found)| {
        !source[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

fn between_markers(readme: &str) -> Option<Range<usize>> {
    let start = readme.find(BEGIN)? + BEGIN.len();
    let length = readme[start..].find(END)?;
    Some(start..start + length)
}

fn check_readme(readme: Option<&str>, expected: &str) -> Vec<Finding> {
    let Some(readme) = readme else {
        return vec![Finding::of(README, "there is none")];
    };
    let Some(place) = between_markers(readme) else {
        let why = format!("the markers {} and {END} are missing", BEGIN.trim());
        return vec![Finding::of(README, why)];
    };
    let actual = &readme[place.clone()];
    if actual == expected {
        return Vec::new();
    }
    let first = readme[..place.start].lines().count() + 1;
    let same = actual.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    let why = format!("the table differs from {DATA}; `cargo xtask rfcs --write` renders it");
    vec![Finding::at(README, first + same, why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "# rows\n\n[[rfc]]\nnumber = 5321\ntitle = \"SMTP\"\nserver = \"yes\"\n\
                        evidence = [\"tests/scripts/a.smtp\", \"x.rs::tests::it_works\"]\n";

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    fn tree(path: &Path) -> Option<String> {
        match path.to_str()? {
            "tests/scripts/a.smtp" => Some("S: 220 *".to_owned()),
            "x.rs" => Some("#[test]\nfn it_works() {}\nfn more_of_it() {}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_row_becomes_a_line() {
        let line = "| [5321](https://www.rfc-editor.org/rfc/rfc5321) | SMTP | all | yes | – | \
                    [a.smtp](tests/scripts/a.smtp), [tests::it_works](x.rs) |\n";
        assert!(render(&table(ROWS)).ends_with(line));
        assert_eq!(render(&table("")).lines().count(), 2);
    }

    #[test]
    fn evidence_that_is_missing_is_found() {
        assert_eq!(check_evidence(ROWS, &table(ROWS), tree), []);
        for (from, to, why) in [
            ("a.smtp", "gone.smtp", "no file `tests/scripts/gone.smtp`"),
            ("it_works", "it_work", "no test `tests::it_work` in `x.rs`"),
            ("it_works", "gone", "no test `tests::gone` in `x.rs`"),
            ("[\"tests/scripts/a.smtp\", \"x.rs::tests::it_works\"]", "[]", "no evidence"),
        ] {
            let text = ROWS.replace(from, to);
            let findings = check_evidence(&text, &table(&text), tree);
            assert_eq!(findings.len(), 1, "{to}");
            assert_eq!(findings[0].line, Some(3), "{}", findings[0]);
            assert!(findings[0].message.contains(why), "{}", findings[0]);
        }
    }

    #[test]
    fn a_readme_that_differs_is_found() {
        let right = format!("# M\n\n{BEGIN}{}{END}\n", render(&table(ROWS)));
        let check = |readme: Option<&str>| check_readme(readme, &render(&table(ROWS)));
        assert_eq!(check(Some(&right)), []);
        let edited = check(Some(&right.replace("| yes |", "| partial |")));
        assert_eq!(edited[0].line, Some(6), "{}", edited[0]);
        let short = check(Some(&format!("{BEGIN}{END}")));
        assert_eq!(short[0].line, Some(2), "{}", short[0]);
        assert!(check(Some("# M\n"))[0].message.contains("markers"));
        assert!(check(None)[0].message.contains("there is none"));
    }
}
