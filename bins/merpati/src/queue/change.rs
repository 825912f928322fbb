//! Changing many parcels: step by step, with progress, and to be interrupted without harm.

use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use merpati_ops::api::{ActionRequest, Changed};
use serde_json::json;

use super::{Bulk, Queue};
use crate::Told;
use crate::interrupt::Interrupt;

/// How progress is shown.
enum Progress {
    Hidden,
    /// One line, written over again and again.
    Redrawn,
    /// A line for each step.
    Lines,
}

impl Queue<'_> {
    pub(super) fn change(
        &self,
        action: &str,
        bulk: &Bulk,
        reason: Option<&str>,
    ) -> anyhow::Result<()> {
        let progress = match (io::stderr().is_terminal(), bulk.progress) {
            (true, _) => Progress::Redrawn,
            (false, true) => Progress::Lines,
            (false, false) => Progress::Hidden,
        };
        let interrupt = Interrupt::listen();
        let mut changed = 0;
        for selection in bulk.which.selections() {
            let mut request = ActionRequest {
                selection,
                reason: reason.map(str::to_owned),
                cursor: bulk.after.clone(),
                step: Some(bulk.step.into()),
            };
            loop {
                if interrupt.is_set() {
                    progress.end();
                    return self.interrupted(action, changed, request.cursor.as_deref());
                }
                let path = format!("/v1/queue/{action}");
                let answer = self.client.post::<Changed>(&path, &request);
                let answer = answer.with_context(|| stopped(changed, request.cursor.as_deref()))?;
                changed += answer.changed;
                progress.show(action, changed);
                request.cursor = answer.next;
                if request.cursor.is_none() {
                    break;
                }
            }
        }
        progress.end();
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", json!({ "changed": changed }))?;
        } else {
            writeln!(out, "{action}: {changed}")?;
        }
        Ok(())
    }

    fn interrupted(&self, action: &str, changed: u64, place: Option<&str>) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            let after = place;
            writeln!(out, "{}", json!({ "changed": changed, "after": after }))?;
        } else {
            writeln!(out, "{action}: {}", stopped(changed, place))?;
        }
        out.flush()?;
        Err(Told::Interrupted.into())
    }
}

/// How far it has come, and how to go on.
fn stopped(changed: u64, place: Option<&str>) -> String {
    let again = match place {
        Some(place) => format!("the same command with --after {place} goes on"),
        None => "the same command does the rest".to_owned(),
    };
    format!("stopped after {changed}; {again}")
}

impl Progress {
    fn show(&self, action: &str, changed: u64) {
        let mut out = io::stderr().lock();
        // Nobody looks if it cannot be written.
        let _ = match self {
            Self::Hidden => Ok(()),
            Self::Redrawn => write!(out, "\r{action}: {changed} so far").and_then(|()| out.flush()),
            Self::Lines => writeln!(out, "{action}: {changed} so far"),
        };
    }

    fn end(&self) {
        if matches!(self, Self::Redrawn) {
            // Back to the beginning of a line that is empty.
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
