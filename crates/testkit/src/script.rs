//! Conversations as data: one script runs against the pure machine, the driver over a pipe in
//! memory, and a real server over TCP.
//!
//! A file holds one case or several, each begun by a `===` line with its title; what stands
//! before the first title holds for all cases of the file. A line is one of:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a comment |
//! | `profile mx` | whom the peer speaks with: see [`Profile`] |
//! | `set NAME VALUE` | changes the session's configuration: see [`Setting`] |
//! | `? STAGE SUBJECT -> VERDICT` | a rule: see [`Rule`] |
//! | `whole` | the pieces in which the peer writes matter: they are not cut further |
//! | `on machine driver server` | only these runners |
//! | `C: line` | the peer writes a line |
//! | `C! bytes` | the peer writes these bytes, no line end added |
//! | `C* 5000 bytes` | the peer writes these bytes that often |
//! | `C. closed` | the peer goes |
//! | `C. handshake` | the peer performs the TLS handshake |
//! | `S: pattern` | the next line of the server |
//! | `S= 5 pattern` | that often |
//! | `S* 250` | a whole reply with this code |
//! | `S+ pattern` | a line of that reply is this |
//! | `S- pattern` | no line of that reply is this |
//! | `S. closed` | the server goes |
//! | `S. waits` | the server says nothing, and stays |
//! | `M! bytes` | the next message that was kept is this, octet for octet |
//! | `M. none` | no message was kept but those named |
//! | `+ 301s` | time passes |
//!
//! In a pattern `*` is any text. Bytes are written as in Rust: `\r \n \t \0 \\ \x8f`; other
//! characters are UTF-8.

mod certificate;
mod driver;
mod fixture;
mod machine;
mod parse;
mod play;
mod rules;
mod server;
mod text;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::driver::DriverRunner;
pub use self::machine::run_machine;
pub use self::play::{Peer, Said, play};
pub use self::rules::{Profile, Rule, Ruled, Setting, SettingError, Setup, Stage};
pub use self::server::ServerRunner;
pub use self::wire::StreamPeer;

use self::text::Pattern;

/// One conversation.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file it stands in.
    pub path: PathBuf,
    /// Its title, or the file's name.
    pub title: String,
    /// Whom the peer speaks with.
    pub setup: Setup,
    /// Whether the peer's pieces may be cut.
    pub cutting: Cutting,
    /// Where it can run.
    pub runners: Vec<Runner>,
    steps: Vec<Step>,
}

/// Whether the pieces in which the peer writes may be cut further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cutting {
    /// It makes no difference.
    Free,
    /// What arrives together matters.
    Whole,
}

/// What a script runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The session machine alone.
    Machine,
    /// The driver, over a pipe in memory, with real TLS.
    Driver,
    /// A server over TCP.
    Server,
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    kind: StepKind,
}

#[derive(Clone, Debug)]
enum StepKind {
    Write(Vec<u8>),
    Leave,
    Handshake,
    Lines(usize, Pattern),
    Reply(String),
    Has(Pattern),
    Lacks(Pattern),
    Closed,
    Waits,
    Kept(Vec<u8>),
    NoneKept,
    Pass(Duration),
}

impl Case {
    /// Reads the cases of a file's text.
    ///
    /// # Errors
    /// [`ScriptError`], at the first line that cannot be read.
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Self>, ScriptError> {
        parse::cases(path, text)
    }

    /// Reads all scripts of a directory, in the order of their names.
    ///
    /// # Errors
    /// What the system said, or [`ScriptError`].
    pub fn load(directory: &Path) -> Result<Vec<Self>, Box<dyn std::error::Error + Send + Sync>> {
        let entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
        let mut paths: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
        paths.sort();
        let mut cases = Vec::new();
        for path in paths {
            cases.extend(Self::parse(&path, &std::fs::read_to_string(&path)?)?);
        }
        Ok(cases)
    }

    /// Whether it can run there: a server of which nothing is known but its address obeys no
    /// rules and no clock.
    #[must_use]
    pub fn runs_on(&self, runner: Runner) -> bool {
        let needs_control = || {
            let timed = |step: &Step| matches!(step.kind, StepKind::Pass(_) | StepKind::Waits);
            !self.setup.is_plain() || self.steps.iter().any(timed)
        };
        self.runners.contains(&runner) && (runner != Runner::Server || !needs_control())
    }

    fn fails(&self, line: usize, reason: String) -> ScriptError {
        ScriptError { path: self.path.clone(), line, title: self.title.clone(), reason }
    }
}

/// A script that cannot be read, or whose conversation went another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The file.
    pub path: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The case.
    pub title: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({}): {}", self.path.display(), self.line, self.title, self.reason)
    }
}

impl std::error::Error for ScriptError {}

#[cfg(test)]
mod tests;
