//! Short files, short functions, and no left-overs.
//!
//! | rule | where |
//! |---|---|
//! | at most [`MAX_FILE_LINES`] lines, tests not counted | Rust files outside `tests` |
//! | at most [`MAX_FUNCTION_LINES`] lines a function | all Rust files |
//! | `//!` first; no `mod.rs`; no ignored test or example | all Rust files |
//! | no sleep, no port chosen beforehand | tests |
//! | no note of unfinished work; a known failure says what and why, in tests | all text files but prose |
//! | no path of somebody's machine | all text files |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::rust::Source;
use super::Finding;
use crate::workspace::Workspace;

mod rust;

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

/// Written in halves, since this file is checked like every other.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("XX", "X"), concat!("HA", "CK")];
const KNOWN_FAILURE: &str = concat!("FIX", "ME");
const MACHINE_PATHS: [&str; 3] =
    [concat!("/", "work/"), concat!("/", "home/"), concat!("/", "root/")];

pub(super) fn gate(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    for path in workspace.files()? {
        if let Some(text) = workspace.text(&path)? {
            files.push((path, text));
        }
    }
    Ok(check(&files))
}

fn check(files: &[(PathBuf, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for (path, text) in files {
        if path.extension().is_some_and(|extension| extension == "rs") {
            match Source::parse(path, text) {
                Ok(source) => sources.push(source),
                Err(finding) => findings.push(finding),
            }
        }
    }
    // A test module in a file of its own is declared as one by its parent.
    let declared: BTreeSet<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &Path| {
        path.components().any(|part| part.as_os_str() == "tests")
            || path.ancestors().any(|part| declared.contains(&part.with_extension("")))
    };
    for source in &sources {
        findings.extend(source.check(is_test(source.path)));
    }
    for (path, text) in files {
        findings.extend(check_text(path, text, is_test(path)));
    }
    findings.sort();
    findings
}

/// The rules for text of any language.
fn check_text(path: &Path, text: &str, in_test: bool) -> Vec<Finding> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    // Lock files and corpora are data.
    if extension == "lock" || path.starts_with("tests/data") || path.starts_with("tests/fuzz") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut say = |why: String| findings.push(Finding::at(path, index + 1, why));
        for machine in MACHINE_PATHS {
            if names_path(line, machine) {
                say(format!("`{machine}` is a path of one machine"));
            }
        }
        if extension == "md" {
            continue;
        }
        for note in NOTES {
            if word_at(line, note).is_some() {
                say(format!("`{note}`: finish it, or file it where work is planned"));
            }
        }
        if let Some(at) = word_at(line, KNOWN_FAILURE) {
            let why = line[at + KNOWN_FAILURE.len()..].strip_prefix(": ");
            if !in_test {
                say(format!("`{KNOWN_FAILURE}` outside tests: finish it"));
            } else if why.is_none_or(|why| why.split_whitespace().count() < 3) {
                say(format!("bare `{KNOWN_FAILURE}`: say `{KNOWN_FAILURE}: what and why`"));
            }
        }
    }
    findings
}

/// Whether `line` holds an absolute path that begins with `prefix`.
fn names_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}>)/".contains(c))
    })
}

fn word_at(line: &str, word: &str) -> Option<usize> {
    let inner = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !line[..at].ends_with(inner) && !line[at + word.len()..].starts_with(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, text: &str) -> Vec<String> {
        let findings = check(&[(PathBuf::from(path), text.to_owned())]);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn left_overs_are_found() {
        let [note, ..] = NOTES;
        let [.., somewhere] = MACHINE_PATHS;
        let fixme = KNOWN_FAILURE;
        let src = "crates/x/src/lib.rs";
        let test = "crates/x/tests/it.rs";
        for (path, line, bad) in [
            (src, format!("// {note}: more"), true),
            (src, format!("// {note}S and mas{note}"), false),
            ("a.toml", format!("# {note}"), true),
            ("a.md", format!("no bare {note}"), false),
            (src, format!("// {fixme}: the peer folds twice, which we keep"), true),
            (test, format!("// {fixme}: the peer folds twice, which we keep"), false),
            (test, format!("// {fixme}"), true),
            (test, format!("// {fixme}: soon"), true),
            ("a.md", format!("in {somewhere}x"), true),
            ("a.toml", format!("at = \"{somewhere}x\""), true),
            ("a.toml", format!("at = \"target{somewhere}x\""), false),
            ("tests/data/a.eml", format!("in {somewhere}x"), false),
            ("Cargo.lock", format!("in {somewhere}x"), false),
        ] {
            let said = said(path, &format!("//! X.\n{line}\n"));
            assert_eq!(said.len(), usize::from(bad), "{path}: {line}: {said:?}");
            assert!(said.iter().all(|said| said.starts_with(&format!("{path}:2: "))), "{said:?}");
        }
    }

    #[test]
    fn a_test_module_of_its_own_file_is_a_test() {
        let long = format!("//! X.\n{}", "//\n".repeat(MAX_FILE_LINES));
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let cases = [
            ("#[cfg(test)]\nmod cases;", "crates/x/src/cases.rs", true),
            ("#[cfg(test)]\nmod cases;", "crates/x/src/cases/deep.rs", true),
            ("mod cases;", "crates/x/src/cases.rs", false),
            ("#[cfg(not(test))]\nmod cases;", "crates/x/src/cases.rs", false),
            ("#[cfg(test)]\nmod cases;", "crates/x/src/other.rs", false),
        ];
        for (declaration, path, is_test) in cases {
            let parent = file("crates/x/src/lib.rs", &format!("//! X.\n{declaration}\n"));
            let findings = check(&[parent, file(path, &long)]);
            assert_eq!(findings.is_empty(), is_test, "{declaration} {path}: {findings:?}");
        }
    }
}
