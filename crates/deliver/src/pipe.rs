//! Delivery to a program: run once for each recipient, the message on its standard input.
//!
//! There is no shell, and nothing of a message is ever a command: addresses are arguments of their
//! own, and one that would look like an option is not handed over. The environment is empty but
//! for `PATH` and what the message is about.

mod argv;
mod exit;

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use merpati_plugin::deliver::{DeferClass, DeliveryOutcome, DeliveryResult, Handover};
use merpati_plugin::spool::{Parcel, SpoolError};
use merpati_plugin::{Deliverer, Job, async_trait};
use merpati_types::{Recipient, Severity, Status};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

pub use argv::{Argument, ArgumentError, Argv, ArgvError};

use crate::line_ending::{Converter, LineEnding};
use crate::said::readable;
use crate::trace::trace;
use argv::{Given, Values};

/// How much of what a program says is kept.
const SAID: usize = 4_096;
/// Where programs are looked for by the program itself.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a pipe transport needs to know.
#[derive(Clone, Debug)]
pub struct PipeConfig {
    /// The transport's name.
    pub name: String,
    /// The program and its arguments.
    pub argv: Argv,
    /// Where it runs.
    pub directory: PathBuf,
    /// How long it may take.
    pub time_limit: Duration,
    /// Line ends in what it reads.
    pub line_ending: LineEnding,
}

/// Hands messages to a program.
#[derive(Clone, Debug)]
pub struct Pipe(Arc<PipeConfig>);

impl Pipe {
    /// A transport with this configuration.
    #[must_use]
    pub fn new(config: PipeConfig) -> Self {
        Self(Arc::new(config))
    }

    async fn hand_over(&self, job: &Job, recipient: &Recipient) -> DeliveryOutcome {
        let values = Values::of(job, recipient);
        let arguments = match self.0.argv.fill(&values) {
            Ok(arguments) => arguments,
            Err(Given { argument }) => {
                tracing::info!(id = %job.parcel.id, argument, "an address looks like an option");
                let status = Status::BAD_RECIPIENT_SYNTAX.with(Severity::Permanent);
                let text = "the address cannot be handed to a program".to_owned();
                return outcome(DeliveryResult::Failed { status }, text);
            }
        };
        let child = match self.start(&arguments, &values) {
            Ok(child) => child,
            Err(error) => {
                let program = self.0.argv.program();
                tracing::error!(id = %job.parcel.id, program, %error, "cannot run the program");
                return deferred(Status::MISCONFIGURED, "the program cannot be run");
            }
        };
        // It leads a group of its own, with its id.
        let group = child.id();
        let ended = tokio::time::timeout(self.0.time_limit, self.talk(child, job, recipient)).await;
        match ended {
            Ok(Ok(ended)) => exit::outcome(self.0.argv.program(), ended),
            Ok(Err(error)) => {
                kill(group);
                tracing::warn!(id = %job.parcel.id, %error, "a program was not served");
                deferred(Status::SYSTEM, "the message cannot be handed over now")
            }
            Err(_) => {
                kill(group);
                tracing::warn!(id = %job.parcel.id, "a program takes too long, and was killed");
                deferred(Status::SYSTEM, "the program takes too long")
            }
        }
    }

    fn start(&self, arguments: &[String], values: &Values<'_>) -> io::Result<Child> {
        Command::new(self.0.argv.program())
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(values.environment())
            .current_dir(&self.0.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Feeds a program, hears what it says, and waits for its end.
    async fn talk(
        &self,
        mut child: Child,
        job: &Job,
        recipient: &Recipient,
    ) -> Result<Ended, Trouble> {
        let stdin = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (fed, out, err) = tokio::join!(self.feed(stdin, job, recipient), hear(out), hear(err));
        fed?;
        let status = child.wait().await?;
        // What it complains of tells more than what it prints.
        let said = if err.is_empty() { out } else { err };
        Ok(Ended { status, said: readable(&said) })
    }

    async fn feed(
        &self,
        stdin: Option<ChildStdin>,
        job: &Job,
        recipient: &Recipient,
    ) -> Result<(), Trouble> {
        let Some(mut stdin) = stdin else { return Ok(()) };
        let mut converter = Converter::new(self.0.line_ending);
        let mut out = BytesMut::new();
        converter.convert(&trace(job, recipient), &mut out);
        let mut reader = job.message.open().await?;
        loop {
            let piece = reader.next().await?;
            match &piece {
                Some(piece) => converter.convert(piece, &mut out),
                None => converter.finish(&mut out),
            }
            match stdin.write_all(&out).await {
                // It has read as much as it wants; its status says what it makes of that.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
            out.clear();
            if piece.is_none() {
                stdin.shutdown().await?;
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Deliverer for Pipe {
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Whatever the domain, it is one program.
    async fn site(&self, _: &Parcel) -> Result<Arc<str>, DeliveryOutcome> {
        Ok(self.0.argv.program().into())
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let mut outcomes = Vec::with_capacity(job.parcel.pending.len());
        for (_, recipient) in job.parcel.recipients() {
            outcomes.push(self.hand_over(&job, recipient).await);
        }
        outcomes
    }
}

/// How a program ended, and what it said.
struct Ended {
    status: std::process::ExitStatus,
    said: String,
}

/// Why a program was not served to its end.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot read the message: {0}")]
    Spool(#[from] SpoolError),
}

/// Ends a program and all that it has started.
fn kill(group: Option<u32>) {
    let group = group.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        // It may have ended meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Reads to the end, and keeps the beginning: a program that is not listened to would wait.
async fn hear(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let mut said = Vec::new();
    let mut piece = [0; SAID];
    while let Ok(count) = stream.read(&mut piece).await {
        if count == 0 {
            break;
        }
        let room = SAID.saturating_sub(said.len());
        said.extend_from_slice(&piece[..count.min(room)]);
    }
    said
}

fn outcome(result: DeliveryResult, diagnostic: String) -> DeliveryOutcome {
    DeliveryOutcome { result, remote: None, source: None, diagnostic }
}

fn deferred(status: Status, text: &str) -> DeliveryOutcome {
    let (status, class) = (status.with(Severity::Transient), DeferClass::Local);
    outcome(DeliveryResult::Deferred { status, class }, text.to_owned())
}

fn delivered(text: String) -> DeliveryOutcome {
    outcome(DeliveryResult::Delivered(Handover::Final), text)
}

#[cfg(test)]
mod tests;
