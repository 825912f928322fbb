//! Plays a script with a peer, whatever is behind it.

use std::future::Future;
use std::io;
use std::time::Duration;

use super::{Case, ScriptError, Step, StepKind};

/// What the server did when a line of it was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line, without its CRLF.
    Line(String),
    /// It waits for us.
    Nothing,
    /// It has closed.
    Closed,
}

/// The client's end of a conversation.
pub trait Peer {
    /// Writes.
    ///
    /// # Errors
    /// The connection broke. That the server has closed shows at the next line.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// The next line of the server.
    ///
    /// # Errors
    /// The connection broke, or what came is no line.
    fn line(&mut self) -> impl Future<Output = io::Result<Said>>;

    /// Performs the TLS handshake.
    ///
    /// # Errors
    /// It failed.
    fn handshake(&mut self) -> impl Future<Output = io::Result<()>>;

    /// Closes our side.
    ///
    /// # Errors
    /// The connection broke.
    fn leave(&mut self) -> impl Future<Output = io::Result<()>>;

    /// Whether the server says nothing, and has not closed.
    ///
    /// # Errors
    /// The connection broke.
    fn waits(&mut self) -> impl Future<Output = io::Result<bool>>;

    /// Lets time pass.
    fn pass(&mut self, time: Duration) -> impl Future<Output = ()>;

    /// The messages kept since the last call; `None` where that cannot be known.
    fn kept(&mut self) -> Option<Vec<Vec<u8>>>;
}

/// Plays `case`.
///
/// # Errors
/// [`ScriptError`], at the first step that went another way, with what was said until then.
pub async fn play(case: &Case, peer: &mut impl Peer) -> Result<(), ScriptError> {
    let mut scene = Scene { peer, said: Vec::new(), reply: Vec::new(), kept: Vec::new() };
    for step in &case.steps {
        if let Err(reason) = scene.step(step).await {
            let said = scene.said.join("\n    ");
            let reason = format!("{reason}\n  the conversation:\n    {said}");
            return Err(case.fails(step.line, reason));
        }
    }
    Ok(())
}

struct Scene<'a, P> {
    peer: &'a mut P,
    said: Vec<String>,
    /// The lines of the last reply that was read whole.
    reply: Vec<String>,
    /// Messages kept and not yet named.
    kept: Vec<Vec<u8>>,
}

impl<P: Peer> Scene<'_, P> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.kind {
            StepKind::Write(bytes) => {
                let shown = &bytes[..bytes.len().min(120)];
                self.said.push(format!("C: {}", shown.escape_ascii()));
                broken(self.peer.write(bytes).await)
            }
            StepKind::Leave => broken(self.peer.leave().await),
            StepKind::Handshake => broken(self.peer.handshake().await),
            StepKind::Pass(time) => {
                self.peer.pass(*time).await;
                Ok(())
            }
            StepKind::Lines(count, pattern) => {
                for _ in 0..*count {
                    match self.line().await? {
                        Said::Line(line) if pattern.matches(&line) => {}
                        other => {
                            return Err(format!("`{pattern}` was expected, not {}", told(&other)));
                        }
                    }
                }
                Ok(())
            }
            StepKind::Reply(code) => self.whole_reply(code).await,
            StepKind::Has(pattern) if self.reply.iter().any(|line| pattern.matches(line)) => Ok(()),
            StepKind::Has(pattern) => Err(format!("no line of the reply is `{pattern}`")),
            StepKind::Lacks(pattern) => {
                match self.reply.iter().find(|line| pattern.matches(line)) {
                    None => Ok(()),
                    Some(line) => Err(format!("the reply has `{line}`")),
                }
            }
            StepKind::Closed => match self.line().await? {
                Said::Closed => Ok(()),
                other => Err(format!("a close was expected, not {}", told(&other))),
            },
            StepKind::Waits => match self.peer.waits().await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    Err(format!("silence was expected, not {}", told(&self.line().await?)))
                }
                Err(error) => Err(error.to_string()),
            },
            StepKind::Kept(expected) => self.message(expected),
            StepKind::NoneKept => {
                self.kept.extend(self.peer.kept().unwrap_or_default());
                match self.kept.first() {
                    None => Ok(()),
                    Some(kept) => Err(format!("a message was kept: {}", kept.escape_ascii())),
                }
            }
        }
    }

    async fn line(&mut self) -> Result<Said, String> {
        let said = self.peer.line().await.map_err(|error| error.to_string())?;
        self.said.push(format!("S: {}", told(&said)));
        Ok(said)
    }

    async fn whole_reply(&mut self, code: &str) -> Result<(), String> {
        self.reply.clear();
        loop {
            let line = match self.line().await? {
                Said::Line(line) => line,
                other => return Err(format!("a reply {code} was expected, not {}", told(&other))),
            };
            let text = line
                .strip_prefix(code)
                .ok_or_else(|| format!("a reply {code} was expected, not `{line}`"))?;
            self.reply.push(text.get(1..).unwrap_or_default().to_owned());
            match text.as_bytes().first() {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(()),
                Some(_) => return Err(format!("`{line}` is no line of a reply")),
            }
        }
    }

    fn message(&mut self, expected: &[u8]) -> Result<(), String> {
        let Some(kept) = self.peer.kept() else { return Ok(()) };
        self.kept.extend(kept);
        if self.kept.is_empty() {
            return Err("no message was kept".to_owned());
        }
        let first = self.kept.remove(0);
        if first == expected {
            return Ok(());
        }
        Err(format!("another message was kept: {}", first.escape_ascii()))
    }
}

fn broken(result: io::Result<()>) -> Result<(), String> {
    result.map_err(|error| format!("the connection broke: {error}"))
}

fn told(said: &Said) -> String {
    match said {
        Said::Line(line) => format!("`{line}`"),
        Said::Nothing => "silence".to_owned(),
        Said::Closed => "a close".to_owned(),
    }
}
