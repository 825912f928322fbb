//! The generator: closed loop, each connection as fast as it is answered, or open loop, at a rate
//! of its own.

use std::cell::{Cell, RefCell};
use std::io::{Write as _, stdout};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::task::LocalSet;

use super::SendArgs;
use super::client::{Client, Dial, Failure, plain};
use super::figures::Figures;
use super::message::Template;

/// Idle connections that are opened at once.
const OPENING: usize = 50;
/// How many times in a row connections may fail before the run ends.
const PATIENCE: u32 = 20;

/// What the connections of a run share.
struct Run {
    dial: Dial,
    template: Template,
    next: Cell<u64>,
    messages: u64,
    until: Option<Instant>,
    rate: Option<u64>,
    new_connections: bool,
    begun: Instant,
    figures: RefCell<Figures>,
    /// Failures since the last success.
    failed: Cell<u32>,
}

pub(super) async fn run(args: &SendArgs) -> anyhow::Result<()> {
    let dial = dial(args)?;
    let messages = match (args.messages, args.seconds) {
        (None, None) => 1_000,
        (messages, _) => messages.unwrap_or(u64::MAX),
    };
    LocalSet::new()
        .run_until(async {
            let idle = open_idle(&dial, args.idle as usize).await?;
            if args.hold {
                writeln!(stdout(), "{}", serde_json::json!({ "idle": idle.len() }))?;
                let mut nothing = Vec::new();
                tokio::io::stdin().read_to_end(&mut nothing).await?;
                return Ok(());
            }
            let connections = u64::from(args.connections).min(messages);
            // Connections that are kept are no part of what a message takes. One that does not
            // open now is tried again at its turn.
            let kept = if args.new_connections { 0 } else { connections };
            let kept = join_all((0..kept).map(|_| Client::connect(&dial))).await;
            let begun = Instant::now();
            let run = Rc::new(Run {
                dial,
                template: Template::new(&args.from, &args.rcpt, args.size),
                next: Cell::new(0),
                messages,
                until: args.seconds.map(|seconds| begun + Duration::from_secs(seconds)),
                rate: args.rate,
                new_connections: args.new_connections,
                begun,
                figures: RefCell::new(Figures::new(!args.reused_ids)),
                failed: Cell::new(0),
            });
            let clients = kept.into_iter().map(Result::ok).chain(std::iter::repeat_with(|| None));
            let tasks: Vec<_> = clients
                .take(connections as usize)
                .map(|client| tokio::task::spawn_local(work(run.clone(), client)))
                .collect();
            for task in tasks {
                task.await??;
            }
            let took = begun.elapsed();
            let figures = run.figures.borrow();
            if args.json {
                writeln!(stdout(), "{}", figures.json(took, idle.len()))?;
            } else {
                writeln!(stdout(), "{}", figures.text(took))?;
            }
            if figures.repeated() > 0 {
                bail!("{} messages were taken for repetitions of others", figures.repeated());
            }
            Ok(())
        })
        .await
}

fn dial(args: &SendArgs) -> anyhow::Result<Dial> {
    let tls = match args.tls {
        None => None,
        Some(kind) => {
            let name = match &args.server_name {
                Some(name) => ServerName::try_from(name.clone()).context("--server-name")?,
                None => ServerName::IpAddress(args.to.ip().into()),
            };
            Some((kind, Arc::new(tls(args)?), name))
        }
    };
    let auth = match (&args.auth, &args.password_file) {
        (Some(login), Some(file)) => {
            let password = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Some(plain(login, password.trim_end_matches(['\r', '\n'])))
        }
        _ => None,
    };
    Ok(Dial { to: args.to, tls, auth, pipelining: !args.no_pipelining })
}

fn tls(args: &SendArgs) -> anyhow::Result<rustls::ClientConfig> {
    let file = args.ca.as_ref().context("say which certificates are good: --ca FILE")?;
    let read = || format!("cannot read {}", file.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
        roots.add(certificate.with_context(read)?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn open_idle(dial: &Dial, count: usize) -> anyhow::Result<Vec<Client>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let step = OPENING.min(count - open.len());
        let opening = (0..step).map(|_| Client::connect(dial));
        for client in join_all(opening).await {
            match client {
                Ok(client) => open.push(client),
                Err(failure) => {
                    bail!("after {} idle connections: {}", open.len(), failure.text())
                }
            }
        }
    }
    Ok(open)
}

/// One connection's work, or one after another's.
async fn work(run: Rc<Run>, mut client: Option<Client>) -> anyhow::Result<()> {
    while let Some((number, mut from)) = run.take().await {
        let message = run.template.message(number);
        if run.rate.is_none() && client.is_none() && !run.new_connections {
            // One that was lost is opened anew before the next message's time begins.
            client = run.connect().await?;
            from = Instant::now();
        }
        let sent = match &mut client {
            Some(client) => client.send(&message).await,
            None => match Client::connect(&run.dial).await {
                Ok(new) => client.insert(new).send(&message).await,
                Err(failure) => Err(failure),
            },
        };
        let took = from.elapsed();
        match sent {
            Ok(reply) => {
                run.failed.set(0);
                run.figures.borrow_mut().sent(took, &reply);
            }
            Err(failure) => {
                run.figures.borrow_mut().failed(failure.text());
                if let Failure::Broken(text) = failure {
                    client = None;
                    run.be_patient(&text)?;
                }
            }
        }
        if run.new_connections
            && let Some(client) = client.take()
        {
            client.quit().await;
        }
    }
    if let Some(client) = client {
        client.quit().await;
    }
    Ok(())
}

impl Run {
    /// The number of the next message, and the moment its time counts from.
    async fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.get();
        if number >= self.messages {
            return None;
        }
        self.next.set(number + 1);
        let from = match self.rate {
            None => Instant::now(),
            Some(rate) => {
                let due = self.begun + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        self.until.is_none_or(|until| from < until).then_some((number, from))
    }

    async fn connect(&self) -> anyhow::Result<Option<Client>> {
        match Client::connect(&self.dial).await {
            Ok(client) => Ok(Some(client)),
            Err(failure) => {
                self.be_patient(failure.text())?;
                Ok(None)
            }
        }
    }

    fn be_patient(&self, why: &str) -> anyhow::Result<()> {
        self.failed.set(self.failed.get() + 1);
        if self.failed.get() >= PATIENCE {
            bail!("{}: {PATIENCE} failures in a row, the last: {why}", self.dial.to);
        }
        Ok(())
    }
}
