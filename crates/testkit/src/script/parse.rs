//! Reads scripts.

use std::path::Path;

use super::rules::{Profile, Rule, Setting, SettingError, Setup, duration};
use super::text::{Pattern, unescape};
use super::{Case, Cutting, Runner, ScriptError, Step, StepKind};

const ALL: [Runner; 3] = [Runner::Machine, Runner::Driver, Runner::Server];

pub(super) fn cases(path: &Path, text: &str) -> Result<Vec<Case>, ScriptError> {
    let title = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into());
    let common = Case {
        path: path.to_owned(),
        title,
        setup: Setup::new(Profile::Mx),
        cutting: Cutting::Free,
        runners: ALL.to_vec(),
        steps: Vec::new(),
    };
    let mut cases = vec![common];
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        if let Some(title) = line.strip_prefix("===") {
            // Steps before the first title begin every case of the file.
            let mut next = cases[0].clone();
            title.trim().clone_into(&mut next.title);
            cases.push(next);
            continue;
        }
        let current = cases.last_mut().expect("there is one from the start");
        if let Err(SettingError(reason)) = current.read(at, line) {
            return Err(current.fails(at, format!("{reason}: {line}")));
        }
    }
    if cases.len() > 1 {
        cases.remove(0);
    }
    Ok(cases)
}

impl Case {
    fn read(&mut self, at: usize, line: &str) -> Result<(), SettingError> {
        let line = line.trim_start();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            _ if word.starts_with('#') => {}
            "profile" => {
                let profile = Profile::named(rest).ok_or(SettingError("no such profile"))?;
                if !self.setup.is_plain() {
                    return Err(SettingError("the profile comes before settings and rules"));
                }
                self.setup = Setup::new(profile);
            }
            "set" => {
                let (name, value) =
                    rest.split_once(' ').ok_or(SettingError("a value is missing"))?;
                let setting = Setting { name: name.to_owned(), value: value.trim().to_owned() };
                self.setup.set(&setting)?;
            }
            "?" => self.setup.add_rule(Rule::parse(rest)?),
            "whole" => self.cutting = Cutting::Whole,
            "on" => self.runners = rest.split(' ').map(runner).collect::<Result<_, _>>()?,
            _ => self.steps.push(Step { line: at, kind: step(word, rest)? }),
        }
        Ok(())
    }
}

fn runner(name: &str) -> Result<Runner, SettingError> {
    Ok(match name {
        "machine" => Runner::Machine,
        "driver" => Runner::Driver,
        "server" => Runner::Server,
        _ => return Err(SettingError("runners are machine, driver and server")),
    })
}

fn counted(text: &str) -> Result<(usize, &str), SettingError> {
    let (count, rest) = text.split_once(' ').ok_or(SettingError("a count is needed"))?;
    Ok((count.parse().map_err(|_| SettingError("a count is needed"))?, rest))
}

fn step(word: &str, rest: &str) -> Result<StepKind, SettingError> {
    let bytes = |text| unescape(text).ok_or(SettingError("unknown escape"));
    Ok(match (word, rest) {
        ("C:", line) => StepKind::Write(format!("{line}\r\n").into_bytes()),
        ("C!", text) => StepKind::Write(bytes(text)?),
        ("C*", text) => {
            let (count, text) = counted(text)?;
            StepKind::Write(bytes(text)?.repeat(count))
        }
        ("C.", "closed") => StepKind::Leave,
        ("C.", "handshake") => StepKind::Handshake,
        ("S:", pattern) => StepKind::Lines(1, Pattern::new(pattern)),
        ("S=", text) => {
            let (count, pattern) = counted(text)?;
            StepKind::Lines(count, Pattern::new(pattern))
        }
        ("S*", code) => StepKind::Reply(code.to_owned()),
        ("S+", pattern) => StepKind::Has(Pattern::new(pattern)),
        ("S-", pattern) => StepKind::Lacks(Pattern::new(pattern)),
        ("S.", "closed") => StepKind::Closed,
        ("S.", "waits") => StepKind::Waits,
        ("M!", text) => StepKind::Kept(bytes(text)?),
        ("M.", "none") => StepKind::NoneKept,
        ("+", time) => StepKind::Pass(duration(time.trim())?),
        _ => return Err(SettingError("no such line")),
    })
}
